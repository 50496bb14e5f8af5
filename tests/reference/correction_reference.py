#!/usr/bin/env python3
"""Independent reference of src/likelihood/correction.c; writes
tests/fixtures/baselines/correction.json.

    python correction_reference.py [--out FOLDER]

Inputs are multiples of 1/64 (exact in f32 and short in decimal). The bias is U b, and what the
weights differ from 1 by U v, in an orthonormal basis of contrasts; the maximum over (log a, b, v)
is scipy's (trust-exact, gradient and Hessian written out, from three starts, the best of them),
polished by Newton steps. The Occam factor is by numpy.linalg.slogdet of the contrasts' Fisher
information.
"""

import argparse
import json
import os

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

SCALES = [0.1, 0.3, 1, 3, 10]
SPREADS = [0.1, 0.3, 1]
WEIGHED = [0.3, 3]  # scales of biases beside which weights are fitted


def parts(theta, f, y, basis):
    """Negative log likelihood, its gradient, Hessian, and Fisher information, over the logarithm of
    what f is multiplied by and the coefficients of basis[n, C, k]."""
    n, a = len(y), np.exp(theta[0])
    z = a * f + basis @ theta[1:]
    p = scipy.special.softmax(z, axis=1)
    nll = (scipy.special.logsumexp(z, axis=1) - z[np.arange(n), y]).sum()
    residual = p.copy()
    residual[np.arange(n), y] -= 1
    # d z / d theta of every row: [n, C, 1 + m]
    jacobian = np.concatenate([(a * f)[:, :, None], basis], axis=2)
    gradient = np.einsum("ic,ick->k", residual, jacobian)
    fisher = np.einsum("ic,ick,icl->kl", p, jacobian, jacobian)
    mean = np.einsum("ic,ick->ik", p, jacobian)
    fisher -= np.einsum("ik,il->kl", mean, mean)
    hessian = fisher.copy()
    hessian[0, 0] += gradient[0]  # d^2 z / d (log a)^2 = a f
    return nll, gradient, hessian, fisher


def maximum(f, y, basis, prior):
    """theta, log likelihood, log Occam factor under the precisions of the prior, and the share of
    the first C - 1 coefficients that is determined."""

    def value(x):
        return parts(x, f, y, basis)[0] + 0.5 * (prior * x * x).sum()

    def gradient(x):
        return parts(x, f, y, basis)[1] + prior * x

    def hessian(x):
        return parts(x, f, y, basis)[2] + np.diag(prior)

    found = []
    for start in (-2.0, 0.0, 2.0):
        x = np.zeros(len(prior))
        x[0] = start
        x = scipy.optimize.minimize(value, x, jac=gradient, hess=hessian, method="trust-exact",
                                    options={"gtol": 1e-9, "maxiter": 10000}).x
        for _ in range(3):
            x = x - np.linalg.solve(hessian(x), gradient(x))
        assert np.abs(gradient(x)).max() < 1e-9 * len(y), np.abs(gradient(x)).max()
        found.append(x)
    x = min(found, key=value)
    nll, _, _, fisher = parts(x, f, y, basis)
    inner = fisher[1:, 1:]
    if fisher[0, 0] > 0:
        inner = inner - np.outer(fisher[1:, 0], fisher[1:, 0]) / fisher[0, 0]
    root = 1 / np.sqrt(prior[1:])
    sign, log_det = np.linalg.slogdet(np.eye(len(root)) + np.outer(root, root) * inner)
    assert sign == 1
    inverse = np.linalg.inv(np.eye(len(root)) + np.outer(root, root) * inner)
    determined = 1 - np.diag(inverse)[:f.shape[1] - 1].mean()
    return x, -nll, -0.5 * (prior[1:] * x[1:] ** 2).sum() - log_det / 2, determined


def fit(f, y, s):
    n, c = f.shape
    u = scipy.linalg.null_space(np.ones((1, c)))
    x, likelihood, occam, determined = maximum(
        f, y, np.broadcast_to(u, (n,) + u.shape),
        np.concatenate([[0.25], np.full(c - 1, 1 / s**2)]))
    a = np.exp(x[0])
    return {"scale": s, "temperature": 1 / a, "bias": (u @ x[1:] / a).tolist(),
            "log_likelihood": likelihood, "log_occam": occam, "determined": determined}


def fit_weights(f, y, s, t):
    n, c = f.shape
    u = scipy.linalg.null_space(np.ones((1, c)))
    unit = 1 / fit(f, y, s)["temperature"]
    centred = f - f.mean(1, keepdims=True)
    basis = np.concatenate([np.broadcast_to(u, (n,) + u.shape), unit * centred[:, :, None] * u],
                           axis=2)
    prior = np.concatenate([[0.25], np.full(c - 1, 1 / s**2), np.full(c - 1, 1 / t**2)])
    x, likelihood, occam, determined = maximum(f, y, basis, prior)
    a = np.exp(x[0])
    return {"scale": s, "spread": t, "temperature": 1 / a, "bias": (u @ x[1:c] / a).tolist(),
            "weight": (1 + unit / a * (u @ x[c:])).tolist(),
            "log_likelihood": likelihood, "log_occam": occam, "determined": determined}


def case(rng, name, n, c, sharp, skill, bias=0.0, drop=None, all_right=False, flat=False,
         only=None):
    y = rng.integers(0, c, n)
    if drop is not None:
        y[y == drop] = (drop + 1) % c
    if only is not None:
        y[:] = only
    f = rng.normal(size=(n, c))
    f[np.arange(n), y] += skill
    f = sharp * (f + bias * rng.normal(size=c))
    f = np.zeros((n, c)) if flat else np.round(f * 64) / 64
    if all_right:
        y = f.argmax(1)
    return {"name": name, "n_classes": c, "logits": f.tolist(), "labels": y.tolist(),
            "fits": [fit(f, y, s) for s in SCALES],
            "weights": [fit_weights(f, y, s, t) for s in WEIGHED for t in SPREADS if c > 2]}


def cases():
    rng = np.random.default_rng(21)
    return [
        case(rng, "biased classes", 80, 4, 1.0, 1.5, bias=1.5),
        case(rng, "over-confident, biased", 60, 3, 6.0, 1.0, bias=1.0),
        case(rng, "two classes", 50, 2, 2.0, 1.5, bias=0.5),
        case(rng, "hardly trained", 60, 5, 0.1, 0.5, bias=2.0),
        case(rng, "a class without rows", 50, 4, 1.5, 1.5, bias=0.5, drop=2),
        case(rng, "separable", 30, 3, 1.0, 3.0, all_right=True),
        case(rng, "worse than uniform", 40, 3, 1.0, -2.0),
        case(rng, "one class", 20, 3, 1.0, 1.0, only=1),
        case(rng, "two rows", 2, 3, 1.0, 0.5),
        case(rng, "one row", 1, 4, 1.0, 0.0),
        case(rng, "equal logits", 30, 3, 1.0, 0.0, flat=True),
        case(rng, "large logits", 50, 3, 30.0, 1.0, bias=0.5),
    ]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=os.path.join(here, "../fixtures/baselines"))
    out = parser.parse_args().out
    with open(os.path.join(out, "correction.json"), "w") as stream:
        stream.write("[" + ",\n".join(json.dumps(c) for c in cases()) + "]\n")


if __name__ == "__main__":
    main()

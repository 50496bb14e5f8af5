#!/usr/bin/env python3
"""Class shares of unlabelled rows in numpy; writes tests/fixtures/likelihood/shares.json.

    python shares_reference.py [--out FILE]

The mode under each strength of the prior is found by Newton's method in the softmax coordinates
of the shares, not by EM, and the evidence from the determinant of the same second derivative, which
is taken by its definition. Rows are random numbers.
"""
import argparse
import json
import math
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
STRENGTHS = (2048.0, 512.0, 128.0, 32.0, 8.0)
COUNTED = 20  # rows that all together count as at most, where held-out rows have told nothing


def objective(a, ratio, weight, reference, strength):
    """log posterior of softmax coordinates a, its gradient, and its second derivative."""
    p = np.exp(a - a.max())
    p /= p.sum()
    sums = ratio @ p
    q = ratio * p / sums[:, None]
    n = weight.sum()
    value = weight @ np.log(sums) + strength * reference @ np.log(p)
    gradient = weight @ q - n * p + strength * (reference - p)
    second = np.zeros((len(p), len(p)))
    for w, row in zip(weight, q):
        second += w * (np.diag(row) - np.outer(row, row))
    second -= (n + strength) * (np.diag(p) - np.outer(p, p))
    return value, gradient, second, p


def average(ratio, weight, reference):
    """Mean shares over the strengths by evidence, and their covariance."""
    c = len(reference)
    # an orthonormal basis of what sums to 0
    basis = np.linalg.svd(np.eye(c) - 1 / c)[0][:, :c - 1]
    shares, covs, evidence = [], [], []
    for strength in STRENGTHS:
        a = np.log(reference)
        for _ in range(200):
            value, gradient, second, _ = objective(a, ratio, weight, reference, strength)
            h = -basis.T @ second @ basis
            values, vectors = np.linalg.eigh(h)
            move = basis @ (vectors @ ((vectors.T @ (basis.T @ gradient)) /
                                       np.maximum(np.abs(values), 1e-9)))
            t = 1.0
            lowest = value - 1e-12
            while (objective(a + t * move, ratio, weight, reference, strength)[0] < lowest and
                   t > 1e-10):
                t /= 2
            a = a + t * move
            if np.abs(t * move).max() < 1e-13:
                break
        value, gradient, second, p = objective(a, ratio, weight, reference, strength)
        assert np.abs(basis.T @ gradient).max() < 1e-8, gradient
        h = -basis.T @ second @ basis
        dirichlet = math.lgamma(strength) - sum(math.lgamma(strength * r) for r in reference)
        evidence.append(value + dirichlet + 0.5 * math.log(c) +
                        (c - 1) / 2 * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(h)[1] -
                        math.log(len(STRENGTHS)))
        j = np.diag(p) - np.outer(p, p)
        covs.append(j @ basis @ np.linalg.inv(h) @ basis.T @ j)
        shares.append(p)
    shares.append(reference)
    covs.append(np.zeros((c, c)))
    evidence.append(weight @ np.log(ratio @ reference))
    of_each = np.exp(np.array(evidence) - max(evidence))
    of_each /= of_each.sum()
    mean = sum(w * p for w, p in zip(of_each, shares))
    cov = sum(w * (v + np.outer(p - mean, p - mean)) for w, v, p in zip(of_each, covs, shares))
    return mean, cov


def answered(probs, sums, kept):
    """Mean shares and covariance by the answers of held-out rows, and the latter's shares."""
    c, n = len(sums), len(probs)
    m = sums.sum(0) / sums.sum()
    more = c * m[kept] / m[kept].sum()
    told = sums.sum(1) + more
    matrix = (sums + np.outer(more, m)) / told[:, None]
    reference = told / told.sum()
    mean = reference
    for _ in range(2):
        counted = 1 / (1 / n + (mean ** 2 / told).sum())
        mean, cov = average(matrix.T, counted * probs.mean(0), reference)
    return mean, cov, reference


def estimate(probs, training, means, answers):
    kept = [c for c in range(len(training)) if training[c] > 0 and means[c] > 0]
    training = training[kept] / training[kept].sum()
    if answers is None:
        reference = means[kept] / means[kept].sum()
        n = len(probs)
        mean, cov = average(probs[:, kept] / reference, np.full(n, min(1, COUNTED / n)), reference)
    else:
        mean, cov, reference = answered(probs, answers[kept], kept)
    # shares of labels, and their errors by a numerical derivative
    labels = lambda p: p * training / reference / (p * training / reference).sum()
    derivative = np.array([(labels(mean + 1e-6 * e) - labels(mean - 1e-6 * e)) / 2e-6
                           for e in np.eye(len(kept))]).T
    out, errors = np.zeros(probs.shape[1]), [None] * probs.shape[1]
    out[kept] = labels(mean)
    for k, v in zip(kept, np.diag(derivative @ cov @ derivative.T)):
        errors[k] = math.sqrt(max(v, 0))
    return out, errors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "fixtures", "likelihood",
                                                      "shares.json"))
    out = parser.parse_args().out
    rng = np.random.default_rng(3)
    cases = []
    # held: rows by which it is told what is answered
    for classes, n, absent, biased, held in ((2, 1, False, False, 0), (2, 40, False, True, 0),
                                             (3, 60, False, False, 0), (3, 60, True, True, 0),
                                             (6, 50, False, True, 0), (6, 4, False, False, 0),
                                             (2, 90, False, True, 80), (3, 1, False, False, 9),
                                             (3, 60, True, True, 50), (6, 90, False, True, 40)):
        counts = rng.integers(3, 60, classes).astype(float)
        if absent:
            counts[1] = 0
        means = rng.dirichlet(40 * (counts + 1) / counts.sum()) if biased else counts / counts.sum()
        moved = rng.dirichlet(np.full(classes, 0.7))
        logits = 2.5 * np.eye(classes)[rng.choice(classes, n, p=moved)]
        logits += rng.normal(size=(n, classes))
        probs = np.exp(logits)
        probs = (probs / probs.sum(1, keepdims=True)).astype(np.float32).astype(float)
        answers = None
        if held:  # where one row is in use, the last class has no held-out row
            answers = np.zeros((classes, classes))
            for c in rng.integers(0, classes - (n == 1), held):
                answers[c] += rng.dirichlet(0.3 + 2 * np.eye(classes)[c])
            means = answers.sum(0) / held
        shares, errors = estimate(probs, counts, means, answers)
        cases.append({"classes": classes, "rows": counts.tolist(), "means": means.tolist(),
                      "answers": None if answers is None else answers.ravel().tolist(),
                      "probs": probs.tolist(), "shares": shares.tolist(), "errors": errors})
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()

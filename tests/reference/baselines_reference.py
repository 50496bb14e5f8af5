#!/usr/bin/env python3
"""Independent references of src/baselines; writes
tests/fixtures/baselines/{scaling,scores,mahalanobis,ood,adue}.json.

    python baselines_reference.py [--out FOLDER]

Inputs are multiples of 1/64 (exact in f32 and short in decimal), all sums are float64.

* scaling: the temperature is the root of d NLL / d(1/T) by Brent's method (or the limit, where it
  has none); vector scaling minimises mean NLL + 0.5e-6 (|w - 1|^2 + |b|^2) by scipy's trust-region
  method with gradients and Hessians from torch, polished by Newton steps.
* scores: mpmath with 50 digits; AUROC from scikit-learn (null where it is undefined).
* mahalanobis: scikit-learn's OAS (assume_centered on the rows less their class mean; plain for the
  Gaussian over all rows), distances by numpy.linalg.solve.
* ood: a dense covariance, shrunk and cut by its eigenpairs (numpy.linalg.eigh).
* adue: loss and gradient by torch autograd with torch's own BCE; training with torch.optim.Adam and
  OneCycleLR (all its defaults but those named), on the batches that the counter-based draws
  (Philox4x32-10, written out below) give.
"""

import argparse
import json
import os
import re

import mpmath
import numpy as np
import scipy.optimize
import scipy.special
import sklearn.covariance
import sklearn.metrics
import torch

RIDGE = 1e-6
F64 = torch.float64


def grid(values):
    return np.round(np.asarray(values) * 64) / 64


# ------------------------------------------------------------------------------------------ scaling


def temperature(f, y):
    def slope(a):
        p = scipy.special.softmax(a * f, axis=1)
        return float(np.mean((p * f).sum(1) - f[np.arange(len(y)), y]))

    if slope(100.0) <= 0:
        return 0.01
    if slope(0.01) >= 0:
        return 100.0
    return 1 / scipy.optimize.brentq(slope, 0.01, 100, xtol=1e-15, rtol=1e-15, maxiter=1000)


def vector_scaling(f, y):
    f, y = torch.tensor(f, dtype=F64), torch.tensor(y)
    c = f.shape[1]
    identity = torch.cat([torch.ones(c, dtype=F64), torch.zeros(c, dtype=F64)])

    def objective(theta):
        nll = torch.nn.functional.cross_entropy(f * theta[:c] + theta[c:], y)
        return nll + 0.5 * RIDGE * ((theta - identity) ** 2).sum()

    def of(function):
        return lambda x: function(torch.tensor(x, dtype=F64)).detach().numpy()

    gradient, hessian = of(torch.func.grad(objective)), of(torch.func.hessian(objective))
    x = scipy.optimize.minimize(of(objective), identity.numpy(), jac=gradient, hess=hessian,
                                method="trust-exact", options={"gtol": 1e-10, "maxiter": 10000}).x
    for _ in range(3):
        x = x - np.linalg.solve(hessian(x), gradient(x))
    assert np.abs(gradient(x)).max() < 1e-14, np.abs(gradient(x)).max()
    assert abs(x[c:].sum()) < 1e-7
    # but for the common shift of the biases, which only the ridge holds
    determined = bool(np.linalg.eigvalsh(hessian(x))[1] > 100 * RIDGE)
    return x[:c], x[c:] - x[c:].mean(), determined


def scaling_case(rng, name, n, c, sharp, skill, drop=None, all_right=False):
    y = rng.integers(0, c, n)
    if drop is not None:
        y[y == drop] = (drop + 1) % c
    f = rng.normal(size=(n, c))
    f[np.arange(n), y] += skill
    f = grid(sharp * (f + 0.3 * rng.normal(size=c)))
    if all_right:
        y = f.argmax(1)
    t, (w, b, determined) = temperature(f, y), vector_scaling(f, y)
    return {"name": name, "n_classes": c, "logits": f.tolist(), "labels": y.tolist(),
            "temperature": t, "determined": determined, "scale": w.tolist(),
            "bias": b.tolist(), "by_temperature": scipy.special.softmax(f[:3] / t, axis=1).tolist(),
            "by_vector": scipy.special.softmax(f[:3] * w + b, axis=1).tolist()}


def scaling():
    rng = np.random.default_rng(11)
    return [
        scaling_case(rng, "over-confident", 80, 4, 4.0, 1.0),
        scaling_case(rng, "under-confident", 60, 3, 0.25, 2.0),
        scaling_case(rng, "two classes", 50, 2, 2.0, 1.5),
        scaling_case(rng, "a class without rows", 50, 4, 1.5, 1.5, drop=2),
        scaling_case(rng, "separable", 30, 3, 1.0, 3.0, all_right=True),
        scaling_case(rng, "worse than uniform", 40, 3, 1.0, -2.0),
        scaling_case(rng, "one row", 1, 3, 1.0, 0.0),
        scaling_case(rng, "large logits", 60, 3, 25.0, 1.0),
    ]


# ------------------------------------------------------------------------------------------- scores


def scores():
    mpmath.mp.dps = 50
    rng = np.random.default_rng(12)
    rows = [[0, 0, 0, 0], [1, -2], [30, -20, 0, 5, 1], [-3, -3.5, 80, -3, -90], [1e4, 0, -1e4, 5],
            [700, 700, -700], [-800, -801, -802], [40, 0], [36, 0, 0]]
    rows += [grid(3 * rng.normal(size=int(c))).tolist() for c in rng.integers(2, 9, 8)]
    out = []
    for row in rows:
        e = [mpmath.exp(mpmath.mpf(v) - max(row)) for v in row]
        p = [v / sum(e) for v in e]
        out.append({"logits": row, "max_softmax": float(1 - max(p)),
                    "entropy": float(-sum(v * mpmath.log(v) for v in p)),
                    "energy": float(-(max(row) + mpmath.log(sum(e))))})
    rankings = []
    for n, levels, share in [(40, 0, 0.3), (60, 5, 0.5), (25, 1, 0.4), (30, 3, 0.1), (12, 0, 0),
                             (12, 0, 1), (1, 0, 0)]:
        s = rng.normal(size=n)
        positive = rng.random(n) < share
        s = (grid(s + positive) if not levels
             else np.floor(levels * scipy.special.expit(s + positive)))
        both = 0 < positive.sum() < n
        rankings.append({"score": s.tolist(), "positive": positive.tolist(),
                         "auroc": float(sklearn.metrics.roc_auc_score(positive, s)) if both
                         else None})
    return {"rows": out, "rankings": rankings}


# -------------------------------------------------------------------------------------- mahalanobis


def mahalanobis_case(rng, name, n, d, c, drop=None):
    y = rng.integers(0, c, n)
    if drop is not None:
        y[y == drop] = (drop + 1) % c
    centre = 1.5 * rng.normal(size=(c, d)) + 3
    mix = rng.normal(size=(d, d)) / np.sqrt(d) + np.diag(np.linspace(0.2, 2, d))
    x = grid(centre[y] + rng.normal(size=(n, d)) @ mix)
    test = grid(np.vstack([centre[rng.integers(0, c, 6)] + rng.normal(size=(6, d)) @ mix,
                           3 + 4 * rng.normal(size=(4, d))]))
    present = np.unique(y)
    means = {k: x[y == k].mean(0) for k in present}
    within = sklearn.covariance.OAS(assume_centered=True).fit(x - np.array([means[k] for k in y]))
    whole = sklearn.covariance.OAS().fit(x)

    def distance(rows, cov):
        return (rows * np.linalg.solve(cov, rows.T).T).sum(1)

    score = np.min([distance(test - means[k], within.covariance_) for k in present], axis=0)
    relative = score - distance(test - x.mean(0), whole.covariance_)
    return {"name": name, "n_classes": c, "width": d, "states": x.tolist(), "labels": y.tolist(),
            "test": test.tolist(), "shrinkage": within.shrinkage_,
            "global_shrinkage": whole.shrinkage_, "score": score.tolist(),
            "relative": relative.tolist()}


def mahalanobis():
    rng = np.random.default_rng(13)
    return [
        mahalanobis_case(rng, "more rows than dimensions", 60, 6, 3),
        mahalanobis_case(rng, "fewer rows than dimensions", 14, 24, 3),
        mahalanobis_case(rng, "a class without rows", 30, 5, 4, drop=1),
        mahalanobis_case(rng, "one class", 20, 4, 1),
    ]


# ---------------------------------------------------------------------------------------------- ood


def ood_case(rng, name, n, d, c, labelled=True, alone=False):
    """Distances by a dense covariance, cut by numpy.linalg.eigh; groups as src/baselines/ood.h."""
    y = rng.integers(0, c, n)
    if alone:
        y[y >= c - 2] = 0
        y[:2] = [c - 1, c - 2]
    centre = 1.5 * rng.normal(size=(c, d)) + 3
    mix = rng.normal(size=(d, d)) / np.sqrt(d) + np.diag(np.linspace(0.02, 2, d))
    x = grid(centre[y] + rng.normal(size=(n, d)) @ mix)
    test = grid(np.vstack([centre[rng.integers(0, c, 6)] + rng.normal(size=(6, d)) @ mix,
                           3 + 4 * rng.normal(size=(4, d))]))
    sizes = np.bincount(y, minlength=c)
    group = np.where(sizes[y] == 1, -1, y) if labelled else np.zeros(n, int)
    means = {g: x[group == g].mean(0) for g in np.unique(group)}
    z = x - np.array([means[g] for g in group])
    s = z.T @ z / n
    v = np.trace(s) / d
    excess = (s * s).sum() - v * np.trace(s)
    r = min(1, ((s * s).sum() + np.trace(s) ** 2) / ((n + 1) * excess))
    w, u = np.linalg.eigh((1 - r) * s + r * v * np.eye(d))
    w, u = w[::-1].copy(), u[:, ::-1]
    k = min(d - 1, int((np.cumsum(w) / w.sum() < 0.99).sum()) + 1, int((w > r * v + 1e-9).sum()))
    w[k:] = w[k:].mean()
    inverse = (u / w) @ u.T
    score = np.min([((test - m) @ inverse * (test - m)).sum(1) for m in means.values()], axis=0)
    return {"name": name, "n_classes": c, "width": d, "labelled": labelled, "states": x.tolist(),
            "labels": y.tolist(), "test": test.tolist(), "groups": len(means), "rank": k,
            "rest": w[-1], "distance": score.tolist()}


def ood():
    rng = np.random.default_rng(29)
    return [
        ood_case(rng, "more rows than dimensions", 60, 6, 3),
        ood_case(rng, "many more", 400, 12, 4),
        ood_case(rng, "fewer rows than dimensions", 14, 24, 3),
        ood_case(rng, "classes with one row", 30, 5, 5, alone=True),
        ood_case(rng, "no classes", 40, 8, 2, labelled=False),
    ]


# --------------------------------------------------------------------------------------------- adue


def philox(seed, stream, position):
    """The first two words of Philox4x32-10, as la_random_below reads them."""
    m0, m1, w0, w1, mask = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85, 0xFFFFFFFF
    c = [position & mask, position >> 32, stream & mask, stream >> 32]
    k = [seed & mask, seed >> 32]
    for _ in range(10):
        a, b = m0 * c[0], m1 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + w0) & mask, (k[1] + w1) & mask]
    return (c[0] << 32) | c[1]


assert philox(0, 0, 0) == 0x6627E8D5E169C58D  # the known answer of Random123


class Head(torch.nn.Module):
    def __init__(self, weight, bias, smooth):
        super().__init__()
        self.weight = torch.nn.Parameter(weight.clone())
        self.bias = torch.nn.Parameter(bias.clone()) if bias is not None else None
        self.smooth = smooth

    def forward(self, h):
        p = torch.softmax(torch.nn.functional.linear(h, self.weight, self.bias), dim=1)
        s = torch.logsumexp(self.smooth * p, dim=1) / self.smooth
        return torch.clamp((1 - s) / (1 - 1 / p.shape[1]), 1e-8, 1 - 1e-8)


def adue_loss(head, start, h, wrong, base, o):
    u = head(h)
    moved = sum(((p - q) ** 2).sum() for p, q in zip(head.parameters(), start))
    right = torch.nn.functional.binary_cross_entropy(u, wrong)
    return right + o["alpha"] * ((u - base) ** 2).mean() + o["beta"] * moved


def adue_rows(rng, n, weight, bias):
    """A classifier that is unreliable where it answers the first class."""
    c, d = weight.shape
    h = grid(rng.normal(size=(n, d)))
    logits = h @ weight.T + (bias if bias is not None else 0)
    y = logits.argmax(1)
    wrong = rng.random(n) < np.where(y == 0, 0.7, 0.15)
    y[wrong] = (y[wrong] + 1 + rng.integers(0, c - 1, n)[wrong]) % c
    return h, y


def judge(h, y, weight, bias):
    p = torch.softmax(torch.nn.functional.linear(h, weight, bias), dim=1)
    return (p.argmax(1) != y).to(F64), (1 - p.max(1).values) / (1 - 1 / p.shape[1])


def adue_case(rng, name, n, n_val, d, c, has_bias, sharp, **options):
    o = {"smooth": 100.0, "alpha": 0.1, "beta": 0.01, "rate": 3e-4, "batch": 256, "epochs": 50,
         "patience": 5, "seed": 0} | options
    weight = grid(sharp * rng.normal(size=(c, d)))
    bias = grid(0.3 * rng.normal(size=c)) if has_bias else None
    (h, y), (hv, yv) = adue_rows(rng, n, weight, bias), adue_rows(rng, n_val, weight, bias)
    case = {"name": name, "n_classes": c, "width": d, "options": o, "weight": weight.tolist(),
            "bias": bias.tolist() if has_bias else None, "states": h.tolist(), "labels": y.tolist(),
            "validation_states": hv.tolist(), "validation_labels": yv.tolist()}
    h, y, hv, yv, weight = (torch.tensor(v) for v in (h, y, hv, yv, weight))
    bias = torch.tensor(bias) if has_bias else None
    wrong, base = judge(h, y, weight, bias)
    wrong_val, _ = judge(hv, yv, weight, bias)

    # the loss away from the start, on all rows
    away = grid(0.2 * rng.normal(size=c * d + c))
    at = Head(weight + torch.tensor(away[: c * d]).reshape(c, d),
              (bias if has_bias else torch.zeros(c, dtype=F64)) + torch.tensor(away[c * d :]),
              o["smooth"])
    start = [weight, bias if has_bias else torch.zeros(c, dtype=F64)]
    loss = adue_loss(at, start, h, wrong, base, o)
    loss.backward()
    case |= {"away": away.tolist(), "loss": loss.item(),
             "gradient": torch.cat([p.grad.flatten() for p in at.parameters()]).tolist()}

    def auroc(head):
        with torch.no_grad():
            return float(sklearn.metrics.roc_auc_score(wrong_val.numpy(), head(hv).numpy()))

    head = Head(weight, bias, o["smooth"])
    start = [p.detach().clone() for p in head.parameters()]
    before = best = auroc(head)
    kept = [p.detach().clone() for p in head.parameters()]
    best_epoch, highest, waited, epoch = 0, -1.0, 0, 0
    adam = torch.optim.Adam(head.parameters(), lr=o["rate"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, max_lr=o["rate"], total_steps=o["epochs"] * -(-n // o["batch"]), pct_start=0.1,
        anneal_strategy="cos", div_factor=25.0, final_div_factor=1e4)
    kinds = [np.flatnonzero(wrong.numpy() == 1), np.flatnonzero(wrong.numpy() == 0)]
    while epoch < o["epochs"] and waited < o["patience"]:
        epoch += 1
        drawn = []
        for i in range(n):
            kind = kinds[philox(o["seed"], epoch, 2 * i) % 2]
            drawn.append(int(kind[philox(o["seed"], epoch, 2 * i + 1) % len(kind)]))
        for k in range(0, n, o["batch"]):
            rows = drawn[k : k + o["batch"]]
            adam.zero_grad()
            adue_loss(head, start, h[rows], wrong[rows], base[rows], o).backward()
            adam.step()
            schedule.step()
        now = auroc(head)
        waited = 0 if now > highest else waited + 1
        highest = max(highest, now)
        if now > best:
            best, best_epoch, kept = now, epoch, [p.detach().clone() for p in head.parameters()]
    print(f"adue, {name}: {int(wrong.sum())} of {n} wrong, {epoch} epochs, best {best_epoch}, "
          f"AUROC {before:.4f} to {best:.4f}")
    best_head = Head(kept[0], kept[1] if has_bias else None, o["smooth"])
    with torch.no_grad():
        u = best_head(hv)
    return case | {"epochs": epoch, "best_epoch": best_epoch, "auroc_before": before,
                   "auroc_after": best, "trained": torch.cat([p.flatten() for p in kept]).tolist(),
                   "u": u[:8].tolist()}


def adue():
    rng = np.random.default_rng(14)
    return [
        adue_case(rng, "stops early", 90, 70, 6, 3, True, 1.0, batch=32, epochs=30, rate=0.1,
                  patience=3, seed=7),
        adue_case(rng, "two classes, no bias", 70, 60, 5, 2, False, 0.7, batch=16, epochs=6,
                  rate=0.02, patience=9, seed=2**40 + 3, smooth=20.0, alpha=0.5, beta=0.1),
        adue_case(rng, "default options", 150, 150, 3, 3, True, 0.8),
    ]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=os.path.join(here, "..", "fixtures", "baselines"))
    o = ap.parse_args()
    os.makedirs(o.out, exist_ok=True)
    for make in (scaling, scores, mahalanobis, ood, adue):
        value = make()
        text = json.dumps(value, indent=1, allow_nan=False)
        text = re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s+", " ", m.group()).replace(
            "[ ", "[").replace(" ]", "]"), text)
        assert json.loads(text) == value
        with open(os.path.join(o.out, make.__name__ + ".json"), "w") as f:
            f.write(text + "\n")


if __name__ == "__main__":
    main()

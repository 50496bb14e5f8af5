#!/usr/bin/env python3
"""Independent float64 reference of the report metrics; writes tests/fixtures/metrics/cases.json.

    python metrics_reference.py [--out FILE]

Choices made where a definition leaves room (all of them are covered by a case):

* The prediction is the first class with the largest probability, the confidence is that
  probability.
* nll: -log(max(p, DBL_MIN)), DBL_MIN = 2.2250738585072014e-308 (the smallest normal double, -log =
  708.396...): a probability of 0 for the label gives a large finite number, and no other
  probability is changed.
* ece, mce: bin k = 1..15 holds (k-1)/15 < confidence <= k/15, both edges the correctly rounded
  quotients (3/15 is the double 0.2, so 0.2 is in bin 3 and 0.4 in bin 6).  Empty bins count for
  nothing.
* ece_em: sorted by confidence ascending; the first N mod 15 bins hold one row more; with N < 15 the
  rest are empty.  Rows of equal confidence each count with the mean accuracy of all of them, so
  that their order, and the bins they fall into, do not matter.
* auroc: null when every row is right or every row is wrong.
* aupr_error: sum over the distinct confidences, from the lowest, of (recall step) * precision; no
  interpolation.  null without an error (recall is 0/0); 1 when every row is wrong.
* aurc: mean over k = 1..N of the selective risk of the k most confident rows; inside a group of
  equal confidence the expected risk under a random order.  All right: 0; all wrong: 1; always
  defined.
* eaurc: aurc minus that of the same rows with all errors last (exact sum, no logarithm
  approximation).
* fpr95: t is the largest confidence for which 20 * #(right, confidence >= t) >= 19 * #right
  (integers: no rounding of 0.95); fpr95 = #(wrong, confidence >= t) / #wrong.  null without a right
  row or without a wrong row.
* ece_debiased: Kumar, Liang and Ma (2019): sqrt(max(0, sum_b n_b/N ((acc - conf)^2 -
  acc (1 - acc) / (n_b - 1)))) over min(15, N) equal-mass bins whose edges lie between the
  neighbours of a cut, so that a tie group lies in one bin; bins of one row count nothing.  As
  uncertainty-calibration's lower_bound_scaling_top_ce.
* ece_smooth: relplot's smECE of confidence and hit (no logit scaling).
* ece_classwise: mean over the classes of the 15-bin ECE of the class's probability.
* risk_at_coverage_80, _90, _95: selective risk of the ceil(share * N) most confident rows, the
  expected one where ties are cut, as in aurc.
* coverage_at_risk_1, _2, _5: k / N of the largest k whose risk, likewise, is at most that; 0 where
  no row may be kept.
"""

import argparse
import itertools
import json
import math
import os
import re
import sys
from fractions import Fraction

import numpy as np

BINS = 15
DBL_MIN = sys.float_info.min


def metrics(rows):
    probs = np.array([r["probs"] for r in rows], dtype=np.float64)
    label = np.array([r["label"] for r in rows])
    n, classes = probs.shape
    prediction = probs.argmax(1)
    conf = probs.max(1)
    right = prediction == label
    wrong = ~right
    n_right, n_wrong = int(right.sum()), int(wrong.sum())

    out = {"accuracy": n_right / n}
    out["nll"] = float(np.mean(-np.log(np.maximum(probs[np.arange(n), label], DBL_MIN))))
    out["brier"] = float(np.mean(((probs - np.eye(classes)[label]) ** 2).sum(1)))

    bins, ece, mce = [], 0.0, 0.0
    for k in range(BINS):
        lo, hi = k / BINS, (k + 1) / BINS
        m = (conf > lo) & (conf <= hi)
        count = int(m.sum())
        row = {"lo": lo, "hi": hi, "n": count, "confidence": None, "accuracy": None}
        if count:
            row["confidence"], row["accuracy"] = float(conf[m].mean()), float(right[m].mean())
            gap = abs(row["confidence"] - row["accuracy"])
            ece, mce = ece + count / n * gap, max(mce, gap)
        bins.append(row)
    assert sum(b["n"] for b in bins) == n
    out["ece"], out["mce"] = ece, mce

    order = np.argsort(conf, kind="stable")
    parts = [p for p in np.array_split(order, BINS) if len(p)]
    shared = np.array([right[conf == c].mean() for c in conf])
    out["ece_em"] = float(sum(len(p) / n * abs(conf[p].mean() - shared[p].mean()) for p in parts))

    out["auroc"] = None
    if n_right and n_wrong:
        d = conf[right][:, None] - conf[wrong][None, :]
        out["auroc"] = float(((d > 0) + 0.5 * (d == 0)).mean())

    out["aupr_error"] = None
    if n_wrong:
        ap, found = 0.0, 0
        for t in np.unique(conf):  # ascending: the least confident first
            flagged = conf <= t
            new = int((wrong & flagged).sum())
            ap += (new - found) / n_wrong * new / int(flagged.sum())
            found = new
        out["aupr_error"] = ap

    out["ece_debiased"] = debiased(conf, right)
    out["ece_smooth"] = smooth(conf, right)[0]
    per_class = []
    for c in range(classes):
        k = np.searchsorted(np.arange(1, BINS) / BINS, probs[:, c], side="left")
        excess = np.bincount(k, probs[:, c] - (label == c), BINS)
        per_class.append(np.abs(excess).sum() / n)
    out["ece_classwise"] = float(np.mean(per_class))

    risks, taken, errors = [], 0, 0
    for t in np.unique(conf)[::-1]:
        group = conf == t
        size, bad = int(group.sum()), int((wrong & group).sum())
        risks += [(errors + j * bad / size) / (taken + j) for j in range(1, size + 1)]
        taken, errors = taken + size, errors + bad
    out["aurc"] = float(np.mean(risks))
    oracle = [max(0, k - n_right) / k for k in range(1, n + 1)]
    out["eaurc"] = out["aurc"] - float(np.mean(oracle))

    out["fpr95"] = None
    if n_right and n_wrong:
        ok = [t for t in np.unique(conf) if 20 * int((right & (conf >= t)).sum()) >= 19 * n_right]
        out["fpr95"] = float((wrong & (conf >= max(ok))).sum() / n_wrong)

    for share in (80, 90, 95):
        out[f"risk_at_coverage_{share}"] = float(risks[-(-share * n // 100) - 1])
    for most in (1, 2, 5):
        out[f"coverage_at_risk_{most}"] = max(
            [k + 1 for k, r in enumerate(risks) if r <= most / 100], default=0) / n

    out["confidence"] = float(conf.mean())
    return out, bins


def debiased(conf, right):
    n, cuts = len(conf), min(BINS, len(conf))
    ends = np.cumsum([len(p) for p in np.array_split(np.arange(n), cuts)])
    ordered = np.sort(conf)
    edges = np.unique([(ordered[e - 1] + ordered[e]) / 2 for e in ends[:-1]])
    index, total = np.searchsorted(edges, conf, side="left"), 0.0
    for k in set(index):
        size, acc = int((index == k).sum()), right[index == k].mean()
        if size > 1:
            square = (acc - conf[index == k].mean()) ** 2 - acc * (1 - acc) / (size - 1)
            total += size / n * square
    return math.sqrt(max(total, 0.0))


def smooth_at(conf, residual, sigma):
    """smECE at a bandwidth: by the matrix of the kernel and its two reflections."""
    grid = max(2000, round(20 / sigma)) // 2 + 1
    mesh = max(200, round(10 / sigma))
    cell = np.minimum((conf * (grid - 1)).astype(int), grid - 2)
    above = conf * (grid - 1) - cell
    sums = np.zeros((2, grid))
    for row, value in enumerate((residual, np.ones_like(conf))):
        np.add.at(sums[row], cell, (1 - above) * value)
        np.add.at(sums[row], cell + 1, above * value)
    kernel = np.exp(-((np.linspace(0, 1, grid) - 0.5) ** 2) / (2 * sigma**2))
    kernel /= np.sqrt(2 * np.pi) * sigma
    padded = np.concatenate([np.zeros(2 * grid), kernel, np.zeros(2 * grid)])
    t = np.arange(mesh) / (mesh - 1) * (grid - 1)
    left = np.minimum(t.astype(int), grid - 2)
    used = np.flatnonzero(sums[1])
    smoothed = np.zeros((2, mesh))
    for to, share in ((left, 1 - (t - left)), (left + 1, t - left)):
        for j in used:
            # the cell and its reflections; at an end it is its own
            for place in {grid - 1 + j, grid - 1 - j, 3 * (grid - 1) - j}:
                weight = share * padded[place - grid // 2 - to + 2 * grid]
                smoothed += sums[:, j][:, None] * weight
    return float(np.abs(smoothed[0]).sum() / (smoothed[1] + 1e-4).sum())


def smooth(conf, right):
    high, low = 1.0, 0.0
    for _ in range(10):
        middle = (high + low) / 2
        if middle < 0.001 or middle < smooth_at(conf, conf - right, middle):
            low = middle
        else:
            high = middle
    return smooth_at(conf, conf - right, high), high


# ------------------------------------------------------------------------------------- cross-checks


def cross_check(rows, m):
    """The same numbers from scikit-learn, or from the definition by another route."""
    import sklearn.metrics as sk

    probs = np.array([r["probs"] for r in rows])
    label = np.array([r["label"] for r in rows])
    n, classes = probs.shape
    conf, right = probs.max(1), probs.argmax(1) == label

    def same(a, b, tol=1e-12):
        assert abs(a - b) <= tol * max(1.0, abs(b)), (a, b)

    same(m["accuracy"], sk.accuracy_score(label, probs.argmax(1)))
    if (probs[np.arange(n), label] > 1e-15).all():  # sklearn clips at the epsilon
        same(m["nll"], sk.log_loss(label, probs, labels=range(classes)))
    same(m["brier"], sum(np.mean((probs[:, c] - (label == c)) ** 2) for c in range(classes)))
    if classes == 2:
        same(m["brier"], 2 * sk.brier_score_loss(label, probs[:, 1], pos_label=1))
    if 0 < right.sum() < n:
        same(m["auroc"], sk.roc_auc_score(right, conf))
        fpr, tpr, thresholds = sk.roc_curve(right, conf, drop_intermediate=False)
        enough = np.flatnonzero(np.rint(tpr * right.sum()) * 20 >= 19 * right.sum())
        same(m["fpr95"], fpr[enough[0]])
    else:
        assert m["auroc"] is None and m["fpr95"] is None
    if right.all():
        assert m["aupr_error"] is None and m["aurc"] == 0 and m["eaurc"] == 0
    else:
        same(m["aupr_error"], sk.average_precision_score(~right, -conf))
    if not right.any():
        assert m["aurc"] == 1 and m["eaurc"] == 0
        same(m["aupr_error"], 1.0)
    # ece, mce with the bin found by exact rational arithmetic; it agrees with the edge comparison
    # unless a confidence is the double nearest to an edge that is no double, which the comparison
    # counts as on the edge
    index = []
    for c in conf.tolist():
        exact = math.ceil(Fraction(c) * BINS)
        on = [k for k in range(1, BINS + 1) if c == k / BINS]
        index.append(on[0] if on else exact)
    gaps = [(index.count(k), abs(sum(conf[i] - right[i] for i in range(n) if index[i] == k)))
            for k in set(index)]
    same(m["ece"], sum(g for _, g in gaps) / n)
    same(m["mce"], max(g / c for c, g in gaps))
    # ece_em without ties: the plain definition; with them: of no order of the rows
    if len(np.unique(conf)) == n:
        parts = [p for p in np.array_split(np.argsort(conf), BINS) if len(p)]
        same(m["ece_em"], sum(abs(conf[p].sum() - right[p].sum()) for p in parts) / n)
    turned = np.random.default_rng(1).permutation(n)
    same(metrics([rows[i] for i in turned])[0]["ece_em"], m["ece_em"])
    # relplot and uncertainty-calibration, the authors' own; torchmetrics of the ECE where installed
    import calibration
    import relplot

    value, width = relplot.smECE(conf, right.astype(float), return_width=True)
    assert smooth(conf, right)[1] == width
    same(m["ece_smooth"], value, 1e-11)
    if n > 1:
        same(m["ece_debiased"], calibration.lower_bound_scaling_top_ce(probs, label), 1e-9)
    each = [calibration.get_ece(probs[:, c], (label == c).astype(int)) for c in range(classes)]
    same(m["ece_classwise"], np.mean(each), 1e-11)
    # aurc over many random tie-breaks (all of them where there are few rows)
    if n <= 7:
        orders = [p for p in itertools.permutations(range(n))
                  if all(conf[a] >= conf[b] for a, b in zip(p, p[1:]))]
        tol = 1e-12
    else:
        rng = np.random.default_rng(0)
        orders = [np.lexsort((rng.random(n), -conf)) for _ in range(4000)]
        tol = 0.01 if len(np.unique(conf)) < n else 1e-12
    wrong = (~right).astype(float)
    mean = np.mean([np.mean(np.cumsum(wrong[list(o)]) / np.arange(1, n + 1)) for o in orders])
    same(m["aurc"], mean, tol)
    best = np.mean(np.cumsum(np.sort(wrong)) / np.arange(1, n + 1))
    same(m["eaurc"], m["aurc"] - best)


# -------------------------------------------------------------------------------------------- cases


def make_cases():
    rng = np.random.default_rng(20240607)
    more = np.random.default_rng(20250607)  # cases that came later leave the first ones as they are

    def softmax_rows(n, c, sharp=1.5, skill=1.2, rng=rng):
        label = rng.integers(0, c, n)
        z = sharp * rng.normal(size=(n, c))
        z[np.arange(n), label] += skill
        p = np.exp(z - z.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True), label

    def top(conf, right, c=4):
        """Rows with these confidences (the rest shared equally), right or wrong as given."""
        probs = np.empty((len(conf), c))
        label = np.empty(len(conf), int)
        for i, (p, ok) in enumerate(zip(conf, right)):
            k = int(rng.integers(c))
            probs[i] = (1 - p) / (c - 1)
            probs[i, k] = p
            label[i] = k if ok else (k + 1 + int(rng.integers(c - 1))) % c
        return probs, label

    def relabel(p, want):
        """Labels so that every row is right (or every row is wrong)."""
        best = p.argmax(1)
        return p, best if want else (best + 1) % p.shape[1]

    cases = [
        ("random-4-classes", "N = 200, no ties", softmax_rows(200, 4)),
        ("binary", "N = 120 = 8 * 15", softmax_rows(120, 2)),
        ("many-ties", "confidences are multiples of 1/16, right and wrong rows tied", None),
        ("all-right", "auroc, aupr_error and fpr95 are undefined; aurc = eaurc = 0",
         relabel(softmax_rows(40, 3)[0], True)),
        ("all-wrong", "auroc and fpr95 are undefined; aupr_error = aurc = 1, eaurc = 0",
         relabel(softmax_rows(40, 3)[0], False)),
        ("single-row-right", "N = 1", (np.array([[0.125, 0.625, 0.25]]), np.array([1]))),
        ("single-row-wrong", "N = 1", (np.array([[0.125, 0.625, 0.25]]), np.array([2]))),
        (
            "on-bin-edges",
            "0.2, 0.4, 0.6, 0.8 and 1.0 are upper edges and belong to the bin below; 14/15 too",
            top([0.2, 0.2, 0.4, 0.4, 0.4, 0.6, 0.8, 0.8, 14 / 15, 1.0, 1.0, 1.0, 0.41, 0.61, 0.799,
                 0.999, 7 / 15],
                [1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 0], c=8),
        ),
        ("not-divisible-by-15", "N = 47: two equal-mass bins of 4, thirteen of 3",
         softmax_rows(47, 5)),
        ("fewer-than-15", "N = 11: eleven equal-mass bins of one row, four empty",
         softmax_rows(11, 3)),
        (
            "zero-for-the-label",
            "nll uses max(p, DBL_MIN)",
            (np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25], [0.0, 0.25, 0.75],
                       [1.0, 0.0, 0.0]]), np.array([1, 1, 0, 0, 0])),
        ),
        (
            "one-tie-group",
            "every confidence equal: auroc 1/2, aurc = error rate; the class tie in row 0 goes to "
            "the first class",
            (np.array([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5],
                       [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]),
             np.array([0, 1, 1, 2, 2, 1])),
        ),
        (
            "small-ties",
            "N = 7, right and wrong rows tied at three confidences",
            top([0.9, 0.9, 0.7, 0.7, 0.7, 0.5, 0.5], [1, 0, 1, 1, 0, 0, 1], c=3),
        ),
        (
            "fpr95-exact-95-percent",
            "20 right rows: 19 of them are exactly 95 %",
            top(list(np.linspace(0.99, 0.61, 20)) + [0.95, 0.7, 0.625, 0.62, 0.605, 0.55],
                [1] * 20 + [0] * 6, c=3),
        ),
    ]
    p = softmax_rows(600, 4, rng=more)[0]
    drawn = (p.cumsum(1) < more.random((600, 1))).sum(1).clip(0, 3)
    cases += [
        ("calibrated", "labels drawn from the probabilities: ece_debiased near 0", (p, drawn)),
        ("sure-and-right", "ece_smooth has its least bandwidth, 1/1024",
         (np.eye(3)[more.integers(0, 3, 5)], None)),
        ("sure-and-wrong", "ece_smooth has its greatest bandwidth",
         (np.eye(3)[[0, 1, 2, 0]], np.array([1, 2, 0, 2]))),
        ("two-tied-rows", "one equal-mass bin of both",
         (np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0]))),
    ]
    sure = next(i for i, c in enumerate(cases) if c[0] == "sure-and-right")
    cases[sure] = (*cases[sure][:2], (cases[sure][2][0], cases[sure][2][0].argmax(1)))
    conf = rng.integers(5, 17, 100) / 16
    tied = top(conf, rng.random(100) < conf, c=4)
    cases[2] = (*cases[2][:2], tied)

    out = []
    for name, note, (probs, label) in cases:
        rows = [
            {"index": i, "label": int(y), "prediction": int(p.argmax()),
             "confidence": float(p.max()), "probs": p.tolist()}
            for i, (p, y) in enumerate(zip(probs, label))
        ]
        assert np.allclose(probs.sum(1), 1, atol=1e-12)
        m, bins = metrics(rows)
        cross_check(rows, m)
        out.append({"name": name, "note": note, "n": len(rows), "n_classes": probs.shape[1],
                    "rows": rows, "metrics": m, "bins": bins})
    return out


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=os.path.join(here, "..", "fixtures", "metrics", "cases.json"))
    o = ap.parse_args()
    cases = make_cases()
    text = json.dumps(cases, indent=1, allow_nan=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s+", " ", m.group()).replace(
        "[ ", "[").replace(" ]", "]"), text)
    text = re.sub(r"\{[^{}]*\}", lambda m: re.sub(r"\s+", " ", m.group()).replace(
        "{ ", "{").replace(" }", "}"), text)
    assert json.loads(text) == cases
    os.makedirs(os.path.dirname(o.out), exist_ok=True)
    with open(o.out, "w") as f:
        f.write(text + "\n")
    for c in cases:
        print(c["name"], {k: v if v is None else round(v, 4) for k, v in c["metrics"].items()})


if __name__ == "__main__":
    main()

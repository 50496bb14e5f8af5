#!/usr/bin/env python3
"""Independent float64 reference of the report metrics of a regression; writes
tests/fixtures/metrics/regression_cases.json.

    python regression_metrics_reference.py [--out FILE]

Correlations are scipy's; the CRPS is the integral of (F(x) - [x >= label])^2, numerically, and its
closed form is compared with that; the log density and the quantile of the central 90 % interval are
scipy's too.  A correlation is null where labels or means do not vary.
"""

import argparse
import json
import os
import re

import numpy as np
from scipy import integrate, stats


def crps(label, mean, std):
    """By quadrature: below the label F^2, above it (1 - F)^2."""
    low = integrate.quad(lambda x: stats.norm.cdf(x, mean, std) ** 2, mean - 40 * std, label,
                         points=[mean], limit=400, epsabs=1e-13)[0] \
        if label > mean - 40 * std else 0.0
    high = integrate.quad(lambda x: stats.norm.sf(x, mean, std) ** 2, label, mean + 40 * std,
                          points=[mean], limit=400, epsabs=1e-13)[0] \
        if label < mean + 40 * std else 0.0
    return low + high


def closed_crps(label, mean, std):
    z = (label - mean) / std
    return std * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))


def metrics(label, mean, variance):
    std = np.sqrt(variance)
    varies = len(np.unique(label)) > 1 and len(np.unique(mean)) > 1
    closed = closed_crps(label, mean, std)
    numeric = [crps(*one) for one in zip(label, mean, std)]
    assert np.allclose(closed, numeric, rtol=1e-7, atol=1e-9), np.abs(closed - numeric).max()
    lo, hi = stats.norm.interval(0.9, mean, std)
    return {
        "rmse": float(np.sqrt(np.mean((label - mean) ** 2))),
        "mae": float(np.mean(np.abs(label - mean))),
        "nll": float(-np.mean(stats.norm.logpdf(label, mean, std))),
        "pearson": float(stats.pearsonr(label, mean)[0]) if varies else None,
        "spearman": float(stats.spearmanr(label, mean)[0]) if varies else None,
        "coverage_90": float(np.mean((label >= lo) & (label <= hi))),
        "sharpness": float(np.mean(std)),
        "crps": float(np.mean(closed)),
    }


def make_cases():
    rng = np.random.default_rng(11)

    def rows(n, noise, offset=0.0, scale=1.0):
        mean = rng.normal(offset, scale, n)
        variance = scale**2 * rng.uniform(0.05, 0.6, n)
        return mean + scale * rng.normal(0, noise, n), mean, variance

    tied = np.round(rng.normal(0, 2, 60)), np.round(rng.normal(0, 2, 60)), np.full(60, 2.0)
    cases = [
        ("random", "N = 150", rows(150, 0.6)),
        ("far-from-zero", "an offset of 1e4: correlations must not cancel", rows(80, 0.4, 1e4)),
        ("small", "everything about 1e-6", rows(50, 0.5, 0.0, 1e-6)),
        ("many-ties", "labels and means are integers: ranks are averaged", tied),
        ("one-row", "N = 1: correlations are undefined",
         (np.array([1.5]), np.array([1.0]), np.array([0.25]))),
        ("equal-labels", "correlations are undefined",
         (np.full(7, 0.1), rng.normal(0, 1, 7), np.full(7, 0.5))),
        ("equal-means", "correlations are undefined",
         (rng.normal(0, 1, 9), np.full(9, -0.3), np.full(9, 0.5))),
        ("reversed", "spearman is -1", (np.arange(12.0) ** 3, -np.arange(12.0), np.full(12, 1e5))),
        ("far-away", "labels twenty deviations off",
         (np.array([20.0, -20.0, 0.0, 4.0]), np.zeros(4), np.ones(4))),
    ]
    out = []
    for name, note, (label, mean, variance) in cases:
        parts = [{"label": a, "prediction": b, "variance": c}
                 for a, b, c in zip(label.tolist(), mean.tolist(), variance.tolist())]
        out.append({"name": name, "note": note, "rows": parts,
                    "metrics": metrics(label, mean, variance)})
    return out


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=os.path.join(here, "..", "fixtures", "metrics",
                                                  "regression_cases.json"))
    o = ap.parse_args()
    cases = make_cases()
    text = json.dumps(cases, indent=1, allow_nan=False)
    text = re.sub(r"\{[^{}]*\}", lambda m: re.sub(r"\s+", " ", m.group()).replace(
        "{ ", "{").replace(" }", "}"), text)
    assert json.loads(text) == cases
    with open(o.out, "w") as f:
        f.write(text + "\n")
    for c in cases:
        print(c["name"], {k: v if v is None else round(v, 4) for k, v in c["metrics"].items()})


if __name__ == "__main__":
    main()

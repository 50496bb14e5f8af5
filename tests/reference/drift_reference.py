#!/usr/bin/env python3
"""Two-sample tests by scipy and by counting; writes tests/fixtures/monitor/drift.json.

    python drift_reference.py [--out FILE]

* ks: scipy.stats.ks_2samp, exact without ties; asymptotic for u and u^power of 6,000. With ties:
  the share of all divisions of the pooled values whose statistic is as large, counted.
* shares: scipy.stats.chi2_contingency without Yates's correction, after pooling as
  src/monitor/two_sample.h says.
* strata: one stratum: twice the smaller tail of scipy.stats.hypergeom; several: tails of the
  convolution of their distributions.
* rates: numpy.convolve of the rows' distributions, 1 - u^2 / 2, u = (i + 1/2) / n, or for many
  equal rows scipy.stats.binom.
"""
import argparse
import itertools
import json
import os

import numpy as np
from scipy import stats

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(5)


def statistic(a, b):
    values = np.union1d(a, b)
    return max(abs(np.searchsorted(np.sort(a), v, "right") / len(a) -
                   np.searchsorted(np.sort(b), v, "right") / len(b)) for v in values)


def counted(a, b):
    """p of all divisions of the pooled values."""
    pooled, far = np.concatenate([a, b]), statistic(a, b)
    hits = n = 0
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        inside = np.zeros(len(pooled), bool)
        inside[list(chosen)] = True
        hits += statistic(pooled[inside], pooled[~inside]) >= far - 1e-12
        n += 1
    return hits / n


def ks_cases():
    for n, m, shift in ((1, 1, 0), (1, 9, 2), (5, 7, 1), (40, 30, 0.5), (200, 330, 0.2),
                        (1000, 1000, 0.3)):
        a, b = rng.normal(size=n), rng.normal(size=m) + shift
        found = stats.ks_2samp(a, b, method="exact")
        yield a, b, found.statistic, found.pvalue, 1e-9
    for n, m, levels in ((4, 5, 3), (6, 6, 2), (7, 5, 4), (8, 8, 5), (3, 9, 1)):
        a, b = rng.integers(0, levels, n) / 4, rng.integers(0, levels, m) / 4
        yield a, b, statistic(a, b), counted(a, b), 1e-12


def large_case():
    n, power = 6000, 1.06
    a = (np.arange(n) + 0.5) / n
    found = stats.ks_2samp(a, a ** power, method="asymp")
    return {"n": n, "power": power, "statistic": found.statistic, "p_value": found.pvalue}


def pooled(table):
    sums = table.sum(1)
    least = 5 * sums.sum() / sums.min()
    kept = [c for c in range(table.shape[1]) if table[:, c].sum() >= least]
    rest = table.sum(1) - table[:, kept].sum(1)
    columns = [table[:, c] for c in kept]
    if rest.sum() >= least:
        columns.append(rest)
    elif rest.sum():
        smallest = min(range(len(columns)), key=lambda c: columns[c].sum())
        columns[smallest] = columns[smallest] + rest
    return np.array(columns).T


def share_cases():
    for shares, n, m in (((0.5, 0.3, 0.2), 400, 300), ((0.4, 0.3, 0.2, 0.05, 0.03, 0.02), 200, 90),
                         ((0.2,) * 5, 5000, 800), ([0.01] * 100, 1000, 1000)):
        a = rng.multinomial(n, shares)
        b = rng.multinomial(m, np.array(shares) ** 1.3 / sum(np.array(shares) ** 1.3))
        found = stats.chi2_contingency(pooled(np.array([a, b])), correction=False)
        yield a, b, found.statistic, found.pvalue
    a, b = np.array([900, 50, 50]), np.array([400, 300, 300])
    found = stats.chi2_contingency(np.array([a, b]), correction=False)
    yield a, b, found.statistic, found.pvalue


def strata_cases():
    shapes = [[(3, 10, 7, 12)], [(0, 5, 5, 5)], [(190, 200, 140, 160)], [(9000, 10000, 450, 500)],
              [(5, 10, 9, 11), (20, 40, 31, 40), (0, 3, 1, 2), (7, 7, 0, 0)]]
    for strata in shapes:
        pmf, at = np.array([1.0]), 0
        for h0, n0, h1, n1 in strata:
            hits = h0 + h1
            low, high = max(0, hits - n0), min(hits, n1)
            pmf = np.convolve(pmf, stats.hypergeom.pmf(np.arange(low, high + 1), n0 + n1, hits, n1))
            at += h1 - low
        yield strata, min(1, 2 * min(pmf[:at + 1].sum(), pmf[at:].sum()))


def rate_cases():
    for n, off in ((1, 0), (20, 3), (500, -12), (5000, 30)):
        p = 1 - 0.5 * ((np.arange(n) + 0.5) / n) ** 2
        pmf = np.array([1.0])
        for x in p:
            pmf = np.convolve(pmf, [1 - x, x])
        right = int(min(n, max(0, round(p.sum()) + off)))
        yield n, None, right, min(1, 2 * min(pmf[:right + 1].sum(), pmf[right:].sum())), 1e-9
    n, p, right = 40000, 0.85, 33800
    below, above = stats.binom.cdf(right, n, p), stats.binom.sf(right - 1, n, p)
    yield n, p, right, min(1, 2 * min(below, above)), 0.01


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "fixtures", "monitor",
                                                      "drift.json"))
    out = parser.parse_args().out
    several = [0.04, 0.001, 0.03, 0.001, 0.5, 1.0]
    order = np.argsort(several, kind="stable")
    steps = np.maximum.accumulate([(6 - i) * several[j] for i, j in enumerate(order)])
    holm = [0.0] * 6
    for i, j in enumerate(order):
        holm[j] = min(1, steps[i])
    cases = {
        "ks": [{"a": [round(float(x), 6) for x in sorted(a)],
                "b": [round(float(x), 6) for x in sorted(b)],
                "statistic": d, "p_value": p, "tolerance": t} for a, b, d, p, t in ks_cases()],
        "shares": [{"a": [int(x) for x in a], "b": [int(x) for x in b], "statistic": x,
                    "p_value": p} for a, b, x, p in share_cases()],
        "strata": [{"strata": s, "p_value": p} for s, p in strata_cases()],
        "rates": [{"n": n, "each": p, "right": r, "p_value": v, "tolerance": t}
                  for n, p, r, v, t in rate_cases()],
        "large": large_case(),
        "chi_squared": [{"x": x, "freedom": k, "p_value": stats.chi2.sf(x, k)}
                        for x in (0.01, 1, 7.5, 30, 250) for k in (1, 2, 5, 76, 300)],
        "holm": {"p": several, "adjusted": holm}}
    with open(out, "w", encoding="utf-8") as stream:
        json.dump(cases, stream, default=float)
        stream.write("\n")


if __name__ == "__main__":
    main()

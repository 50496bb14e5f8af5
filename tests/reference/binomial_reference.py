#!/usr/bin/env python3
"""Binomial tails and Clopper-Pearson bounds by scipy; writes tests/fixtures/base/binomial.json.

    python binomial_reference.py [--out FILE]

Tails P(X <= k) are scipy.stats.binom.cdf, bounds scipy.stats.beta.ppf(1 - alpha, k + 1, n - k).
"""
import argparse
import json
import os

from scipy.stats import beta, binom

HERE = os.path.dirname(os.path.abspath(__file__))


def cases():
    for n in (1, 2, 10, 59, 100, 473, 1000, 20000, 1000000):
        for p in (1e-4, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9):
            middle, sd = n * p, (n * p * (1 - p)) ** 0.5
            places = {0, 1, n // 2, n - 1} | {int(middle + z * sd) for z in (-4, -2, -1, 0, 1, 3)}
            for k in sorted(k for k in places if 0 <= k < n):
                yield n, k, p


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out",
                        default=os.path.join(HERE, "..", "fixtures", "base", "binomial.json"))
    out = parser.parse_args().out
    tails = [[n, k, p, float(binom.cdf(k, n, p))] for n, k, p in cases()]
    tails = [t for t in tails if t[3] > 1e-30]  # further out, scipy has 11 digits
    bounds = [[n, k, alpha, float(beta.ppf(1 - alpha, k + 1, n - k))]
              for n in (1, 2, 30, 100, 1000, 50000) for alpha in (0.5, 0.05, 0.01, 1e-4)
              for k in sorted({0, 1, n // 20, n // 2, n - 1}) if k < n]
    with open(out, "w") as f:
        f.write('{"tails":[\n' + ",\n".join(json.dumps(t) for t in tails) + '],\n"bounds":[\n' +
                ",\n".join(json.dumps(b) for b in bounds) + "]}\n")
    print(len(tails), "tails,", len(bounds), "bounds")


if __name__ == "__main__":
    main()

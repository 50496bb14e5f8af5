#!/usr/bin/env python3
"""Independent reference of the report metrics of sets of classes; writes
tests/fixtures/metrics/sigmoid_cases.json.

    python sigmoid_metrics_reference.py [--out FILE]

Standard library alone.  A decision is whether a class is in a row's set.  F1 = 2 hits / (2 hits +
extra + missed), null where that is 0 / 0; its macro mean is over the classes that have one
(scikit-learn counts the others as 0).  NLL and Brier score are means over decisions, of one
Bernoulli variable each (half the score of two classes).  ECE: 15 bins of equal width of the
probability, the first with 0, each with its upper edge, weighted by decisions.
"""

import argparse
import json
import math
import os
import random


def f1(pairs):
    """pairs of (predicted, true)."""
    both, one = sum(p and t for p, t in pairs), sum(p != t for p, t in pairs)
    return 2 * both / (2 * both + one) if both or one else None


def ece(decisions):
    """decisions: (probability, true); bins found by bisection over the edges."""
    bins = [[] for _ in range(15)]
    for p, t in decisions:
        bins[next(k for k in range(15) if k == 14 or p <= (k + 1) / 15)].append((p, t))
    gaps = [len(b) * abs(math.fsum(p for p, _ in b) / len(b) - sum(t for _, t in b) / len(b))
            for b in bins if b]
    return math.fsum(gaps) / len(decisions)


def nll(decisions):
    return math.fsum(-math.log(p if t else 1 - p) for p, t in decisions) / len(decisions)


def brier(decisions):
    return math.fsum((p - t) ** 2 for p, t in decisions) / len(decisions)


def metrics(rows, n_classes):
    flat = [(p, t) for probs, truth in rows for p, t in zip(probs, truth)]
    columns = [[(probs[k], truth[k]) for probs, truth in rows] for k in range(n_classes)]
    scores = [f1([(p > 0.5, bool(t)) for p, t in column]) for column in columns]
    known = [s for s in scores if s is not None]
    exact = [all((p > 0.5) == bool(t) for p, t in zip(*row)) for row in rows]
    total = {
        "f1_micro": f1([(p > 0.5, bool(t)) for p, t in flat]),
        "f1_macro": math.fsum(known) / len(known) if known else None,
        "exact_match": sum(exact) / len(exact),
        "hamming": sum((p > 0.5) != bool(t) for p, t in flat) / len(flat),
        "nll": nll(flat),
        "brier": brier(flat),
        "ece": ece(flat),
    }
    classes = [{"n": sum(t for _, t in column), "f1": s, "nll": nll(column), "brier": brier(column),
                "ece": ece(column)}
               for column, s in zip(columns, scores)]
    return total, classes


def make_cases():
    draw = random.Random(5)

    def rows(n, c, probability):
        out = []
        for _ in range(n):
            probs = [probability() for _ in range(c)]
            out.append((probs, [int(draw.random() < p) for p in probs]))
        return out

    cases = [
        ("random", 4, rows(120, 4, draw.random)),
        ("levels", 3, rows(90, 3, lambda: draw.choice([0.0625, 0.2, 0.25, 0.5, 0.6, 0.875]))),
        ("rare", 6, rows(80, 6, lambda: 0.1 * draw.random())),
        ("one-class", 1, rows(40, 1, draw.random)),
        ("one-row", 2, [([0.75, 0.25], [1, 1])]),
        ("nothing", 3, [([0.25, 0.125, 0.5], [0, 0, 0])] * 4),
        ("one-class-unused", 2, [([0.25, 0.75], [0, 1]), ([0.125, 0.625], [0, 0])]),
        ("all-wrong", 2, [([0.75, 0.25], [0, 1])] * 3),
    ]
    return [{"name": name, "n_classes": c, "rows": [{"probs": p, "label": t} for p, t in data],
             **dict(zip(("metrics", "classes"), metrics(data, c)))} for name, c, data in cases]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=os.path.join(here, "..", "fixtures", "metrics",
                                                      "sigmoid_cases.json"))
    with open(parser.parse_args().out, "w") as f:
        json.dump(make_cases(), f, indent=0)
        f.write("\n")


if __name__ == "__main__":
    main()

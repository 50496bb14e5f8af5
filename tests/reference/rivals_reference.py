#!/usr/bin/env python3
"""What torchmetrics and MAPIE say of the rows of tests/fixtures/metrics, and MAPIE's
Learn-then-Test of random answers; writes fixtures/metrics/rivals.json and
fixtures/monitor/promises.json.

    python rivals_reference.py      (torchmetrics 1.9, MAPIE 1.6, numpy, torch)

Where a definition differs, "differs" says how and the value is kept: the test demands that ours is
another one. Why ours is as it is:

* edges: torchmetrics counts a confidence that is an edge of a bin in the bin above it, and 1 in a
  16th bin of its own; Guo et al. (2017), netcal, uncertainty-calibration, MAPIE and laplora count
  it in the bin below. These rows are given to torchmetrics again with such confidences lowered by
  1e-13: then it agrees. MAPIE's edges are k times the rounded 1/15, so that 2/5 can be above 6/15.
* bins: MAPIE's num_bins=15 makes 14 bins of equal width (it is the number of edges); 16 makes 15.
* order: bins of MAPIE's "array split" depend on the order of the rows, as these are not sorted
  first; given sorted rows without ties it agrees with ece_em.
* undefined: torchmetrics gives 0 for an area under a curve without right (or wrong) rows, and a
  correlation of constants as NaN; a gate must not pass or fail on them: ours are null.
  A class that is in no label and no prediction has an F1 of 0 / 0: torchmetrics counts it as 0
  ("unused"), which punishes a model for what the rows do not have; ours is left out of the mean.
* ties: MAPIE's auarc leaves rows of equal confidence in the order of the file; ours is the mean
  over all orders.

Thresholds: rows (score, wrong) whose scores differ. p-values are MAPIE's, of the first k rows by
score, k = 1..n; the procedure is laplora's fallback, given to MAPIE's control_fwer as a procedure:
a test that is rejected passes its level on to the next row. "holm": MAPIE's own controller, a
hundred thresholds that are tested with Holm's steps: how many rows its choice accepts.
"""
import json
import math
import os
import warnings

import numpy as np
import torch
from mapie.metrics.calibration import expected_calibration_error
from mapie.metrics.regression import regression_coverage_score
from mapie.metrics.uncertainty import auarc, auroc
from mapie.risk_control import BinaryClassificationController
from mapie.risk_control.fwer_control import FWERProcedure, control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy import stats
from torchmetrics import classification as tc
from torchmetrics import regression as tr

warnings.filterwarnings("ignore")
FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
EDGES = [k / 15 for k in range(1, 16)]


def tensor(values):
    return torch.tensor(np.asarray(values))


def lowered(p):
    """Probabilities that are an edge, just below it."""
    return np.where(np.isin(p, EDGES) | (p == 1), p - 1e-13, p)


def number(value):
    value = float(value)
    return value if math.isfinite(value) else None


def beside_edges(p):
    """Whether some lie on an edge or within the rounding of one, but for 1."""
    return any((np.abs(p - edge) < 1e-14).any() for edge in EDGES[:-1])


class Answers:
    def __init__(self):
        self.list = []

    def add(self, package, name, metric, value, tolerance, differs=None):
        entry = {"package": package, "name": name, "metric": metric, "value": number(value),
                 "tolerance": tolerance}
        if differs:
            entry["differs"] = differs
        self.list.append(entry)


def of_classes(case):
    a = Answers()
    probs = np.array([r["probs"] for r in case["rows"]])
    label = np.array([r["label"] for r in case["rows"]])
    n, classes = probs.shape
    conf, right = probs.max(1), (probs.argmax(1) == label).astype(int)
    mixed = 0 < right.sum() < n
    tied = len(np.unique(conf)) < n
    a.add("torchmetrics", "MulticlassAccuracy(average='micro')", "accuracy",
          tc.MulticlassAccuracy(classes, average="micro")(tensor(probs), tensor(label)), 1e-7)
    for metric, norm in (("ece", "l1"), ("mce", "max")):
        error = tc.BinaryCalibrationError(n_bins=15, norm=norm)
        plain = float(error(tensor(conf), tensor(right)))
        a.add("torchmetrics", f"BinaryCalibrationError(norm='{norm}')", metric,
              error(tensor(lowered(conf)), tensor(right)), 1e-11)
        if abs(plain - a.list[-1]["value"]) > 1e-3:
            a.add("torchmetrics", f"BinaryCalibrationError(norm='{norm}')", metric, plain, 1e-3,
                  "edges")
    if not np.isin(conf, EDGES).any():  # rounds confidences to f32
        a.add("torchmetrics", "MulticlassCalibrationError", "ece",
              tc.MulticlassCalibrationError(classes, n_bins=15)(tensor(probs), tensor(label)),
              1e-6)
    each = [tc.BinaryCalibrationError(n_bins=15)(tensor(lowered(probs[:, c])),
                                                 tensor((label == c).astype(int)))
            for c in range(classes)]
    a.add("torchmetrics", "mean of BinaryCalibrationError", "ece_classwise", np.mean(each), 1e-11)
    areas = (("auroc", "BinaryAUROC", conf, right),
             ("aupr_error", "BinaryAveragePrecision", 1 - conf, 1 - right))
    for metric, name, score, hit in areas:
        value = getattr(tc, name)()(tensor(score), tensor(hit))
        defined = mixed if metric == "auroc" else right.sum() < n
        a.add("torchmetrics", name, metric, value, 2e-6 if defined else 0,
              None if defined else "undefined")
    uniform = {"num_bins": 16, "split_strategy": "uniform"}
    a.add("MAPIE", "expected_calibration_error(num_bins=16)", "ece",
          expected_calibration_error(right, conf, **uniform), 1e-11)
    fewer = expected_calibration_error(right, conf, num_bins=15, split_strategy="uniform")
    if abs(fewer - a.list[-1]["value"]) > 1e-3:
        a.add("MAPIE", "expected_calibration_error(num_bins=15)", "ece", fewer, 1e-3, "bins")
    a.add("MAPIE", "expected_calibration_error(classwise=True)", "ece_classwise",
          expected_calibration_error(right, probs, classwise=True, class_labels=label, **uniform),
          1e-3 if beside_edges(probs) else 1e-11, "edges" if beside_edges(probs) else None)
    if n >= 15 and not tied:
        split = {"num_bins": 15, "split_strategy": "array split"}
        order = np.argsort(conf)
        a.add("MAPIE", "expected_calibration_error('array split'), rows sorted", "ece_em",
              expected_calibration_error(right[order], conf[order], **split), 1e-11)
        value = expected_calibration_error(right, conf, **split)
        if abs(value - a.list[-1]["value"]) > 1e-3:
            a.add("MAPIE", "expected_calibration_error('array split')", "ece_em", value, 1e-3,
                  "order")
    if mixed:
        a.add("MAPIE", "auroc", "auroc", auroc(right, conf), 1e-12)
    value = 1 - auarc(right, conf)
    if not tied or not mixed:
        a.add("MAPIE", "1 - auarc", "aurc", value, 1e-12)
    else:
        a.add("MAPIE", "1 - auarc", "aurc", value, 1e-4, "ties")
    return a.list


def of_sets(case):
    a = Answers()
    probs = np.array([r["probs"] for r in case["rows"]])
    truth = np.array([r["label"] for r in case["rows"]])
    n, classes = probs.shape
    flat = tensor(lowered(probs).ravel()), tensor(truth.ravel())
    if classes > 1:
        both = tensor(probs), tensor(truth)
        micro = tc.MultilabelF1Score(classes, average="micro")(*both)
        macro = tc.MultilabelF1Score(classes, average="macro")(*both)
        used = bool(((probs > 0.5) | (truth > 0)).any())
        unused = None if used else "undefined"
        a.add("torchmetrics", "MultilabelF1Score(average='micro')", "f1_micro", micro, 2e-7,
              unused)
        each = ((probs > 0.5) | (truth > 0)).any(0)
        a.add("torchmetrics", "MultilabelF1Score(average='macro')", "f1_macro", macro, 2e-7,
              unused if not used or each.all() else "unused")
        a.add("torchmetrics", "MultilabelExactMatch", "exact_match",
              tc.MultilabelExactMatch(classes)(*both), 2e-7)
        a.add("torchmetrics", "MultilabelHammingDistance", "hamming",
              tc.MultilabelHammingDistance(classes)(*both), 2e-7)
    a.add("torchmetrics", "BinaryCalibrationError", "ece",
          tc.BinaryCalibrationError(n_bins=15)(*flat), 1e-11)
    a.add("MAPIE", "expected_calibration_error(num_bins=16)", "ece",
          expected_calibration_error(truth.ravel(), probs.ravel(), num_bins=16,
                                     split_strategy="uniform"), 1e-11)
    return a.list


def of_numbers(case):
    a = Answers()
    label, mean, variance = (np.array([r[k] for r in case["rows"]])
                             for k in ("label", "prediction", "variance"))
    pair = tensor(mean), tensor(label)
    a.add("torchmetrics", "MeanSquaredError(squared=False)", "rmse",
          tr.MeanSquaredError(squared=False).double().set_dtype(torch.float64)(*pair), 1e-12)
    a.add("torchmetrics", "MeanAbsoluteError", "mae",
          tr.MeanAbsoluteError().set_dtype(torch.float64)(*pair), 1e-12)
    varies = len(np.unique(label)) > 1 and len(np.unique(mean)) > 1
    if varies and np.abs(mean).max() < 1e3:
        for name, metric in ((tr.PearsonCorrCoef, "pearson"), (tr.SpearmanCorrCoef, "spearman")):
            a.add("torchmetrics", name.__name__, metric,
                  name().set_dtype(torch.float64)(*pair), 2e-6)
    half = stats.norm.ppf(0.95) * np.sqrt(variance)
    a.add("MAPIE", "regression_coverage_score", "coverage_90",
          regression_coverage_score(label, np.stack([mean - half, mean + half], 1)[:, :, None])[0],
          1e-12)
    return a.list


# ------------------------------------------------------------------------------------- thresholds

STARTS, FIRST = 5, 1.3


def starts_of(n, e, d):
    least = 1
    while (1 - e) ** least > d / STARTS:
        least += 1
    begin = min(math.ceil(FIRST * least), n)
    end = max(begin, n // 2)
    places = [begin * (end / begin) ** (s / (STARTS - 1)) for s in range(STARTS)]
    return [math.floor(p + 0.5) for p in places]


class Fallback(FWERProcedure):
    """Levels at starts; a rejected test passes its own on."""

    def __init__(self, starts):
        self.starts = starts

    def _init_state(self, n_lambdas, delta):
        self.levels = np.zeros(n_lambdas)
        for s in self.starts:
            self.levels[s - 1] += delta / len(self.starts)
        self.done = np.zeros(n_lambdas, bool)

    def _select_next_hypothesis(self, p_values):
        open_ = np.flatnonzero((p_values <= self.levels) & ~self.done & (self.levels > 0))
        return int(open_[0]) if len(open_) else None

    def _local_significance_levels(self):
        return self.levels

    def _update_on_reject(self, index):
        self.done[index] = True
        if index + 1 < len(self.levels) and not self.done[index + 1]:
            self.levels[index + 1] += self.levels[index]


def controller(score, wrong, e, d):
    """MAPIE's own, as its documentation has it: precision of what is accepted."""
    own = BinaryClassificationController(
        lambda x: np.stack([1 - x, x], 1), "precision", 1 - e, confidence_level=1 - d,
        best_predict_param_choice="predicted_positive_fraction")
    try:
        own.calibrate(score, 1 - wrong)
    except ValueError:
        return 0
    # of the valid thresholds the lowest accepts most
    valid = np.asarray(own.valid_predict_params)
    return int((score >= valid.min()).sum()) if len(valid) else 0


def promises():
    rng = np.random.default_rng(77)
    curves = [("monotone", lambda u: 0.4 * (1 - u) ** 2),
              ("confident errors",
               lambda u: np.where(u > 0.97, 0.12, np.where(u > 0.5, 0.01, 0.3))),
              ("hopeless", lambda u: 0.2 + 0.2 * (1 - u)),
              ("all right", lambda u: 0 * u), ("all wrong", lambda u: 0 * u + 1)]
    for name, curve in curves:
        for n, e, d in ((40, 0.2, 0.1), (300, 0.1, 0.05), (1000, 0.05, 0.05)):
            score = np.sort(rng.choice(1 << 20, n, replace=False))[::-1] / (1 << 20)
            wrong = (rng.random(n) < curve(score)).astype(int)
            k, errors = np.arange(1, n + 1), np.cumsum(wrong)
            # an error count over k is not always an integer when multiplied by k again
            rate = np.nextafter(errors / k, 0)
            p = compute_hoeffding_bentkus_p_value(rate, k, e, binary=True)[:, 0]
            starts = starts_of(n, e, d)
            accepted = control_fwer(p, d, Fallback(starts))
            at = sorted({0, n // 4, n // 2, n - 1})
            yield {"name": name, "n": n, "target_error": e, "delta": d, "starts": starts,
                   "wrong": "".join(map(str, wrong)),
                   "p_values": [{"rows": int(k[i]), "errors": int(errors[i]), "p": float(p[i])}
                                for i in at],
                   "n_accepted": int(accepted.max()) + 1 if len(accepted) else 0,
                   "holm": controller(score, wrong, e, d)}


def load(name):
    with open(os.path.join(FIXTURES, "metrics", name)) as f:
        return json.load(f)


def save(name, entries):
    with open(os.path.join(FIXTURES, name), "w") as f:
        lines = (json.dumps(e, allow_nan=False) for e in entries)
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


def main():
    found = []
    for file, measure in (("cases.json", of_classes), ("sigmoid_cases.json", of_sets),
                          ("regression_cases.json", of_numbers)):
        for case in load(file):
            for entry in measure(case):
                found.append({"file": file, "case": case["name"], **entry})
                ours = case["metrics"][entry["metric"]]
                off = (math.inf if (ours is None) != (entry["value"] is None) else
                       0 if ours is None else abs(ours - entry["value"]))
                if (off > entry["tolerance"]) != ("differs" in entry):
                    print("unexpected:", found[-1], "ours", ours)
    save("metrics/rivals.json", found)
    save("monitor/promises.json", promises())


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Folders that refine writes, read by PEFT (unions and bottlenecks: as the adapters library stores
them): probabilities of the trained network in float64 against those of predict. Run by hand.

    python refined_folders.py PROGRAM [FIXTURE...]
"""
import json
import os
import subprocess
import sys
import tempfile

import torch

import laplace_reference as laplace

PARITY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fixtures/parity")
FIXTURES = {
    "bert": "lora+head", "ia3-bert": "lora+head", "prefix-tuning-bert": "lora+head",
    "adalora": "lora", "vera-bert": "lora", "houlsby-bert": "lora+head",
    "union-bert": "lora+head", "lora-embedding-bert": "lora", "llama-seq": "lora",
}
MOST = 1e-6


def probabilities(base, adapter, test, choices):
    logits = laplace.logits_alone(base, adapter, test, choices)
    return torch.tensor(logits, dtype=torch.float64).softmax(-1)


def differ(program, name):
    """(from predict, from the old adapter), the largest difference of a probability."""
    at = os.path.join(PARITY, name)
    base, adapter, calib, test = (os.path.join(at, part) for part in
                                  ("base", "adapter", "calib.jsonl", "test.jsonl"))
    with open(os.path.join(at, "expected.json")) as file:
        choices = json.load(file).get("choice_ids")

    def run(command, *words):
        subprocess.run([program, command, *words, "--quiet"], check=True)

    with tempfile.TemporaryDirectory() as folder:
        old, new, out, rows = (os.path.join(folder, part) for part in
                               ("old.h5", "new.h5", "adapter", "rows.jsonl"))
        run("fit", "--base", base, "--adapter", adapter, "--data", calib, "--out", old, "--params",
            FIXTURES[name], *(["--choice-ids", ",".join(map(str, choices))] if choices else []))
        run("refine", "--posterior", old, "--data", calib, "--out", new, "--out-adapter", out,
            "--epochs", "2", "--batch-rows", "6")
        run("predict", "--posterior", new, "--data", test, "--out", rows)
        with open(rows) as file:
            got = torch.tensor([json.loads(line)["map_probs"] for line in file],
                               dtype=torch.float64)
        want = probabilities(base, out, test, choices)
        before = probabilities(base, adapter, test, choices)
    return (got - want).abs().max().item(), (want - before).abs().max().item()


def main():
    program, *names = sys.argv[1:]
    failed = 0
    for name in names or FIXTURES:
        off, moved = differ(program, name)
        failed += off > MOST or moved < 1e-3
        print(f"{name:24} off by {off:.1e}, moved by {moved:.3f}", flush=True)
    sys.exit(failed > 0)


main()

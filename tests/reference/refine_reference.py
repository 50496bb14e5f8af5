#!/usr/bin/env python3
"""Steps of IVON (src/bayes/ivon.h) on a tiny checkpoint by PyTorch in float64: gradients by
autograd through the model as transformers and the adapter's library compute it, one row at a time,
and the update by the formulas of the paper. The draws are a formula that the test has, too.

    python refine_reference.py PARITY_FIXTURE [--params lora+head] --out FILE

FILE: {"steps": [[first row, row behind the last], ..], "rate", "temper", "hessian", "nll": [of the
rows of each step at its network], "blocks": {name: {"mean": [..], "hessian": [..]}}}, of each
block's numbers [out, in] (a bias is the last column) every EVERYth.
"""
import argparse
import json
import math
import os

import torch

import laplace_reference as laplace

F64 = torch.float64
STEPS, RATE, TEMPER, HESSIAN, BETA1, BETA2, EVERY = 4, 0.05, 4, 0.7, 0.9, 0.99, 7


def draw(n, step):
    i = torch.arange(1, n + 1, dtype=F64)
    return math.sqrt(2) * torch.sin(1.7 * i * (step + 1))


def prior(n):
    return 0.3 + 0.02 * (torch.arange(n) % 5).to(F64)


class Matrix:
    """A block's numbers and its state."""

    def __init__(self, block):
        self.block = block
        self.start = block.theta().flatten().clone()
        n = len(self.start)
        self.mean, self.momentum = self.start.clone(), torch.zeros(n, dtype=F64)
        self.hessian, self.prior = torch.full((n,), HESSIAN, dtype=F64), prior(n)

    def put(self, step, rows):
        self.eps = draw(len(self.mean), step)
        self.counted = TEMPER * rows * (self.hessian + self.prior)
        theta = (self.mean + self.eps / self.counted.sqrt()).reshape(self.block.theta().shape)
        with torch.no_grad():
            if self.block.bias is None:
                self.block.weight.copy_(theta)
            else:
                self.block.weight.copy_(theta[:, :-1])
                self.block.bias.copy_(theta[:, -1])
        self.block.weight.grad = None
        if self.block.bias is not None:
            self.block.bias.grad = None

    def update(self, step):
        g = self.block.weight.grad
        if self.block.bias is not None:
            g = torch.cat((g, self.block.bias.grad[:, None]), 1)
        g = g.flatten()
        hat = g * self.eps * self.counted.sqrt()
        miss, all_ = self.hessian - hat, self.hessian + self.prior
        self.momentum = BETA1 * self.momentum + (1 - BETA1) * g
        self.hessian = (BETA2 * self.hessian + (1 - BETA2) * hat +
                        0.5 * (1 - BETA2) ** 2 * miss ** 2 / all_)
        self.mean = self.mean - RATE * (
            self.momentum / (1 - BETA1 ** (step + 1)) + self.prior * (self.mean - self.start)
        ) / (self.hessian + self.prior)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fixture")
    parser.add_argument("--params", default="lora+head")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    model, _ = laplace.load_model(os.path.join(args.fixture, "base"),
                                  os.path.join(args.fixture, "adapter"))
    blocks = laplace.find_blocks(model, args.params)
    matrices = [Matrix(block) for block in blocks]
    rows = laplace.read_rows(os.path.join(args.fixture, "calib.jsonl"))
    each, nll, steps = len(rows) // STEPS, [], []
    for step in range(STEPS):
        part = rows[step * each:(step + 1) * each]
        for matrix in matrices:
            matrix.put(step, len(rows))
        total = 0
        for row in part:
            for block in blocks:
                block.uses.clear()
            ids = torch.tensor([row["input_ids"]])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            total = total - logits.log_softmax(-1)[row["label"]] / len(part)
        total.backward()
        nll.append(total.item())
        steps.append([step * each, (step + 1) * each])
        for matrix in matrices:
            matrix.update(step)
    found = {m.block.name: {"mean": m.mean[::EVERY].tolist(),
                            "hessian": m.hessian[::EVERY].tolist()} for m in matrices}
    with open(args.out, "w") as file:
        file.write(laplace.dumps(dict(steps=steps, rate=RATE, temper=TEMPER, hessian=HESSIAN,
                                      beta1=BETA1, beta2=BETA2, every=EVERY, nll=nll,
                                      blocks=found)) + "\n")


main()

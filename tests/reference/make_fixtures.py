#!/usr/bin/env python3
"""Write the tiny random checkpoints of tests/fixtures/parity and the numbers that
laplace_reference.py gives for them.

    python make_fixtures.py [--only NAME,NAME]

Seeded: the same library versions write the same bytes.  The folders in COPIES were not made here;
only expected_extra.json is written into those.  What dense_reference.py wrote (dense.json) stays.
"""

import argparse
import json
import os
import shutil

import torch

import fixtures_adapters
import fixtures_decoders
import fixtures_encoders
import fixtures_quantised
import laplace_reference as ref
from fixture_tools import PARITY, Random, expected

EVERY = ["lora", "lora+head", "head"]
COPIES = {
    **{name: EVERY for name in ("bert", "distilbert", "electra", "llama-seq", "modernbert",
                                "roberta")},
    **{name: ["lora"] for name in ("dora", "gemma2", "gpt2", "llama", "llama-head", "mistral",
                                   "qwen2", "qwen3")},
}
MADE = {**fixtures_encoders.MADE, **fixtures_decoders.MADE, **fixtures_adapters.MADE,
        **fixtures_quantised.MADE}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--only", type=lambda s: s.split(","), default=[*MADE, *COPIES])
    o = ap.parse_args()
    for name in o.only:
        folder = os.path.join(PARITY, name)
        if name in COPIES:
            with open(f"{folder}/expected.json") as f:
                given = json.load(f)
            result, file = expected(folder, COPIES[name],
                                    given["choice_ids"]), "expected_extra.json"
        else:
            make, seed = MADE[name]
            os.makedirs(folder, exist_ok=True)
            for part in ("base", "adapter"):
                shutil.rmtree(f"{folder}/{part}", ignore_errors=True)
            torch.manual_seed(seed)
            result, file = make(folder, Random(seed)), "expected.json"
        with open(f"{folder}/{file}", "w") as f:
            f.write(ref.dumps(result))


if __name__ == "__main__":
    main()

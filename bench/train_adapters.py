#!/usr/bin/env python3
"""Train the adapters that the table of the guard in bench/README.md is measured on.

They differ in task, classes, rank, target modules, rows and epochs: from
under-fitted to badly over-fitted; the last five were made to have biased
classes.  The rows are public data sets (SST-2, TREC, MPQA, movie-review
polarity, OpenBookQA) in one folder as JSON lines; they are read from there and
are not part of this project.  Needs

    pip install torch transformers peft

    bench/train_adapters.py --base all-MiniLM-L6-v2 --rows datasets --out adapters

For every adapter, OUT/NAME/ gets adapter/ (PEFT), calib.jsonl (exactly the rows
it was trained on), dev.jsonl (400 held-out rows, for choosing) and test.jsonl
(further held-out rows, for the table).  Everything is seeded; the same versions
of the packages give the same adapters.
"""
import argparse
import json
import math
import os
import random

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BASE_NAME = "all-MiniLM-L6-v2"  # stored in adapter_config.json, not the directory
DEV, TEST = 400, 1000
QV = ["query", "value"]
ATTENTION = ["query", "key", "value", "attention.output.dense"]
ALL = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]

# noise: share of labels, of all rows alike, replaced by one drawn at random
# shares: of the classes in the rows to train on; the rows held out have equal ones
# wrong: class, other class, share of the first's rows to train on that are labelled as the other;
#   the rows held out keep their labels
ADAPTERS = [
    dict(name="sst2-over", task="sst2", classes=2, rows=300, r=16,
         modules=["query", "key", "value"], epochs=20, lr=1e-3),
    dict(name="trec-over", task="trec", classes=6, rows=800, r=8, modules=ATTENTION, epochs=15,
         lr=1e-3),
    dict(name="mpqa", task="mpqa", classes=2, rows=1000, r=4, modules=QV, epochs=6, lr=1e-3),
    dict(name="trec-under", task="trec", classes=6, rows=2000, r=2, modules=["value"], epochs=1,
         lr=1e-3),
    dict(name="rt-all", task="rt", classes=2, rows=1000, r=8, modules=ALL, epochs=5, lr=5e-4,
         rslora=True),
    dict(name="source4", task="source4", classes=4, rows=1200, r=8, modules=QV, epochs=8, lr=1e-3),
    dict(name="noisy5", task="trec5", classes=5, rows=1000, r=8, modules=QV, epochs=15, lr=1e-3,
         noise=0.45),
    dict(name="sst2-well", task="sst2", classes=2, rows=2500, r=8, modules=QV, epochs=2, lr=5e-4),
    dict(name="obqa", task="obqa", classes=4, rows=500, r=8, modules=QV, epochs=6, lr=1e-3),
    dict(name="sst2-skew", task="sst2", classes=2, rows=1000, r=8, modules=QV, epochs=3, lr=1e-3,
         shares=[0.9, 0.1]),
    dict(name="trec5-skew", task="trec5", classes=5, rows=800, r=4, modules=["value"], epochs=2,
         lr=1e-3, shares=[0.5, 0.25, 0.13, 0.07, 0.05]),
    dict(name="trec-wrong", task="trec", classes=6, rows=500, r=8, modules=QV, epochs=3, lr=1e-3,
         wrong=(1, 0, 0.5)),
    dict(name="source4-under", task="source4", classes=4, rows=600, r=2, modules=QV, epochs=1,
         lr=5e-4),
    dict(name="mpqa-skew", task="mpqa", classes=2, rows=600, r=4, modules=["value"], epochs=3,
         lr=1e-3, shares=[0.08, 0.92]),
]


def read(folder, name):
    with open(os.path.join(folder, name + ".jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def question(row):
    """A multiple-choice question as one text; the class is the index of the answer."""
    options = " ".join(f"{'ABCD'[i]}) {c}" for i, c in enumerate(row["choices"]))
    return {"text": f"{row['question']} {options}", "label": "ABCD".index(row["answer"])}


def task_rows(folder, task):
    """(rows to train on, rows to hold out), no text in both."""
    if task == "sst2":
        return read(folder, "sst2-train"), read(folder, "sst2-dev") + read(folder, "sst2-test")
    if task == "trec":
        rows = read(folder, "trec-train")
        return rows, None
    if task == "trec5":  # without the rarest class
        rows = [r for r in read(folder, "trec-train") if r["label"] != 2]
        return [dict(r, label=r["label"] - (r["label"] > 2)) for r in rows], None
    if task == "obqa":
        held = [question(r) for name in ("obqa-dev", "obqa-test") for r in read(folder, name)]
        rows = [question(r) for r in read(folder, "obqa-train")]
        return rows[1000:], held + rows[:1000]
    if task == "source4":
        rows = [dict(r, label=r["label"] + 2 * i)
                for i, name in enumerate(("mpqa", "rt-polarity")) for r in read(folder, name)]
        return rows, None
    return read(folder, {"mpqa": "mpqa", "rt": "rt-polarity"}[task]), None


def with_shares(rows, shares, n):
    """The first rows of each class, as many of the n as its share says."""
    counts = [round(share * n) for share in shares]
    taken = []
    for row in rows:
        if counts[row["label"]]:
            counts[row["label"]] -= 1
            taken.append(row)
    return taken


def mislabelled(rows, wrong, rng):
    source, other, share = wrong
    return [dict(r, label=other) if r["label"] == source and rng.random() < share else r
            for r in rows]


def split(folder, spec, seed):
    rng = random.Random(f"{spec['name']} {seed}")
    rows, held = task_rows(folder, spec["task"])
    seen, unique = set(), []
    for row in rows:
        if row["text"] not in seen:
            seen.add(row["text"])
            unique.append(row)
    rng.shuffle(unique)
    own = held is None
    if own:
        held = unique
    else:
        held = [r for r in held if r["text"] not in seen]
        rng.shuffle(held)
    if "shares" in spec:
        held = with_shares(held, [1 / spec["classes"]] * spec["classes"], DEV + TEST)
        rng.shuffle(held)
    held = held[:DEV + TEST]
    if own:
        texts = {r["text"] for r in held}
        unique = [r for r in unique if r["text"] not in texts]
    if "shares" in spec:
        unique = with_shares(unique, spec["shares"], spec["rows"])
    unique = mislabelled(unique, spec["wrong"], rng) if "wrong" in spec else unique
    parts = [unique[:spec["rows"]], held[:DEV], held[DEV:DEV + TEST]]
    noise = spec.get("noise", 0)
    return [[{"text": r["text"], "label": rng.randrange(spec["classes"])
              if rng.random() < noise else r["label"]} for r in part] for part in parts]


def batches(tokenizer, rows, order, size):
    for start in range(0, len(order), size):
        pick = [rows[i] for i in order[start:start + size]]
        batch = tokenizer([r["text"] for r in pick], truncation=True, max_length=128,
                          padding=True, return_tensors="pt")
        yield batch, torch.tensor([r["label"] for r in pick])


def train(model, tokenizer, rows, spec, seed, size=16):
    """Plain mini-batch training; the learning rate falls linearly to zero."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=spec["lr"], weight_decay=0.01)
    steps = spec["epochs"] * math.ceil(len(rows) / size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 - s / steps)
    order, rng = list(range(len(rows))), random.Random(seed)
    model.train()
    for _ in range(spec["epochs"]):
        rng.shuffle(order)
        for batch, target in batches(tokenizer, rows, order, size):
            torch.nn.functional.cross_entropy(model(**batch).logits, target).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.no_grad()
def report(model, tokenizer, name, rows, bins=15):
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["text"]))
    logits, target = [], []
    for batch, labels in batches(tokenizer, rows, order, 64):
        logits.append(model(**batch).logits)
        target.append(labels)
    logp, target = torch.cat(logits).double().log_softmax(-1), torch.cat(target)
    conf, guess = logp.exp().max(-1)
    hit = (guess == target).double()
    where = (conf * bins).ceil().clamp(1, bins)
    ece = sum(abs((conf - hit)[where == b].sum().item()) for b in range(1, bins + 1)) / len(rows)
    nll = -logp.gather(1, target[:, None]).mean().item()
    print(f"  {name}: rows {len(rows)}  accuracy {hit.mean():.4f}  ECE {ece:.4f}  NLL {nll:.4f}",
          flush=True)


def make(spec, args):
    print(spec["name"], flush=True)
    torch.manual_seed(args.seed)
    parts = split(args.rows, spec, args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForSequenceClassification.from_pretrained(
        args.base, num_labels=spec["classes"], dtype=torch.float32)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=spec["r"], lora_alpha=2 * spec["r"],
                        lora_dropout=0.0, target_modules=spec["modules"],
                        use_rslora=spec.get("rslora", False))
    model = get_peft_model(model, config)  # SEQ_CLS also trains and saves the classifier
    train(model, tokenizer, parts[0], spec, args.seed)
    report(model, tokenizer, "train", parts[0])
    report(model, tokenizer, "test", parts[2])
    folder = os.path.join(args.out, spec["name"])
    os.makedirs(folder, exist_ok=True)
    for name, rows in zip(("calib", "dev", "test"), parts):
        with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    model.save_pretrained(os.path.join(folder, "adapter"), save_embedding_layers=False)
    readme = os.path.join(folder, "adapter", "README.md")  # a template that peft adds
    if os.path.exists(readme):
        os.remove(readme)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--base", required=True, help="directory of the base model")
    ap.add_argument("--rows", required=True, help="directory of the data sets")
    ap.add_argument("--out", required=True, help="directory to write the adapters to")
    ap.add_argument("--only", help="names, separated by commas")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    for spec in ADAPTERS:
        if not args.only or spec["name"] in args.only.split(","):
            make(spec, args)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Train the demo's LoRA adapter anew.

Only needed to make data/demo/adapter/ again: laplora itself and its demo use
the adapter that is stored there and need no Python.  Needs

    pip install torch transformers peft

and a directory with the base model all-MiniLM-L6-v2 (config.json,
model.safetensors and the tokenizer files), then for example

    python train_adapter.py --base all-MiniLM-L6-v2 --rows train.jsonl \
        --test test.jsonl --out adapter

The recipe is that of many small fine-tuning runs: cross-entropy, AdamW, a
linear schedule, no early stopping.  The adapter fits nearly all of its training
rows and is over-confident on new ones; that is the point of the demo.
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
LABELS = ["billing", "technical", "delivery", "cancellation", "account", "sales"]
MAX_LENGTH = 512


def read_rows(path):
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f if line.strip()]
    return [r["text"] for r in rows], [LABELS.index(r["label"]) for r in rows]


def train(model, tokenizer, texts, labels, args):
    """Plain mini-batch training; the learning rate falls linearly to zero."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=args.lr, weight_decay=0.01)
    steps = args.epochs * math.ceil(len(texts) / args.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 - s / steps)
    order = list(range(len(texts)))
    rng = random.Random(args.seed)
    model.train()
    for epoch in range(args.epochs):
        rng.shuffle(order)
        total = 0.0
        for start in range(0, len(order), args.batch):
            pick = order[start:start + args.batch]
            batch = tokenizer([texts[i] for i in pick], truncation=True,
                              max_length=MAX_LENGTH, padding=True, return_tensors="pt")
            target = torch.tensor([labels[i] for i in pick])
            loss = torch.nn.functional.cross_entropy(model(**batch).logits, target)
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(pick)
        print(f"epoch {epoch + 1:3d}  loss {total / len(order):.4f}", flush=True)


@torch.no_grad()
def predict(model, tokenizer, texts):
    """Logits, one text at a time and without padding."""
    model.eval()
    return torch.cat([model(**tokenizer(t, truncation=True, max_length=MAX_LENGTH,
                                        return_tensors="pt")).logits for t in texts])


def report(name, logits, labels, bins=15):
    """Accuracy, mean confidence, ECE with equal-width bins, and NLL."""
    logp = logits.double().log_softmax(-1)
    target = torch.tensor(labels)
    conf, guess = logp.exp().max(-1)
    hit = (guess == target).double()
    where = (conf * bins).ceil().long().clamp(1, bins)
    ece = sum(abs((conf - hit)[where == b].sum().item()) for b in range(1, bins + 1)) / len(labels)
    nll = -logp.gather(1, target[:, None]).mean().item()
    print(f"{name}: rows {len(labels)}  accuracy {hit.mean():.4f}  "
          f"mean confidence {conf.mean():.4f}  ECE {ece:.4f}  NLL {nll:.4f}")


def main():
    ap = argparse.ArgumentParser(description="Train the demo's LoRA adapter.")
    ap.add_argument("--base", required=True, help="directory of the base model")
    ap.add_argument("--rows", required=True, help="training rows (JSON lines)")
    ap.add_argument("--test", help="held-out rows, only to report on at the end")
    ap.add_argument("--out", required=True, help="directory to write the adapter to")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--epochs", type=int, default=15)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    texts, labels = read_rows(args.rows)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForSequenceClassification.from_pretrained(
        args.base, num_labels=len(LABELS), dtype=torch.float32)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.05,
                        target_modules=["query", "value"])
    model = get_peft_model(model, config)  # SEQ_CLS also trains and saves the classifier
    model.print_trainable_parameters()

    train(model, tokenizer, texts, labels, args)
    report("train", predict(model, tokenizer, texts), labels)
    if args.test:
        test_texts, test_labels = read_rows(args.test)
        report("test", predict(model, tokenizer, test_texts), test_labels)

    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    model.save_pretrained(args.out, save_embedding_layers=False)
    readme = os.path.join(args.out, "README.md")  # a template that peft adds
    if os.path.exists(readme):
        os.remove(readme)


if __name__ == "__main__":
    main()

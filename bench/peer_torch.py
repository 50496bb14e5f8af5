"""Peer of bench_demo: the same curvature and covariance in plain PyTorch + peft, as the published
Laplace-LoRA code computes them: padded batches, hooks on every LoRA matrix, one backward pass a
class. f32, the same threads. It is here for comparison; its result is not used."""
import argparse
import json
import resource
import time

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

parser = argparse.ArgumentParser()
for name in ("base", "adapter", "train", "test", "labels"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--careful", action="store_true",
                    help="sorted by length, a backward pass a contrast, shared inputs summed once")
args = parser.parse_args()
torch.set_num_threads(args.threads)

labels = args.labels.split(",")
tokenizer = AutoTokenizer.from_pretrained(args.base)
model = AutoModelForSequenceClassification.from_pretrained(args.base, num_labels=len(labels))
model = PeftModel.from_pretrained(model, args.adapter).eval()
for parameter in model.parameters():
    parameter.requires_grad_(False)
sites = {name: module for name, module in model.named_modules()
         if isinstance(module, torch.nn.Linear) and (".lora_A." in name or ".lora_B." in name)}
for module in sites.values():
    module.weight.requires_grad_(True)  # so that autograd reaches the adapters
seen = {}


def forward_hook(name):
    def hook(module, inputs, output):
        seen[name] = [inputs[0].detach(), None]
        if output.requires_grad:
            output.register_hook(lambda grad: seen[name].__setitem__(1, grad))
    return hook


for name, module in sites.items():
    module.register_forward_hook(forward_hook(name))


def read(path):
    return [json.loads(line)["text"] for line in open(path, encoding="utf-8")]


def batches(texts):
    if args.careful:
        texts = sorted(texts, key=len)
    for at in range(0, len(texts), args.batch):
        yield tokenizer(texts[at:at + args.batch], padding=True, truncation=True,
                        return_tensors="pt")


def fisher_columns(p):
    """S with S S^T = diag(p) - p p^T: a column a class, or one less."""
    if not args.careful:
        return [p[:, c:c + 1].sqrt() * (torch.nn.functional.one_hot(torch.tensor(c), classes) - p)
                for c in range(classes)]
    columns, rest = [], p.flip(1).cumsum(1).flip(1)
    for c in range(classes - 1):
        column = -p * (p[:, c:c + 1] / (rest[:, c:c + 1] * rest[:, c + 1:c + 2])).sqrt()
        column[:, :c] = 0
        column[:, c] = (p[:, c] * rest[:, c + 1] / rest[:, c]).sqrt()
        columns.append(column)
    return columns


def backward(logits, cotangent, keep):
    # gradients with respect to activations only: nothing is accumulated into the weights
    torch.autograd.grad(logits, [module.weight for module in sites.values()], cotangent,
                        retain_graph=keep)


train, test = read(args.train), read(args.test)
classes = len(labels)
start, used = time.monotonic(), time.process_time()
factors = {name: [torch.zeros(m.in_features, m.in_features, dtype=torch.float64),
                  torch.zeros(m.out_features, m.out_features, dtype=torch.float64)]
           for name, m in sites.items()}
tokens = 0
for batch in batches(train):
    mask = batch["attention_mask"].unsqueeze(-1)
    tokens += int(mask.sum())
    logits = model(**batch).logits
    p = logits.detach().softmax(-1)
    columns = fisher_columns(p)
    for c, column in enumerate(columns):
        backward(logits, column, c + 1 < len(columns))
        sums = {}  # of inputs that several matrices share
        for name, (x, g) in seen.items():
            if c == 0:
                key = x.data_ptr() if args.careful else name
                if key not in sums:
                    rows = (x * mask).flatten(0, 1)
                    sums[key] = (rows.T @ rows).double()
                factors[name][0] += sums[key]
            g = (g * mask).flatten(0, 1)
            factors[name][1] += (g.T @ g).double()
fit_seconds, fit_cpu = time.monotonic() - start, time.process_time() - used
basis = {name: [torch.linalg.eigh(f) for f in pair] for name, pair in factors.items()}
basis = {name: [(e.float().clamp(min=0), v.float()) for e, v in pair]
         for name, pair in basis.items()}

start, used = time.monotonic(), time.process_time()
for batch in batches(test):
    mask = batch["attention_mask"].unsqueeze(-1)
    logits = model(**batch).logits
    rotated = {name: [] for name in sites}
    contrasts = classes - 1 if args.careful else classes
    for c in range(contrasts):
        one = torch.nn.functional.one_hot(torch.tensor(c), classes).float()
        one[classes - 1] -= 1.0 if args.careful else 0.0
        backward(logits, one.expand_as(logits), c + 1 < contrasts)
        for name, (x, g) in seen.items():
            jacobian = torch.einsum("nto,nti->noi", g * mask, x)
            (_, va), (_, vs) = basis[name]
            rotated[name].append(vs.T @ jacobian @ va)
    covariance = 0
    for name, parts in rotated.items():
        (a, _), (s, _) = basis[name]
        j = torch.stack(parts, 1)
        covariance = (covariance + torch.einsum("ncoi,ndoi->ncd",
                                                j / (s[:, None] * a[None] / tokens + 10), j))
    noise = torch.linalg.cholesky(covariance + 1e-5 * torch.eye(contrasts))
    noise = torch.nn.functional.pad(noise, (0, 0, 0, classes - contrasts))
    draws = (logits.detach()[None] + torch.einsum("ncd,snd->snc", noise,
                                                  torch.randn(1000, len(logits), contrasts)))
    draws.softmax(-1).mean(0)
predict_seconds, predict_cpu = time.monotonic() - start, time.process_time() - used
print(json.dumps({"fit": {"rows": len(train), "seconds": fit_seconds, "cpu": fit_cpu},
                  "predict": {"rows": len(test), "seconds": predict_seconds, "cpu": predict_cpu},
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))

#!/usr/bin/env python3
"""Peer of gpu_7b: curvature, eigenbases and covariance of a LoRA adapter on a causal LM in plain
PyTorch + peft, as the published Laplace-LoRA code computes them: hooks on every LoRA matrix, one
backward pass a class with the graph retained, x.T @ x for each factor, torch.linalg.eigh, and for
predictions each row's Jacobian, rotated. Factors and adapter are f32, the base is bf16 (f32 with
--dtype f32). It is here for comparison; its result is not used.

usage: bench/peer_torch_gpu.py --base DIR --adapter DIR --calib FILE --test FILE
                               --choice-ids N,N,.. [--rows 64]
           one JSON object: seconds of the rows it ran, and milliseconds a row, from which a larger
           set is extrapolated
       bench/peer_torch_gpu.py --gemm
           the card's own rate of a bf16 product, without tensors of any model

Rows must be equally long (gpu_7b's are), so that nothing is padded. Loading and one batch to warm
up are not timed."""
import argparse
import json
import resource
import sys
import time

import torch

parser = argparse.ArgumentParser(description="Laplace-LoRA in plain PyTorch + peft, to be measured "
                                             "against")
for name in ("base", "adapter", "calib", "test", "choice-ids"):
    parser.add_argument("--" + name)
parser.add_argument("--rows", type=int, default=64,
                    help="rows of each file that are run (default 64)")
parser.add_argument("--batch", type=int, default=16, help="rows at a time; halved where memory "
                                                          "runs out (default 16)")
parser.add_argument("--samples", type=int, default=1000)
parser.add_argument("--device", default="cuda")
parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16",
                    help="of the base (default bf16)")
parser.add_argument("--tf32", action="store_true", help="f32 products by TF32; the published code "
                                                        "leaves this off")
parser.add_argument("--threads", type=int)
parser.add_argument("--gemm", action="store_true",
                    help="only measure a product of 8192 x 8192 matrices")
args = parser.parse_args()
device = torch.device(args.device)
if device.type == "cuda" and not torch.cuda.is_available():
    sys.exit("this PyTorch sees no CUDA device")
if args.threads:
    torch.set_num_threads(args.threads)
if args.tf32:
    torch.set_float32_matmul_precision("high")


def now():
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def gemm_rate(n=8192, repeats=20, rounds=5):
    """TFLOP/s of a bf16 product, the best of some rounds."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    best = float("inf")
    for _ in range(rounds):
        start = now()
        for _ in range(repeats):
            torch.matmul(a, b, out=out)
        best = min(best, (now() - start) / repeats)
    return 2 * n ** 3 / best / 1e12


if args.gemm:
    print(f"bf16 8192 {gemm_rate():.1f} TFLOP/s")
    sys.exit()
if not all((args.base, args.adapter, args.calib, args.test, args.choice_ids)):
    parser.error("--base, --adapter, --calib, --test and --choice-ids are needed")

import peft  # noqa: E402
import transformers  # noqa: E402

dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
model = transformers.AutoModelForCausalLM.from_pretrained(args.base, torch_dtype=dtype)
model = peft.PeftModel.from_pretrained(model, args.adapter).to(device).eval()
for parameter in model.parameters():
    parameter.requires_grad_(False)
sites = {name: module for name, module in model.named_modules()
         if isinstance(module, torch.nn.Linear) and (".lora_A." in name or ".lora_B." in name)}
weights = [module.weight for module in sites.values()]
for weight in weights:
    weight.requires_grad_(True)  # so that autograd reaches the adapters
choices = torch.tensor([int(choice) for choice in args.choice_ids.split(",")], device=device)
classes = len(choices)
seen = {}  # by site: input [n, t, in] and output's cotangent [n, t, out] of the last pass


def hook_of(name):
    def hook(module, inputs, output):
        seen[name] = [inputs[0].detach(), None]
        output.register_hook(lambda grad: seen[name].__setitem__(1, grad.detach()))
    return hook


for name, module in sites.items():
    module.register_forward_hook(hook_of(name))


def read(path):
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line)["input_ids"] for line in file]
    if len({len(row) for row in rows}) != 1:
        sys.exit(f"{path}: rows of different lengths; this peer does not pad")
    return torch.tensor(rows[:args.rows], device=device), len(rows)


def passes(ids, cotangents_of):
    """One forward and a backward for each class: yields the class and the logits while `seen` has
    the pass."""
    logits = model(input_ids=ids, use_cache=False).logits[:, -1].index_select(-1, choices).float()
    cotangents = cotangents_of(logits.detach())
    for c in range(classes):
        torch.autograd.grad(logits, weights, cotangents[c], retain_graph=c + 1 < classes)
        yield c, logits.detach()


def fisher(logits):
    """[classes][n, classes]: rows of a square root of diag(p) - p p^T"""
    p = logits.softmax(-1)
    eye = torch.eye(classes, device=device)
    return [p[:, c:c + 1].sqrt() * (eye[c] - p) for c in range(classes)]


def unit(logits):
    return [row.expand_as(logits).contiguous() for row in torch.eye(classes, device=device)]


def new_factors():
    return {name: [torch.zeros(n, n, device=device)
                   for n in (module.in_features, module.out_features)]
            for name, module in sites.items()}


def fit(rows, batch, factors):
    for at in range(0, len(rows), batch):
        for c, _ in passes(rows[at:at + batch], fisher):
            for name, (x, g) in seen.items():
                if c == 0:
                    x = x.flatten(0, 1).float()
                    factors[name][0] += x.T @ x
                g = g.flatten(0, 1).float()
                factors[name][1] += g.T @ g


def decompose(factors):
    """{site: [(values, vectors) of the input, of the output]}; takes the factors away one by one"""
    basis = {}
    for name in list(factors):
        pairs = [torch.linalg.eigh(factor) for factor in factors.pop(name)]
        basis[name] = [(values.clamp(min=0), vectors) for values, vectors in pairs]
    return basis


def predict(rows, batch, basis, tokens, prior=10.0):
    answers = []
    for at in range(0, len(rows), batch):
        rotated = {name: [] for name in sites}
        for _, logits in passes(rows[at:at + batch], unit):
            for name, (x, g) in seen.items():
                jacobian = torch.einsum("nto,nti->noi", g.float(), x.float())
                (_, inner), (_, outer) = basis[name]
                rotated[name].append(outer.T @ jacobian @ inner)
        covariance = 0
        for name, parts in rotated.items():
            (a, _), (s, _) = basis[name]
            j = torch.stack(parts, 1)
            scaled = j / (s[:, None] * a[None] / tokens + prior)
            covariance = covariance + torch.einsum("ncoi,ndoi->ncd", scaled, j)
        eye = torch.eye(classes, device=device)
        scale = covariance.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]
        noise = torch.linalg.cholesky(covariance + (1e-5 + 1e-4 * scale) * eye)
        draws = (logits + torch.einsum("ncd,snd->snc", noise,
                                       torch.randn(args.samples, *logits.shape, device=device)))
        answers.append(draws.softmax(-1).mean(0).cpu())
    return torch.cat(answers)


def measure(calib, test, batch):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    factors = new_factors()
    fit(calib[:batch], batch, factors)  # to warm up; its sums are thrown away
    torch.linalg.eigh(torch.eye(64, device=device))
    for pair in factors.values():
        for factor in pair:
            factor.zero_()
    start = now()
    fit(calib, batch, factors)
    fitted = now()
    traces = [sum(float(pair[side].trace()) for pair in factors.values()) for side in (0, 1)]
    traced = now()
    basis = decompose(factors)
    decomposed = now()
    predict(test[:batch], batch, basis, calib.numel())
    warm = now()
    answers = predict(test, batch, basis, calib.numel())
    end = now()
    if not torch.isfinite(answers).all():
        sys.exit("the peer's probabilities are not finite")
    return fitted - start, decomposed - traced, end - warm, traces


calib, calib_rows = read(args.calib)
test, test_rows = read(args.test)
batch = args.batch
while True:
    try:
        times = measure(calib, test, batch)
        break
    except torch.cuda.OutOfMemoryError:
        if batch == 1:
            raise
        oom = batch
    # outside the handler, whose traceback holds the tensors
    seen.clear()
    torch.cuda.empty_cache()
    batch = oom // 2
    print(f"out of memory with {oom} rows at a time, trying {batch}", file=sys.stderr)

fit_seconds, decompose_seconds, predict_seconds, traces = times
if device.type == "cuda":
    peak = torch.cuda.max_memory_reserved(device) / 2 ** 20
    card = torch.cuda.get_device_name(device)
else:
    peak, card = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "cpu"
n, m = len(calib), len(test)
print(json.dumps({
    "fit_seconds": fit_seconds, "decompose_seconds": decompose_seconds,
    "predict_seconds": predict_seconds, "rows": n, "fit_ms_per_row": 1000 * fit_seconds / n,
    "predict_ms_per_row": 1000 * predict_seconds / m, "all_rows": calib_rows,
    "fit_seconds_all_rows": fit_seconds * calib_rows / n,
    "predict_seconds_all_rows": predict_seconds * test_rows / m,
    "extrapolated": f"*_all_rows: by rows, from {n} of {calib_rows} and {m} of {test_rows}",
    "trace_in": traces[0], "trace_out": traces[1],
    "peak_memory_mib": peak, "batch": batch, "dtype": args.dtype, "tf32": args.tf32, "device": card,
    "torch": torch.__version__, "peft": peft.__version__,
    "transformers": transformers.__version__}))

#!/usr/bin/env python3
"""Independent float64 reference of the Laplace approximation over LoRA adapters.

Loads a base model and its adapter with transformers + peft, runs row by row in float64, takes the
inputs and output gradients of every block with hooks and torch.autograd, builds every H = (1/R) A
kron G as one dense matrix and inverts it as one dense matrix.  No eigenbasis trick, no closed form
of a gradient, no batching: slow, short and meant to be read.

    python laplace_reference.py --base DIR --adapter DIR --calib FILE --test FILE
           [--choice-ids 3,5,7] [--params lora|lora+head|head] [--out FILE] [--check EXPECTED.json]

R counts the real tokens for every adapter block, also for one that is applied to one token of a row
(a pooler) or to more than the tokens (the projections of a DeBERTa, which the relative positions
share: the lines of that table between a row's extreme distances enter the sums as its tokens do);
reduce takes the mean over all of a row's inputs.

Virtual tokens (prompt tuning; the keys and the values of every layer in prefix tuning) are a matrix
[d, n] that is applied to the n unit vectors in every row: the output of token j is its embedding.
Their R counts these: n for every row.

Token classification (TOKEN_CLS): every labelled token is a row of its own, a "unit", which repeats
the tokens of its row and whose logits are those at its place.  N counts units, and R the tokens of
every unit's row, so that a row with k labelled tokens counts its tokens k times.  A layer of the
head has one token per unit, also under LoRA: the unit's.

A weight W [out, in] is flattened row by row, so its Kronecker factors are in the order kron(G
[out,out], A [in,in]).
"""

import argparse
import contextlib
import json
import math
import os
import re

import numpy as np
import torch
from scipy.optimize import brentq, root
from scipy.stats import qmc, norm as gaussian

import adapters_library
import dequantise
import strict_float64

F64 = torch.float64
SET_NAMES = ("sport", "money", "health", "travel")  # classes of the fixtures whose labels are sets
MC_POINTS = 1 << 16  # scrambled Sobol points for mc_probs; the scramble is seeded


# -------------------------------------------------------------------------------------------- model


def load_model(base, adapter, float32_islands=False):
    import tempfile
    import transformers
    from peft import PeftModel
    from safetensors import safe_open

    if dequantise.is_quantised(base):
        with tempfile.TemporaryDirectory() as plain:
            dequantise.unpack_base(base, plain)
            return load_model(plain, adapter, float32_islands)
    transformers.logging.set_verbosity_error()
    if not float32_islands:
        strict_float64.make_strict_float64()
    plain = adapters_library.is_of_library(adapter)
    names = several_names(adapter)
    with open(os.path.join(adapter, names[-1] if names else "", "adapter_config.json")) as f:
        stored = json.load(f)
    task = (stored["task_type"] if not plain else "SEQ_CLS"
            if "SequenceClassification" in stored["model_class"] else "CAUSAL_LM")
    model_type = transformers.AutoConfig.from_pretrained(base).model_type
    kw = dict(dtype=F64,
              attn_implementation=strict_float64.attention_name(model_type, float32_islands))
    if task == "SEQ_CLS":
        rows = []
        for name in names or [""]:
            with safe_open(os.path.join(adapter, name, "model_head.safetensors" if plain
                                        else "adapter_model.safetensors"), "pt") as s:
                rows += [s.get_slice(k).get_shape()[0] for k in s.keys()
                         if re.search(r"(classifier|classifier\.out_proj|score)\.weight$", k)]
        if rows:
            kw["num_labels"] = rows[0]
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base, **kw)
    elif task == "CAUSAL_LM":
        model = transformers.AutoModelForCausalLM.from_pretrained(base, **kw)
    elif task == "TOKEN_CLS":
        with safe_open(os.path.join(adapter, "adapter_model.safetensors"), "pt") as s:
            rows = [s.get_slice(k).get_shape()[0] for k in s.keys()
                    if k.endswith("classifier.weight")]
        if rows:
            kw["num_labels"] = rows[0]
        model = transformers.AutoModelForTokenClassification.from_pretrained(base, **kw)
    else:
        raise SystemExit(f"task type {task} is not in this reference")
    if plain:
        model = adapters_library.attach(model, adapter, lambda name, weight, virtual=0: Block(
            name, weight, virtual=virtual))
    elif names:
        model = load_several(model, adapter, names)
    else:
        model = PeftModel.from_pretrained(model, adapter)
    model = model.double().eval()
    if is_encoder_prefix(model):
        prompt_blocks(model, model.peft_config["default"])
    if not float32_islands:
        strict_float64.finish(model)
    for p in model.parameters():
        p.requires_grad_(False)
    return model, task


def several_names(adapter):
    """The names of adapters in subfolders that are used at once, in that order (adapters.txt beside
    them); none: a single adapter."""
    path = os.path.join(adapter, "adapters.txt")
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return f.read().strip().split(",")


def load_several(model, adapter, names):
    """LoRA and IA3 one around the other, in the order of the names: what PEFT does where one
    tuner's layer is the base layer of the next."""
    from safetensors.torch import load_file

    model.several = []
    for name in names:
        with open(os.path.join(adapter, name, "adapter_config.json")) as f:
            config = json.load(f)
        tensors = load_file(os.path.join(adapter, name, "adapter_model.safetensors"))
        for key in sorted(tensors):
            short, weight = key.removeprefix("base_model.model."), tensors[key].to(F64)
            if short.endswith(".lora_A.weight"):
                place = short.removesuffix(".lora_A.weight")
                a = Block(f"{place}.lora_A.{name}", weight)
                b = Block(f"{place}.lora_B.{name}",
                          tensors[key.replace("lora_A", "lora_B")].to(F64))
                shift = tensors.get(key.replace("lora_A.weight", "lora_B.bias"),
                                    torch.zeros(1)).to(F64)
                module, scale = model.get_submodule(place), config["lora_alpha"] / config["r"]
                module.forward = lambda x, f=module.forward, a=a, b=b, c=shift, s=scale: (
                    f(x) + s * (b.apply(a.apply(x)) + c))
                model.several += [a, b]
            elif short.endswith(".ia3_l"):
                place = short.removesuffix(".ia3_l")
                module = model.get_submodule(place)
                vector = Block(f"{short}.{name}", weight.reshape(-1, 1))
                inputs = any(place.endswith(f".{end}") for end in config["feedforward_modules"])

                def forward(x, f=module.forward, vector=vector, inputs=inputs):
                    factor = vector.apply(torch.ones(*x.shape[:-1], 1, dtype=F64))
                    return f(x * factor) if inputs else f(x) * factor

                module.forward = forward
                model.several.append(vector)
            elif ".lora_B." not in short:  # a trained parameter of the base
                model.load_state_dict({short: weight}, strict=False)
    return model


class Block:
    """One trained matrix: its name as laplora calls it, whether it is a dense head layer, whether
    DoRA uses it, and to how many virtual tokens it is applied in a row."""

    def __init__(self, name, weight, bias=None, head=False, dora=False, virtual=0):
        self.name, self.head, self.dora, self.virtual = name, head, dora, virtual
        self.weight = weight.requires_grad_(True)
        self.bias = None if bias is None else bias.requires_grad_(True)
        # (input, output) of every time that this row's forward pass applied the matrix
        self.uses = []

    def watch(self, module):
        module.register_forward_hook(
            lambda module, args, output: self.uses.append((args[0], output)))
        return self

    def apply(self, x):
        self.uses.append((x, x @ self.weight.T))
        return self.uses[-1][1]

    def is_table(self, use):
        """Whether this use of the matrix is not on the row's tokens but on a fixed table, of which
        a row reads only some lines.

        The identity by which PEFT's DoRA takes the product B A comes first and is not read at all;
        the relative positions of a DeBERTa come after the tokens, or alone in a projection of their
        own."""
        if self.dora:
            return use == 0
        return use > 0 or re.search(r"\.pos_(key|query)_proj\.", self.name) is not None

    def theta(self):
        """[out, in] or, with a bias, [out, in + 1] (the bias is the weight of an input that is
        always 1)."""
        w = self.weight.detach()
        return w if self.bias is None else torch.cat((w, self.bias.detach()[:, None]), 1)


def embedding_blocks(name, module):
    """LoRA on an embedding: A reads the one-hot vector of the token.  A scale of the embedding
    holds for the product too."""
    a = Block(f"{name}.lora_embedding_A", module.lora_embedding_A["default"])
    b = Block(f"{name}.lora_embedding_B", module.lora_embedding_B["default"])
    base = module.base_layer
    scale = module.scaling["default"] * getattr(base, "scalar_embed_scale", 1.0)

    def forward(ids):
        one_hot = torch.nn.functional.one_hot(ids, base.num_embeddings).to(F64)
        return base(ids) + b.apply(a.apply(one_hot)) * scale

    module.forward = forward
    return [a, b]


def adalora_blocks(name, module):
    """AdaLoRA: B diag(E) A with E held, times alpha (not alpha / r) over the rank + 1e-5."""
    a = Block(f"{name}.lora_A", module.lora_A["default"])
    b = Block(f"{name}.lora_B", module.lora_B["default"])
    e = module.lora_E["default"].flatten()
    scale = module.scaling["default"] / (module.ranknum["default"] + 1e-5)
    module.forward = lambda x: module.base_layer(x) + b.apply(a.apply(x) * e) * scale
    return [a, b]


def ia3_block(name, module):
    """IA3: the vector is a column whose input is 1 at every token; it multiplies the outputs (bias
    too) or, of a feed-forward layer, the inputs."""
    vector = Block(f"{name}.ia3_l", module.ia3_l["default"].detach().reshape(-1, 1).clone())

    def forward(x):
        factor = vector.apply(torch.ones(*x.shape[:-1], 1, dtype=F64))
        return (module.base_layer(x * factor) if module.is_feedforward
                else module.base_layer(x) * factor)

    module.forward = forward
    return [vector]


def vera_blocks(name, module):
    """VeRA: two vectors, columns whose input is 1 at every token, around the beginning of a frozen
    pair."""
    d, b = (Block(f"{name}.{part}",
                  getattr(module, part)["default"].detach().reshape(-1, 1).clone())
            for part in ("vera_lambda_d", "vera_lambda_b"))
    wide_a, wide_b = module.vera_A["default"], module.vera_B["default"]

    def forward(x):
        one = torch.ones(*x.shape[:-1], 1, dtype=F64)
        reduced = d.apply(one) * (x @ wide_a[:, : module.in_features].T)
        return module.base_layer(x) + b.apply(one) * (reduced @ wide_b[: module.out_features].T)

    module.forward = forward
    return [d, b]


def magnitude_blocks(name, module):
    """DoRA with its magnitudes as one more block: their input is 1 at every token, and they
    multiply the product over the norms, which are held."""
    a, b = module.lora_A["default"], module.lora_B["default"]
    base, scale = module.base_layer, module.scaling["default"]
    blocks = [Block(f"{name}.lora_A", a.weight), Block(f"{name}.lora_B", b.weight)]
    vector = Block(f"{name}.lora_magnitude_vector",
                   module.lora_magnitude_vector["default"].weight.detach().reshape(-1, 1).clone())
    weight = base.weight.T if module.fan_in_fan_out else base.weight
    norm = (weight + scale * b.weight @ a.weight).norm(dim=1).detach()

    def forward(x):
        product = (x @ weight.T + scale * blocks[1].apply(blocks[0].apply(x))) / norm
        y = product * vector.apply(torch.ones(*x.shape[:-1], 1, dtype=F64))
        return y if base.bias is None else y + base.bias

    module.forward = forward
    return [*blocks, vector]


def prompt_blocks(model, config):
    """Prompt and prefix tuning: the columns of the stored table [n, ..] are one block, or a key and
    a value for every layer."""
    encoder = model.prompt_encoder["default"]
    table = encoder.embedding.weight.detach()
    n = len(table)
    config.inference_mode = False  # else PEFT takes the table past its module
    if config.peft_type != "PREFIX_TUNING":
        names, parts = ["prompt_embeddings"], [table]
    else:
        names = [f"prompt_embeddings.{layer}.{part}" for layer in range(config.num_layers)
                 for part in ("key", "value")]
        parts = table.chunk(len(names), 1)
    blocks = [Block(name, part.T.clone(), virtual=n) for name, part in zip(names, parts)]
    if is_encoder_prefix(model):
        hang_prefix(model, blocks, config)
        return blocks
    encoder.forward = lambda tokens: torch.cat([b.apply(torch.eye(n, dtype=F64)) for b in blocks],
                                               1)[None]
    return blocks


def is_encoder_prefix(model):
    """PEFT's prefix of a BERT."""
    config = getattr(model, "peft_config", {}).get("default")
    return (config is not None and config.peft_type == "PREFIX_TUNING"
            and hasattr(model.base_model, "bert"))


def hang_prefix(model, blocks, config):
    """Keys and values in an encoder, which gets no cache any more: its positions begin behind them,
    as with one."""
    n, heads = config.num_virtual_tokens, config.num_attention_heads
    for i, layer in enumerate(model.base_model.bert.encoder.layer):
        pair = blocks[2 * i : 2 * i + 2]
        layer.attention.self.prefix = lambda pair=pair: [
            b.apply(torch.eye(n, dtype=F64)).reshape(n, heads, -1).transpose(0, 1) for b in pair]
    model.forward = lambda input_ids, attention_mask: model.base_model(
        input_ids, position_ids=n + torch.arange(input_ids.shape[1])[None])


def library_blocks(model, params):
    """LoRA and prefixes; down and up of bottlenecks with their biases; the head where the adapter's
    folder has one."""
    blocks = [*model.library_blocks] if "lora" in params.split("+") else []
    if "lora" in params.split("+"):
        for place, adapter in model.bottlenecks.items():
            for part in ("adapter_down", "adapter_up"):
                module = getattr(adapter, part)
                blocks.append(Block(f"{place.replace('/', '.')}.{part}", module.weight,
                                    module.bias).watch(module))
    if "head" in params.split("+"):
        blocks += [Block(name, module.weight, module.bias, head=True).watch(module)
                   for name, module in model.trained_head.items()]
    return blocks


def find_blocks(model, params):
    if hasattr(model, "bottlenecks"):
        return library_blocks(model, params)
    if hasattr(model, "several"):
        return model.several
    config = model.peft_config["default"]
    blocks = ([*prompt_blocks(model, config)] if config.is_prompt_learning
              and "lora" in params.split("+") else [])
    for name, module in model.named_modules():
        short = name.removeprefix("base_model." if config.is_prompt_learning
                                  else "base_model.model.")
        if "lora" in params.split("+"):
            if "magnitude" in params.split("+"):
                if "default" in getattr(module, "lora_magnitude_vector", {}):
                    blocks += magnitude_blocks(short, module)
            elif isinstance(module, torch.nn.Linear) and re.search(r"\.lora_[AB]\.default$", short):
                blocks.append(Block(short.removesuffix(".default"), module.weight,
                                    dora=getattr(config, "use_dora", False)).watch(module))
            elif "default" in getattr(module, "lora_embedding_A", {}):
                blocks += embedding_blocks(short, module)
            elif config.peft_type == "ADALORA" and hasattr(module, "lora_E"):
                blocks += adalora_blocks(short, module)
            elif config.peft_type == "IA3" and hasattr(module, "ia3_l"):
                blocks += ia3_block(short, module)
            elif config.peft_type == "VERA" and hasattr(module, "vera_lambda_d"):
                blocks += vera_blocks(short, module)
        if ("head" in params.split("+") and ".modules_to_save.default" in short
            and isinstance(module, torch.nn.Linear)):
            blocks.append(Block(short.replace(".modules_to_save.default", ""), module.weight,
                                module.bias, head=True).watch(module))
    if not blocks:
        raise SystemExit(f"no block for --params {params}")
    return blocks


def read_rows(path):
    """The rows; one with a list of labels becomes a row for every label that is not -100."""
    with open(path) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    return [unit for row in rows for unit in units(row)]


def units(row):
    if "labels" not in row:
        return [row]
    return [{"input_ids": row["input_ids"], "place": t, "label": c}
            for t, c in enumerate(row["labels"]) if c != -100]


def lines_read(config, length):
    """The lines of a DeBERTa's table between the extreme distances of a row, whether or not the
    logits read all of them."""
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    most = (config.max_relative_positions if config.max_relative_positions >= 1
            else config.max_position_embeddings)
    span = config.position_buckets if config.position_buckets > 0 else most
    ends = torch.tensor([1 - length, length - 1])
    if config.position_buckets > 0:
        ends = make_log_bucket_position(ends, config.position_buckets, most).long()
    first, last = (ends + span).clamp(0, 2 * span - 1).tolist()
    return slice(first, last + 1)


def run_row(model, blocks, row, task, choice_ids, check=True, strict=False):
    """Logits [C], and per block: inputs a [T, in], output gradients g [C, T, out], Jacobian J [C,
    out, in]."""
    ids = torch.tensor([row["input_ids"]])
    for b in blocks:
        b.uses.clear()
    with strict_float64.Float64Only() if strict else contextlib.nullcontext():
        # PEFT would lengthen a mask by float32 ones for the virtual tokens of a prompt
        prompted = not hasattr(model, "several") and model.peft_config["default"].is_prompt_learning
        mask = None if prompted else torch.ones_like(ids)
        logits = model(input_ids=ids, attention_mask=mask).logits
    if task == "TOKEN_CLS":
        logits = logits[0, row["place"]]
    else:
        logits = logits[0, -1, choice_ids] if task == "CAUSAL_LM" else logits[0]
    assert logits.dtype == F64
    wanted = [t for b in blocks
              for t in [y for _, y in b.uses] + [b.weight] + ([] if b.bias is None else [b.bias])]
    if not wanted:
        return logits.detach(), []
    per_class = [torch.autograd.grad(f, wanted, retain_graph=True, allow_unused=True)
                 for f in logits]
    per_class = [[torch.zeros_like(w) if g is None else g for w, g in zip(wanted, grads)]
                 for grads in per_class]
    result, at = [], 0
    for b in blocks:
        a, g = [], []
        for use, (x, y) in enumerate(b.uses):
            gradient = torch.stack([pc[at + use].reshape(-1, y.shape[-1]) for pc in per_class])
            x = x.detach().reshape(-1, x.shape[-1])
            if b.is_table(use):
                read = (lines_read(model.config, len(row["input_ids"])) if gradient.abs().sum() > 0
                        else slice(0))
                unread = gradient.abs().sum(dim=(0, 2))
                unread[read] = 0
                assert (unread == 0).all()
                x, gradient = x[read], gradient[:, read]
            a.append(x)
            g.append(gradient)
        a, g = torch.cat(a), torch.cat(g, 1)
        at += len(b.uses)
        jac = torch.stack([pc[at] for pc in per_class])
        at += 1
        if b.head or task == "TOKEN_CLS" and re.match(r"(head|classifier)\b", b.name):
            # a head layer has one token per row: the one that the logits read (every other gradient
            # is zero)
            used = torch.nonzero(g.abs().sum(dim=(0, 2))).flatten().tolist()
            assert len(used) == 1, f"{b.name}: the logits read {len(used)} positions"
            a, g = a[used], g[:, used]
        if b.bias is not None:
            a = torch.cat((a, torch.ones(len(a), 1, dtype=F64)), 1)
            jac = torch.cat((jac, torch.stack([pc[at] for pc in per_class])[:, :, None]), 2)
            at += 1
        if check:  # the two routes to the Jacobian (hooks, parameter gradient) agree
            torch.testing.assert_close(torch.einsum("cto,ti->coi", g, a), jac, rtol=1e-9,
                                       atol=1e-11)
        result.append((a, g, jac))
    return logits.detach(), result


# ---------------------------------------------------------------------------------------- curvature


def sqrt_lambda(p):
    """S with S S^T = diag(p) - p p^T, exactly: S = (I - p 1^T) diag(sqrt p)."""
    c = len(p)
    spread = torch.eye(c, dtype=F64) - p[:, None] @ torch.ones(1, c, dtype=F64)
    return spread @ torch.diag(p.sqrt())


def is_set(row):
    """Whether the label is any number of the classes: the problem type
    multi_label_classification."""
    return isinstance(row.get("label"), list)


def label_set(row, n_classes):
    """[C] of 0 or 1, of a label that is such a vector of floats or a list of names."""
    label = row["label"]
    if label and isinstance(label[0], float):
        return torch.tensor(label, dtype=F64)
    return torch.tensor([float(name in label) for name in SET_NAMES[:n_classes]], dtype=F64)


def curvature(model, blocks, rows, task, choice_ids, kron, run=run_row):
    sums = [[0.0, 0.0] for _ in blocks]
    n_tokens, log_likelihood = 0, 0.0
    for row in rows:
        logits, quantities = run(model, blocks, row, task, choice_ids)
        n_tokens += len(row["input_ids"])
        if len(logits) == 1:
            # a regression: the curvature of noise variance 1, and the sum of squared errors
            log_likelihood += (logits[0].item() - float(row["label"])) ** 2
            s = torch.ones(1, 1, dtype=F64)
        elif is_set(row):  # classes of their own, each there or not
            p = torch.sigmoid(logits)
            there = label_set(row, len(logits))
            log_likelihood += (there * p.log() + (1 - there) * (1 - p).log()).sum().item()
            s = torch.diag((p * (1 - p)).sqrt())
        else:
            p = torch.softmax(logits, 0)
            log_likelihood += torch.log_softmax(logits, 0)[row["label"]].item()
            s = sqrt_lambda(p)
            torch.testing.assert_close(s @ s.T, torch.diag(p) - torch.outer(p, p), rtol=1e-12,
                                       atol=1e-14)
        for acc, (a, g, _) in zip(sums, quantities):
            gs = torch.einsum("cto,cs->sto", g, s)
            if kron == "expand":
                acc[0] = acc[0] + a.T @ a
                acc[1] = acc[1] + torch.einsum("sto,stp->op", gs, gs)
            else:
                mean, total = a.mean(0), gs.sum(1)
                acc[0] = acc[0] + torch.outer(mean, mean)
                acc[1] = acc[1] + torch.einsum("so,sp->op", total, total)
    dense = []
    for b, (a, g) in zip(blocks, sums):
        count = len(rows) * b.virtual if b.virtual else n_tokens
        if kron == "reduce" or b.head:
            count = len(rows)
        dense.append(torch.kron(g.contiguous(), a.contiguous()) / count)
    traces = [(torch.trace(a).item(), torch.trace(g).item()) for a, g in sums]
    return dense, traces, n_tokens, log_likelihood


# --------------------------------------------------------------------- evidence and prior precision


def penalty(h, theta_sq, lam):
    """lambda/2 |theta|^2 + 1/2 log det(I + H/lambda), the determinant of the full dense matrix."""
    sign, logdet = torch.linalg.slogdet(torch.eye(len(h), dtype=F64) + h / lam)
    assert sign > 0
    return lam / 2 * theta_sq + logdet.item() / 2


def best_precision(spectra, theta_sq):
    """The lambda where d/d(log lambda) of the evidence, -lambda/2 |theta|^2 + 1/2 sum h/(h+lambda),
    is zero.

    The evidence is concave in log lambda, so the root is the maximum."""
    h = np.concatenate(spectra).clip(min=0.0)

    def slope(u):
        lam = math.exp(u)
        return -lam / 2 * theta_sq + 0.5 * float(np.sum(h / (h + lam)))

    lo, hi = -60.0, 60.0
    if not (slope(lo) > 0 > slope(hi)):
        raise SystemExit("no interior maximum of the log marginal likelihood")
    return math.exp(brentq(slope, lo, hi, xtol=1e-14, rtol=1e-15))


def centre(c):
    return torch.eye(c, dtype=F64) - 1.0 / c


def predictive_cov(jacobians, inverses, sets=False):
    """Centred logit covariance of every row (of sets: as it is); jacobians[row][block] is [C, out,
    in]."""
    out = []
    for row in jacobians:
        c = len(row[0])
        cov = torch.zeros(c, c, dtype=F64)
        for jac, inv in zip(row, inverses):
            flat = jac.reshape(c, -1)
            cov += flat @ inv @ flat.T
        out.append(cov if sets else centre(c) @ cov @ centre(c))
    return out


def mean_sigmoid(logits, covs):
    """E sigmoid(f_c), f_c ~ N(f, cov_cc): the trapezoid rule over 12 deviations."""
    z = torch.linspace(-12, 12, 48001, dtype=F64)
    weight = torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum()
    return [torch.stack([(torch.sigmoid(f[c] + cov[c, c].sqrt() * z) * weight).sum()
                         for c in range(len(f))])
            for f, cov in zip(logits, covs)]


def mc_probs(logits, covs):
    """Mean softmax over N(P f, P cov P), by a seeded scrambled Sobol sequence (error well under
    1e-3)."""
    c = len(logits[0])
    u = qmc.Sobol(c, scramble=True, rng=np.random.default_rng(0)).random(MC_POINTS)
    z = torch.tensor(gaussian.ppf(u.clip(1e-12, 1 - 1e-12)))
    out = []
    for f, cov in zip(logits, covs):
        w, v = torch.linalg.eigh(cov)
        f = centre(c) @ f + z @ (v * w.clamp(min=0).sqrt()).T
        out.append(torch.softmax(f, 1).mean(0))
    return out


def evaluate(model, blocks, calib, test, task, choice_ids, kron):
    dense, traces, n_tokens, log_likelihood = curvature(model, blocks, calib, task, choice_ids,
                                                        kron)
    theta_sq = [b.theta().pow(2).sum().item() for b in blocks]
    spectra = [torch.linalg.eigvalsh(h).numpy() for h in dense]
    sets = is_set(calib[0])
    mean_probs = mean_sigmoid if sets else mc_probs

    logits, jacobians = [], []
    for row in test:
        f, quantities = run_row(model, blocks, row, task, choice_ids)
        logits.append(f)
        jacobians.append([q[2] for q in quantities])

    def at(lams):
        evidence = log_likelihood - sum(penalty(h, t, l) for h, t, l in zip(dense, theta_sq, lams))
        inverses = [torch.linalg.inv(h + l * torch.eye(len(h), dtype=F64))
                    for h, l in zip(dense, lams)]
        return evidence, predictive_cov(jacobians, inverses, sets)

    n = len(blocks)
    best = best_precision(spectra, sum(theta_sq))
    each = [best_precision([s], t) for s, t in zip(spectra, theta_sq)]
    lml, cov = at([best] * n)
    lml_1, cov_1 = at([1.0] * n)
    lml_each, cov_each = at(each)
    # the three are maxima: a small step in any direction is worse
    for step in (0.99, 1.01):
        assert at([best * step] * n)[0] < lml
        assert at([l * step for l in each])[0] < lml_each
    assert lml_each >= lml >= lml_1

    def lists(ts):
        return [t.tolist() for t in ts]

    return logits, {
        "prior_precision": best,
        "log_marginal_likelihood": lml,
        "log_marginal_likelihood_at_1": lml_1,
        "log_likelihood": log_likelihood,
        "n_tokens": n_tokens,
        "n_modules": n,
        "theta_sq_norm": sum(theta_sq),
        "centred_logit_cov": lists(cov),
        "centred_logit_cov_at_1": lists(cov_1),
        "mc_probs": lists(mean_probs(logits, cov)),
        "trace": {f"base_model.model.{b.name}.default": list(t) for b, t in zip(blocks, traces)},
        "blocks": [
            {
                "name": b.name,
                "shape": list(b.theta().shape),
                "theta_sq_norm": s,
                "trace_in": t[0],
                "trace_out": t[1],
            }
            for b, t, s in zip(blocks, traces, theta_sq)
        ],
        "module": {
            "prior_precision_per_module": {b.name: l for b, l in zip(blocks, each)},
            "log_marginal_likelihood_per_module": lml_each,
            "centred_logit_cov_per_module": lists(cov_each),
            "mc_probs_per_module": lists(mean_probs(logits, cov_each)),
        },
    }


# --------------------------------------------------------------------------------------- regression


NOISE = 0.5  # a noise variance that is given


def best_noise_and_precisions(spectra, theta_sq, square_error, count):
    """Noise variance and precisions (one a spectrum) at the joint maximum of the evidence: the root
    of its whole gradient.

    The evidence is concave in the logarithms of all of them."""

    def gradient(u):
        noise, lams = math.exp(u[0]), np.exp(u[1:])
        shares = [float(np.sum(h / (h + noise * l))) for h, l in zip(spectra, lams)]
        by_noise = -count / 2 + square_error / (2 * noise) + sum(shares) / 2
        return np.array([by_noise, *((s - l * t) / 2 for s, l, t in zip(shares, lams, theta_sq))])

    start = np.log(np.array([square_error / count, *(1.0 for _ in spectra)]))
    # Levenberg-Marquardt from afar, then Powell's method to the last digits
    near = root(gradient, start, method="lm", options={"xtol": 1e-13, "ftol": 1e-13}).x
    found = root(gradient, near, method="hybr", options={"xtol": 1e-15}).x
    assert np.abs(gradient(found)).max() < 1e-9, gradient(found)
    return math.exp(found[0]), np.exp(found[1:]).tolist()


def regression_figures(dense, theta_sq, names, square_error, count, jacobians):
    """With the Gaussian likelihood H of noise variance s is H of noise 1 over s.  Evidence and
    variances of the test rows at a given noise and at the noise that is chosen together with the
    prior, for precision 1, a global prior, and one a unit (a block, or all of them)."""
    spectra = [torch.linalg.eigvalsh(h).numpy().clip(min=0.0) for h in dense]
    n, every = len(dense), np.concatenate(spectra)

    def likelihood(noise):
        return -count / 2 * math.log(2 * math.pi * noise) - square_error / (2 * noise)

    def at(noise, lams):
        evidence = (likelihood(noise) - sum(penalty(h / noise, t, l)
                                            for h, t, l in zip(dense, theta_sq, lams)))
        inverses = [torch.linalg.inv(h / noise + l * torch.eye(len(h), dtype=F64))
                    for h, l in zip(dense, lams)]
        return evidence, [sum((j @ inv @ j).item() for j, inv in zip(row, inverses))
                          for row in jacobians]

    def answer(noise, lams):
        evidence, variances = at(noise, lams)
        return {
            "noise_variance": noise,
            "log_likelihood": likelihood(noise),
            "log_marginal_likelihood": evidence,
            "prior_precisions": dict(zip(names, lams)),
            "model_variances": variances,
        }

    one = best_precision([every / NOISE], sum(theta_sq))
    noise, (best,) = best_noise_and_precisions([every], [sum(theta_sq)], square_error, count)
    noise_at_1 = brentq(
        lambda s: -count / 2 + square_error / (2 * s) + 0.5 * float(np.sum(every / (every + s))),
        square_error / count / 2, 1e6, xtol=1e-15, rtol=1e-14,
    )
    given = {"fixed": answer(NOISE, [1.0] * n), "global": answer(NOISE, [one] * n)}
    joint = {"fixed": answer(noise_at_1, [1.0] * n), "global": answer(noise, [best] * n)}
    if n > 1:
        given["module"] = answer(NOISE, [best_precision([s / NOISE], t)
                                         for s, t in zip(spectra, theta_sq)])
        joint["module"] = answer(*best_noise_and_precisions(spectra, theta_sq, square_error, count))
    for kind, found in joint.items():  # maxima: a small step of any of the numbers is worse
        lams = list(found["prior_precisions"].values())
        for step in (0.99, 1.01):
            assert at(found["noise_variance"] * step, lams)[0] < found["log_marginal_likelihood"]
            if kind != "fixed":
                assert at(found["noise_variance"],
                          [l * step for l in lams])[0] < found["log_marginal_likelihood"]
    return {"given": given, "joint": joint}


def ekfac_block(rows, k):
    """H of a block in the eigenvectors of its two factors, its eigenvalues measured there."""
    a_sum = sum(q[k][0].T @ q[k][0] for _, q in rows)
    g_sum = sum(q[k][1][0].T @ q[k][1][0] for _, q in rows)
    u_in, u_out = torch.linalg.eigh(a_sum)[1], torch.linalg.eigh(g_sum)[1]
    h = sum((u_out.T @ q[k][2][0] @ u_in).pow(2) for _, q in rows).flatten()
    basis = torch.kron(u_out.contiguous(), u_in.contiguous())
    return basis @ torch.diag(h) @ basis.T


def remembering(every):
    """run_row that runs a row once, for all blocks of `every` or the last of them."""
    found = {}

    def run(model, blocks, row, task, choice_ids):
        if id(row) not in found:
            found[id(row)] = run_row(model, every, row, task, choice_ids)
        logits, quantities = found[id(row)]
        return logits, quantities[-len(blocks):]

    return run


def evaluate_regression(model, blocks, calib, test, task, structure, run):
    """structure: expand, reduce, ekfac, diag, exact (all blocks are one unit), or last-layer
    (exact, of the last block alone)."""
    if structure == "last-layer":
        blocks, structure = blocks[-1:], "exact"
    kron = structure if structure in ("expand", "reduce") else "expand"
    dense, traces, n_tokens, square_error = curvature(model, blocks, calib, task, None, kron, run)
    theta_sq = [b.theta().pow(2).sum().item() for b in blocks]
    names = [b.name for b in blocks]
    rows, tested = ([run(model, blocks, row, task, None) for row in part] for part in (calib, test))
    jacobians = [[j.reshape(-1) for _, _, j in quantities] for _, quantities in tested]
    own = [[j.reshape(-1) for _, _, j in quantities] for _, quantities in rows]
    if structure == "ekfac":
        dense = [ekfac_block(rows, k) for k in range(len(blocks))]
    elif structure == "diag":
        dense = [torch.diag(sum(j[k].pow(2) for j in own)) for k in range(len(blocks))]
    elif structure == "exact":
        dense = [sum(torch.outer(torch.cat(j), torch.cat(j)) for j in own)]
        theta_sq, names = [sum(theta_sq)], ["all"]
        jacobians = [[torch.cat(j)] for j in jacobians]
    return [f for f, _ in tested], {
        "n_tokens": n_tokens,
        "n_modules": len(blocks),
        "square_error": square_error,
        "blocks": [{"name": b.name, "trace_in": a, "trace_out": g}
                   for b, (a, g) in zip(blocks, traces)],
        **regression_figures(dense, theta_sq, names, square_error, len(calib), jacobians),
    }


def reference(base, adapter, calib, test, choice_ids=None, params="lora", float32_islands=False):
    model, task = load_model(base, adapter, float32_islands)
    if (task == "CAUSAL_LM") != bool(choice_ids):
        raise SystemExit("--choice-ids belongs to a causal LM, and a causal LM needs it")
    calib, test = read_rows(calib), read_rows(test)
    before, _ = run_row(model, [], test[0], task, choice_ids, strict=not float32_islands)
    blocks = find_blocks(model, params)
    torch.testing.assert_close(run_row(model, [], test[0], task, choice_ids)[0], before, rtol=1e-12,
                               atol=1e-12)
    kind = ("tags" if task == "TOKEN_CLS" else "choice" if choice_ids else "sets"
            if is_set(calib[0]) else "seq")
    result = {"task": kind, "n_classes": None, "choice_ids": choice_ids}
    regression, run = len(before) == 1, remembering(blocks)
    more = {"lora": ("ekfac", "diag", "exact"), "head": ("last-layer",)} if regression else {}
    for kron in ("expand", "reduce", *more.get(params, ())):
        if regression:
            result["task"] = "regression"
            logits, part = evaluate_regression(model, blocks, calib, test, task, kron, run)
        else:
            logits, part = evaluate(model, blocks, calib, test, task, choice_ids, kron)
        result["n_classes"] = len(logits[0])
        result["logits"] = [f.tolist() for f in logits]
        result[kron] = part
    return result


def logits_alone(base, adapter, test, choice_ids=None):
    model, task = load_model(base, adapter)
    return [run_row(model, [], row, task, choice_ids, strict=True)[0].tolist()
            for row in read_rows(test)]


# ------------------------------------------------------------------------------------------- output


def dumps(value):
    """Indented JSON with one line per innermost list."""
    text = json.dumps(value, indent=1, allow_nan=False)
    return (re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s+", " ", m.group()).replace(
        "[ ", "[").replace(" ]", "]"), text) + "\n")


def compare(got, expected, path="", out=None):
    """Largest |got - expected| / max(1, |expected|) per key of `expected` (lists and dicts below a
    key folded in)."""
    out = {} if out is None else out
    if isinstance(expected, dict):
        for k, v in expected.items():
            if not isinstance(got, dict) or k not in got:
                out[f"{path}/{k}"] = math.inf
            else:
                compare(got[k], v, path if "trace" in path.split("/") else f"{path}/{k}", out)
    elif isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            out[path] = math.inf
        else:
            for g, e in zip(got, expected):
                compare(g, e, path, out)
    elif isinstance(expected, (int, float)) and not isinstance(expected, bool):
        out[path] = max(out.get(path, 0.0), abs(got - expected) / max(1.0, abs(expected)))
    elif got != expected:
        out[path] = math.inf
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--base", required=True)
    ap.add_argument("--adapter", required=True)
    ap.add_argument("--calib", required=True)
    ap.add_argument("--test", required=True)
    ap.add_argument("--choice-ids", type=lambda s: [int(x) for x in s.split(",")])
    ap.add_argument("--params", choices=["lora", "lora+head", "head", "lora+magnitude",
                                         "lora+magnitude+head"], default="lora")
    ap.add_argument("--out", help="write here instead of to stdout")
    ap.add_argument("--check", metavar="EXPECTED.json",
                    help="compare with this file (its part for --params); takes its choice_ids too")
    ap.add_argument("--float32-islands", action="store_true",
                    help="keep transformers' own float32 RMSNorm and rotary tables")
    o = ap.parse_args()
    expected = None
    if o.check:
        with open(o.check) as f:
            expected = json.load(f)
        o.choice_ids = o.choice_ids or expected["choice_ids"]
        others = {k: expected.pop(k) for k in ("lora+head", "head", "lora+magnitude",
                                               "lora+magnitude+head") if k in expected}
        if o.params != "lora":  # numbers of other parameter sets lie below their name
            expected.update(others[o.params])
    torch.manual_seed(0)
    result = reference(o.base, o.adapter, o.calib, o.test, o.choice_ids, o.params,
                       o.float32_islands)
    if o.out:
        with open(o.out, "w") as f:
            f.write(dumps(result))
    elif not o.check:
        print(dumps(result), end="")
    if expected:
        worst = 0.0
        for key, dev in compare(result, expected).items():
            print(f"{dev:10.2e}  {key.lstrip('/')}")
            worst = worst if "mc_probs" in key else max(worst, dev)
        print(f"{worst:10.2e}  worst (mc_probs apart)")
        raise SystemExit(worst > 1e-7)


if __name__ == "__main__":
    main()

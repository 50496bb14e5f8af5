"""Models of transformers that are float64 throughout.

transformers falls back to float32 inside a float64 model: in every RMSNorm, in the rotary tables,
in the softmax of the eager attention, in the rotation of ModernBERT, in the scale of DeBERTa's
scores and in Gemma's scale of the embeddings.  Here are the same formulas without those islands.
Two things stay as transformers has them because they decide something discrete: the logarithmic
buckets of DeBERTa (a ceiling of a float32 number) and which rotary table a length selects.
"""

import importlib
import math

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

F64 = torch.float64
ATTENTION = "float64"
MODELS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "smollm3", "olmo2",
          "phi3", "modernbert", "deberta_v2")


# ------------------------------------------------------------------------------------ rotary tables


def default_frequencies(p, dim):
    return p["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=F64) / dim)


def llama3_frequencies(p, dim):
    factor, low, high = p["factor"], p["low_freq_factor"], p["high_freq_factor"]
    context = p["original_max_position_embeddings"]
    out = []
    for f in default_frequencies(p, dim).tolist():
        wavelength = 2 * math.pi / f
        if wavelength < context / high:
            out.append(f)
        elif wavelength > context / low:
            out.append(f / factor)
        else:
            s = (context / wavelength - low) / (high - low)
            out.append((1 - s) * f / factor + s * f)
    return torch.tensor(out, dtype=F64)


def dynamic_frequencies(p, dim, length, trained):
    """The base grows with the length of this row.  (transformers keeps the table of the longest row
    so far until a row shorter than max_position_embeddings comes; here no row depends on another,
    as in a fresh model.)"""
    stretch = p["factor"] * max(length, trained) / trained - (p["factor"] - 1)
    return default_frequencies({"rope_theta": p["rope_theta"] * stretch ** (dim / (dim - 2))}, dim)


def yarn_frequencies(p, dim):
    base, factor, context = p["rope_theta"], p["factor"], p["original_max_position_embeddings"]

    def dimension(rotations):
        return dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(p.get("beta_fast") or 32), dimension(p.get("beta_slow") or 1)
    if p.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high = high + 0.001 if low == high else high
    ramp = ((torch.arange(dim // 2, dtype=F64) - low) / (high - low)).clamp(0, 1)
    f = default_frequencies(p, dim)
    return f / factor * ramp + f * (1 - ramp)


def yarn_attention_factor(p):
    def scale(m):
        return 0.1 * m * math.log(p["factor"]) + 1.0 if p["factor"] > 1 else 1.0

    if p.get("attention_factor") is not None:
        return p["attention_factor"]
    if p.get("mscale") and p.get("mscale_all_dim"):
        return scale(p["mscale"]) / scale(p["mscale_all_dim"])
    return scale(1.0)


def longrope_attention_factor(p, longest):
    context = p["original_max_position_embeddings"]
    factor = p.get("factor") or longest / context
    if p.get("attention_factor") is not None:
        return p["attention_factor"]
    return math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0


def rotary_table(config, p, length):
    """Frequencies and the factor of cos and sin, for a row of this length; p is rope_parameters (of
    the layer's type)."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dim = int(head * p.get("partial_rotary_factor", 1.0))
    kind = p["rope_type"]
    if kind == "default":
        return default_frequencies(p, dim), 1.0
    if kind == "linear":
        return default_frequencies(p, dim) / p["factor"], 1.0
    if kind == "llama3":
        return llama3_frequencies(p, dim), 1.0
    if kind == "dynamic":
        return dynamic_frequencies(p, dim, length, config.max_position_embeddings), 1.0
    if kind == "yarn":
        return yarn_frequencies(p, dim), yarn_attention_factor(p)
    if kind == "longrope":
        which = "long_factor" if length > p["original_max_position_embeddings"] else "short_factor"
        table = default_frequencies(p, dim) / torch.tensor(p[which], dtype=F64)
        return table, longrope_attention_factor(p, config.max_position_embeddings)
    raise SystemExit(f"rope type {kind} is not in this reference")


def rotary(self, x, position_ids, layer_type=None):
    p = (self.config.rope_parameters if layer_type is None
         else self.config.rope_parameters[layer_type])
    frequencies, factor = rotary_table(self.config, p, int(position_ids.max()) + 1)
    angles = position_ids[..., None].to(F64) * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos() * factor, angles.sin() * factor


# ------------------------------------------------------------------------------------------- layers


def rms_norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def gemma_rms_norm(self, x):
    return (1 + self.weight) * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotate(q, k, cos, sin, unsqueeze_dim=1):
    def half(x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((-b, a), dim=-1)

    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return q * cos + half(q) * sin, k * cos + half(k) * sin


def attention(module, query, key, value, mask, scaling=None, softcap=None, **_):
    """Softmax attention; the mask is an additive one, and only attention that looks both ways may
    come without."""
    assert mask is not None or not getattr(module, "is_causal", False)
    if hasattr(module, "prefix"):
        # keys and values [heads, n, head_dim] before those of the row, which every query sees
        before = [m[None] for m in module.prefix()]
        key, value = (torch.cat((b, m), 2) for b, m in zip(before, (key, value)))
        mask = None if mask is None else torch.nn.functional.pad(mask, (before[0].shape[2], 0))
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    assert weights.dtype == F64
    return (weights @ value).transpose(1, 2).contiguous(), weights


def discrete(function):
    """A function whose float32 arithmetic only chooses an integer."""
    if hasattr(function, "whole"):
        return function

    def whole(*args):
        with _disable_current_modes():
            return function(*args).long()

    whole.whole = True
    return whole


class Float64Only(TorchDispatchMode):
    """Inside this context an operation that makes floating-point numbers of another type is an
    error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor) and t.is_floating_point():
                assert t.dtype == F64, f"{func} made a {t.dtype}"
        return out


def make_strict_float64():
    """Replace the float32 islands in the classes of transformers."""
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    for name in MODELS:
        module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        for kind, cls in list(vars(module).items()):
            if not isinstance(cls, type) or cls.__module__ != module.__name__:
                continue
            if kind.endswith("RMSNorm"):
                cls.forward = gemma_rms_norm if kind.startswith("Gemma") else rms_norm
            elif kind.endswith("RotaryEmbedding"):
                cls.forward = rotary
        if name == "modernbert":
            module.apply_rotary_pos_emb = rotate
        elif name == "deberta_v2":
            module.scaled_size_sqrt = lambda layer, factor: torch.tensor(
                math.sqrt(layer.size(-1) * factor), dtype=F64)
            module.make_log_bucket_position = discrete(module.make_log_bucket_position)
    transformers.AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)


def attention_name(model_type, float32_islands):
    """DeBERTa has its own attention; the attention of Gemma 2 caps its scores, which torch's fused
    kernel ignores."""
    if model_type == "deberta-v2" or (float32_islands and model_type == "gemma2"):
        return "eager"
    return "sdpa" if float32_islands else ATTENTION


def finish(model):
    """A loaded model: what was rounded when it was made."""
    for module in model.modules():
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=F64)

"""A base that bitsandbytes quantised, unpacked to plain numbers without bitsandbytes.

Four bits: `X.weight` holds two codes a byte, the first one in the upper half; code c of block b
stands for quant_map[c] * absmax[b], blocks being runs of `blocksize` values of the flattened
weight.  With nested scales absmax itself is a byte: nested_quant_map[absmax] times the
nested_absmax of its own block of `nested_blocksize`, plus nested_offset.  All of it is float32
arithmetic, the value then rounded to the stored dtype.  Eight bits: row i of X.weight times
X.SCB[i] / 127.

GPTQ: X.qweight [in / 8, out] holds eight codes of four bits a word along the inputs, the lowest
first, X.qzeros [groups, out / 8] zeros less one along the outputs; weight[o, i] = scales[g, o]
(code - zero) with g = g_idx[i], rounded to the type of the scales.
"""

import json
import os

import torch
from safetensors.torch import load_file, save_file

STATE = ".quant_state.bitsandbytes__"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def scales(parts, state):
    if "nested_absmax" not in parts:
        return parts["absmax"]
    level = parts["nested_quant_map"][parts["absmax"].long()]
    outer = parts["nested_absmax"].repeat_interleave(state["nested_blocksize"])[: len(level)]
    return level * outer + torch.tensor(state["nested_offset"], dtype=torch.float32)


def four_bits(codes, parts, state):
    codes = codes.flatten()
    codes = torch.stack((codes >> 4, codes & 15), 1).flatten().long()
    count = torch.Size(state["shape"]).numel()
    scale = scales(parts, state).repeat_interleave(state["blocksize"])[:count]
    return (parts["quant_map"][codes[:count]] * scale).to(DTYPES[state["dtype"]]).float().reshape(
        state["shape"])


def nibbles(words, dim):
    """The eight codes of every word, one behind the other along dim."""
    codes = torch.stack([words >> shift & 15 for shift in range(0, 32, 4)], dim + 1)
    return codes.flatten(dim, dim + 1)


def gptq(stem, tensors):
    scale, group = tensors[f"{stem}scales"], tensors[f"{stem}g_idx"].long()
    code = nibbles(tensors[f"{stem}qweight"], 0)
    zero = nibbles(tensors[f"{stem}qzeros"], 1) + 1 & 15
    return (scale[group] * (code - zero[group]).to(scale.dtype)).float().T.contiguous()


def unpack(tensors):
    """The state dict with plain float32 weights, without what belongs to the packing."""
    out = {}
    for name, t in tensors.items():
        kind = next((k for k in tensors if k.startswith(name + STATE)), None)
        stem = name.removesuffix("weight")
        if kind:
            parts = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")}
            out[name] = four_bits(t, parts, json.loads(bytes(tensors[kind].tolist())))
        elif name.endswith("weight") and f"{stem}SCB" in tensors:
            out[name] = t.float() * tensors[f"{stem}SCB"][:, None] * (1 / 127)
        elif name.endswith(".qweight"):
            out[f"{name.removesuffix('qweight')}weight"] = gptq(name.removesuffix("qweight"),
                                                                tensors)
        elif (".weight." not in name
              and not name.endswith((".SCB", "weight_format", ".qzeros", ".scales", ".g_idx"))):
            out[name] = t.float()
    return out


def unpack_base(base, folder):
    """Write the plain form of a quantised base to a folder."""
    with open(os.path.join(base, "config.json")) as f:
        cfg = json.load(f)
    del cfg["quantization_config"]
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(cfg, f)
    save_file(unpack(load_file(os.path.join(base, "model.safetensors"))),
              os.path.join(folder, "model.safetensors"), {"format": "pt"})


def is_quantised(base):
    with open(os.path.join(base, "config.json")) as f:
        return "quantization_config" in json.load(f)

"""Fixtures of bases in four bits, packed with bitsandbytes or, as GPTQ's tools store them, here,
and read back by dequantise.py."""

import os

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from fixture_tools import case, llama_config


def pack(folder, dtype, kind, double, blocksize, skipped):
    """Replace the projections of the base, apart from the skipped ones, by their packed form."""
    import bitsandbytes.functional as bnb

    path = os.path.join(folder, "base", "model.safetensors")
    out = {}
    for name, t in load_file(path).items():
        t = out[name] = t.to(dtype)
        if "proj" in name and not any(s in name for s in skipped):
            codes, state = bnb.quantize_4bit(t, blocksize=blocksize, compress_statistics=double,
                                             quant_type=kind)
            out[name] = codes
            out.update({f"{name}.{part}": value.clone()
                        for part, value in state.as_dict(packed=True).items()})
    save_file({k: out[k].contiguous() for k in sorted(out)}, path, metadata={"format": "pt"})


def llama(folder, rnd, kind, dtype, double, blocksize=64, skipped=(), dora=False):
    names = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
    quantisation = dict(
        quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False,
        bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=names[dtype], bnb_4bit_quant_storage="uint8",
        llm_int8_skip_modules=list(skipped) or None,
    )
    cfg = llama_config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=1, num_hidden_layers=2,
        intermediate_size=72, pad_token_id=0, attention_bias=False, mlp_bias=False,
        tie_word_embeddings=True, torch_dtype=names[dtype], rope_theta=10000.0,
        quantization_config=quantisation,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, use_dora=dora,
                      target_modules=["q_proj", "v_proj", "down_proj"])
    return case(
        folder, rnd, cfg, lora, choice_ids=[12, 50, 33], embedding_std=0.3,
        prepare=lambda: pack(folder, dtype, kind, double, blocksize, skipped)
    )


def nf4_single(folder, rnd):
    """NF4 of float32 weights with float32 scales."""
    return llama(folder, rnd, "nf4", torch.float32, False)


def fp4_double(folder, rnd):
    """FP4 of bfloat16 weights in longer blocks, their scales in a byte; one projection is left
    plain."""
    return llama(folder, rnd, "fp4", torch.bfloat16, True, 128, ["lm_head", "up_proj"])


def dora_nf4(folder, rnd):
    """DoRA on a packed base: the norms are of the weights that the codes stand for."""
    return llama(folder, rnd, "nf4", torch.float32, False, dora=True)


def words(codes, dim):
    """Eight codes of four bits a word, the first one lowest."""
    parts = codes.unflatten(dim, (-1, 8)).unbind(dim + 1)
    return sum(part.long() << 4 * i for i, part in enumerate(parts)).to(torch.uint32).view(
        torch.int32).contiguous()


def pack_gptq(folder, group_size, sym, order, dtype):
    """Round the projections of the base group by group; order: which input belongs to which group
    is drawn, as desc_act does it."""
    path = os.path.join(folder, "base", "model.safetensors")
    generator, out = torch.Generator().manual_seed(7), {}
    for name, t in load_file(path).items():
        if "proj" not in name:
            out[name] = t.to(dtype)
            continue
        stem, (rows, cols) = name.removesuffix("weight"), t.shape
        size = cols if group_size < 0 else group_size
        group = torch.arange(cols) // size
        group = group[torch.randperm(cols, generator=generator)] if order else group
        scale, zero = (torch.zeros(int(group.max()) + 1, rows) for _ in range(2))
        for g in range(len(scale)):
            part = t[:, group == g]
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            if sym:
                high = torch.maximum(high, -low)
                low = -high
            scale[g] = (high - low) / 15
            zero[g] = 8 if sym else (-low / scale[g]).round().clamp(1, 15)
        scale = scale.to(dtype)
        codes = (t.T / scale.float()[group] + zero[group]).round().clamp(0, 15)
        out[f"{stem}qweight"], out[f"{stem}qzeros"] = words(codes, 0), words(zero - 1, 1)
        out[f"{stem}scales"], out[f"{stem}g_idx"] = scale, group.to(torch.int32)
    save_file({k: out[k].contiguous() for k in sorted(out)}, path, metadata={"format": "pt"})


def gptq(folder, rnd, dtype, group_size, sym, order):
    name = str(dtype).removeprefix("torch.")
    cfg = llama_config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=1, num_hidden_layers=2,
        intermediate_size=80, pad_token_id=0, attention_bias=False, mlp_bias=False,
        tie_word_embeddings=True, torch_dtype=name, rope_theta=10000.0,
        quantization_config=dict(quant_method="gptq", bits=4, group_size=group_size, sym=sym,
                                 desc_act=order, checkpoint_format="gptq"),
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4,
                      target_modules=["q_proj", "v_proj", "down_proj"])
    pack = lambda: pack_gptq(folder, group_size, sym, order, dtype)  # noqa: E731
    return case(folder, rnd, cfg, lora, choice_ids=[12, 50, 33], embedding_std=0.3, prepare=pack)


def gptq_ordered(folder, rnd):
    """GPTQ with groups in the order of activations and zeros of their own."""
    return gptq(folder, rnd, torch.float16, 16, False, True)


def gptq_symmetric(folder, rnd):
    """GPTQ with one group a row, symmetric, scales in bfloat16."""
    return gptq(folder, rnd, torch.bfloat16, -1, True, False)


MADE = {
    "llama-gptq": (gptq_ordered, 504),
    "llama-gptq-sym": (gptq_symmetric, 505),
    "llama-nf4-single": (nf4_single, 501),
    "llama-fp4-double": (fp4_double, 502),
    "dora-nf4": (dora_nf4, 503),
}

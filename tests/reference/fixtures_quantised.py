"""Fixtures of bases in four bits, packed with bitsandbytes and read back by dequantise.py."""

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
            codes, state = bnb.quantize_4bit(t, blocksize=blocksize, compress_statistics=double, quant_type=kind)
            out[name] = codes
            out.update({f"{name}.{part}": value.clone() for part, value in state.as_dict(packed=True).items()})
    save_file({k: out[k].contiguous() for k in sorted(out)}, path, metadata={"format": "pt"})


def llama(folder, rnd, kind, dtype, double, blocksize=64, skipped=(), dora=False):
    names = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
    quantisation = dict(
        quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=names[dtype], bnb_4bit_quant_storage="uint8", llm_int8_skip_modules=list(skipped) or None,
    )
    cfg = llama_config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=1, num_hidden_layers=2, intermediate_size=72, pad_token_id=0,
        attention_bias=False, mlp_bias=False, tie_word_embeddings=True, torch_dtype=names[dtype], rope_theta=10000.0,
        quantization_config=quantisation,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, use_dora=dora, target_modules=["q_proj", "v_proj", "down_proj"])
    return case(
        folder, rnd, cfg, lora, choice_ids=[12, 50, 33], embedding_std=0.3, prepare=lambda: pack(folder, dtype, kind, double, blocksize, skipped)
    )


def nf4_single(folder, rnd):
    """NF4 of float32 weights with float32 scales."""
    return llama(folder, rnd, "nf4", torch.float32, False)


def fp4_double(folder, rnd):
    """FP4 of bfloat16 weights in longer blocks, their scales in a byte; one projection is left plain."""
    return llama(folder, rnd, "fp4", torch.bfloat16, True, 128, ["lm_head", "up_proj"])


def dora_nf4(folder, rnd):
    """DoRA on a packed base: the norms are of the weights that the codes stand for."""
    return llama(folder, rnd, "nf4", torch.float32, False, dora=True)


MADE = {"llama-nf4-single": (nf4_single, 501), "llama-fp4-double": (fp4_double, 502), "dora-nf4": (dora_nf4, 503)}

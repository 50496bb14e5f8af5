#!/usr/bin/env python3
"""Write the quantised cases of tests/fixtures/parity and tests/fixtures/quantised, packed by
bitsandbytes itself.

    python make_quantised.py [--only NAME,NAME]

llama-nf4, llama-int8, bert-fp4: a plain base is saved in `plain`, loaded by transformers with a
BitsAndBytesConfig and saved again in `base`.  The references run in float64 on what bitsandbytes
unpacks from it (dense.json: dense_reference.py).  quantised/packed.safetensors: single matrices of
awkward shapes with their codes, scales and unpacked values.  Seeded: the same library versions
write the same bytes.
"""

import argparse
import os
import shutil

import fixture_tools as mf
import laplace_reference as ref

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch
import transformers
from peft import LoraConfig
from safetensors.torch import save_file

FIXTURES = os.path.join(mf.PARITY, "..")
BIG = (270, 62)  # more than one group of scales
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
library_blockwise = F.quantize_blockwise


def nearest_blockwise(a, code=None, absmax=None, out=None, blocksize=4096, nested=False):
    """quantize_blockwise with the nearest level, as on a device: the library's own on the CPU looks
    levels up in a table whose steps are too coarse, and takes the neighbour now and then."""
    q, state = library_blockwise(a, code, absmax, out, blocksize, nested)
    level = state.code
    middle = (level[1:] + level[:-1]) / 2
    codes = []
    for block, most in zip(a.float().split(blocksize), state.absmax):
        safe = most.clamp(min=1e-38)
        x = block * (1 / safe) if len(block) == blocksize else block / safe
        codes.append(torch.bucketize(x.clamp(-1, 1), middle))
    codes = torch.cat(codes).to(torch.uint8)
    assert (codes.int() - q.int()).abs().max() <= 1 or a.abs().max() == 0
    return codes, state


F.quantize_blockwise = nearest_blockwise


def unpack_4bit(codes, state):
    """dequantize_4bit by the library's portable kernel: the one for the CPU is wrong for rows that
    do not end where blocks do."""
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute as portable

    scale = state.absmax
    if state.nested:
        scale = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    level = F.get_4bit_type(state.quant_type, "cpu")
    return portable(codes.reshape(-1), scale, level, state.blocksize, state.shape, state.dtype)


# -------------------------------------------------------------------------------------------- bases


def quantised_base(auto, folder, config):
    """base from plain."""
    model = auto.from_pretrained(f"{folder}/plain", quantization_config=config, dtype="auto")
    model.save_pretrained(f"{folder}/base")
    generation = f"{folder}/base/generation_config.json"
    if os.path.exists(generation):
        os.remove(generation)


def expected(folder, params, choice_ids=None):
    with open(f"{folder}/expected.json", "w") as f:
        f.write(ref.dumps(mf.expected(folder, params, choice_ids)))


LLAMA = dict(
    hidden_size=64, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
    intermediate_size=80, rope_theta=10000.0, attention_bias=False, mlp_bias=False,
    torch_dtype="bfloat16",
)
CHOICES = [41, 7, 93, 20]


def llama(folder, rnd):
    cfg = mf.llama_config(**LLAMA)
    model = mf.fresh(mf.LM, cfg)
    mf.write_base(f"{folder}/plain", cfg, mf.base_tensors(model, rnd, embedding_std=0.2),
                  dtype=torch.bfloat16)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4,
                      target_modules=["q_proj", "v_proj", "up_proj"])
    mf.write_adapter(model, lora, f"{folder}/adapter", rnd)
    for name, n in (("calib", mf.N_CALIB), ("test", mf.N_TEST)):
        mf.write_rows(f"{folder}/{name}.jsonl", mf.random_rows(rnd, n, 101, len(CHOICES)))


def llama_nf4(folder, rnd):
    """Choice task, bf16, NF4 with double quantisation."""
    llama(folder, rnd)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16
    )
    quantised_base(mf.LM, folder, config)
    expected(folder, ["lora"], CHOICES)


def llama_int8(folder, rnd):
    """The same plain base (which is left to llama-nf4) in 8 bits."""
    llama(folder, rnd)
    quantised_base(mf.LM, folder, transformers.BitsAndBytesConfig(load_in_8bit=True))
    expected(folder, ["lora"], CHOICES)
    shutil.rmtree(f"{folder}/plain")


def bert_fp4(folder, rnd):
    """Classifier, f16, FP4; rows of 30 do not end where blocks do."""
    cfg = mf.bert_config(hidden_size=30, num_attention_heads=3, num_hidden_layers=2,
                         intermediate_size=46, torch_dtype="float16", **mf.labels(3))
    model = mf.fresh(mf.SEQ, cfg)
    mf.write_base(f"{folder}/plain", cfg, mf.base_tensors(model, rnd), dtype=torch.float16)
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=4, target_modules=["query", "value"],
                      modules_to_save=["classifier"])
    mf.write_adapter(model, lora, f"{folder}/adapter", rnd)
    for name, n in (("calib", mf.N_CALIB), ("test", mf.N_TEST)):
        mf.write_rows(f"{folder}/{name}.jsonl", mf.random_rows(rnd, n, 97, 3))
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4",
                                             bnb_4bit_use_double_quant=False)
    quantised_base(mf.SEQ, folder, config)
    expected(folder, ["lora", "lora+head"])


MADE = {"llama-nf4": (llama_nf4, 201), "llama-int8": (llama_int8, 201), "bert-fp4": (bert_fp4, 203)}


# ----------------------------------------------------------------------------------------- matrices


def awkward(rnd, shape, dtype):
    """Normal, with a block of zeros, a lone value, and values that are midpoints between levels."""
    w = rnd.normal(shape, 0.05).float().flatten()
    if len(w) > 256:
        w[64:128] = 0
        w[128:192] = 0
        w[150] = -3
        level = F.get_4bit_type("nf4", "cpu")
        w[192:208], w[208:223] = level, (level[1:] + level[:-1]) / 2
        level = F.get_4bit_type("fp4", "cpu").sort().values
        w[223:239], w[239:254] = level, (level[1:] + level[:-1]) / 2
    return w.reshape(shape).to(dtype)


def matrices(path, rnd):
    out = {}
    for shape in ((5, 13), (9, 64), (37, 30), (3, 129), BIG):
        for dtype_name, dtype in TYPES.items():
            if shape == BIG and dtype_name != "bf16":
                continue
            w = awkward(rnd, shape, dtype)
            stem = f"{dtype_name}.{shape[0]}x{shape[1]}"
            out[f"{stem}.weight"] = w
            for kind in ("nf4", "fp4"):
                for double in (False, True):
                    q, s = F.quantize_4bit(w, quant_type=kind, compress_statistics=double)
                    name = f"{stem}.{kind}{'-double' if double else ''}"
                    scale = s.absmax
                    if double:
                        scale = F.dequantize_blockwise(s.absmax, s.state2) + s.offset
                    out[f"{name}.codes"], out[f"{name}.scales"] = q.flatten(), scale
                    if shape != BIG:
                        values = unpack_4bit(q, s).float()
                        out[f"{name}.values"] = values.reshape(shape).contiguous()
            p = bnb.nn.Int8Params(w.clone(), requires_grad=False)._quantize("cpu")
            out[f"{stem}.int8.codes"], out[f"{stem}.int8.scales"] = p.data.clone(), p.SCB
            if shape != BIG:
                out[f"{stem}.int8.values"] = F.int8_vectorwise_dequant(p.data, p.SCB).contiguous()
    out["dynamic"] = F.create_dynamic_map()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file(out, path, metadata={"bitsandbytes": bnb.__version__})


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--only", type=lambda s: s.split(","), default=[*MADE, "packed"])
    o = ap.parse_args()
    torch.set_num_threads(1)
    for name in o.only:
        if name == "packed":
            matrices(os.path.normpath(f"{FIXTURES}/quantised/packed.safetensors"), mf.Random(200))
            continue
        folder = os.path.normpath(os.path.join(mf.PARITY, name))
        make, seed = MADE[name]
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        torch.manual_seed(seed)
        make(folder, mf.Random(seed))


if __name__ == "__main__":
    main()

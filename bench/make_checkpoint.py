#!/usr/bin/env python3
"""Writes a Llama checkpoint with random weights, for benchmarks at a model's true size: base/
(config.json, bf16 safetensors shards), adapter/ (PEFT LoRA on q_proj and v_proj, f32), calib.jsonl,
test.jsonl (rows of `input_ids`) and meta.json (its sizes). Standard library only. It is written as
DIR.part and renamed when whole.
usage: bench/make_checkpoint.py DIR --shape 7b|1b|tiny

The weights are N(0, 0.02), those of o_proj and down_proj smaller by sqrt(2 layers), norms 1, so
that activations stay of a trained model's order. They are cut from one block of 16 million draws at
random places: two tensors can share draws, which no time measured here depends on."""
import argparse
import array
import json
import os
import random
import shutil
import statistics
import struct
import sys

# rows are of exactly `tokens` random ids
SHAPES = {
    "7b": dict(layers=32, hidden=4096, heads=32, kv_heads=32, ffn=11008, vocab=32000, tokens=200,
               rows=512),
    "1b": dict(layers=22, hidden=2048, heads=32, kv_heads=4, ffn=5632, vocab=32000, tokens=200,
               rows=512),
    "tiny": dict(layers=2, hidden=64, heads=4, kv_heads=4, ffn=176, vocab=100, tokens=20, rows=12),
}
FORMAT = 1  # version of the format; directories of another one are refused
CLASSES, RANK, ALPHA = 4, 8, 16
STD = 0.02
SHARD_BYTES = 4 << 30
BLOCK = (1 << 24) + 4099  # values; no multiple of a matrix' width


def bf16(value):
    """The bits of value rounded to bf16."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def quantiles(std):
    """65536 values that are normally distributed when indexed by a uniform 16-bit word."""
    normal = statistics.NormalDist(0, std)
    return [normal.inv_cdf((i + 0.5) / 65536) for i in range(65536)]


def little_endian(values):
    if sys.byteorder == "big":
        values.byteswap()
    return values


class Source:
    """Random values as bytes: bf16 cut from one block for each std, and f32 drawn one by one."""

    def __init__(self, seed, count):
        self.random = random.Random(seed)
        self.words = array.array("H", self.random.randbytes(2 * min(BLOCK, count)))
        self.blocks = {}

    def write(self, file, count, std):
        if std not in self.blocks:
            table = [bf16(value) for value in quantiles(std)]
            block = little_endian(array.array("H", map(table.__getitem__, self.words)))
            self.blocks[std] = memoryview(block).cast("B")
        block = self.blocks[std]
        at, left = 2 * self.random.randrange(len(block) // 2), 2 * count
        while left:
            part = block[at:at + left]
            file.write(part)
            left -= len(part)
            at = 0

    def floats(self, count, std):
        table = quantiles(std)
        words = array.array("H", self.random.randbytes(2 * count))
        return little_endian(array.array("f", map(table.__getitem__, words)))


def base_tensors(shape):
    """(name, shape, std) in file order; std None is a norm's weight, 1."""
    d, ffn, vocab = shape["hidden"], shape["ffn"], shape["vocab"]
    narrow = d // shape["heads"] * shape["kv_heads"]
    small = STD / (2 * shape["layers"]) ** 0.5
    yield "model.embed_tokens.weight", [vocab, d], STD
    for i in range(shape["layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", [d], None
        yield layer + "self_attn.q_proj.weight", [d, d], STD
        yield layer + "self_attn.k_proj.weight", [narrow, d], STD
        yield layer + "self_attn.v_proj.weight", [narrow, d], STD
        yield layer + "self_attn.o_proj.weight", [d, d], small
        yield layer + "post_attention_layernorm.weight", [d], None
        yield layer + "mlp.gate_proj.weight", [ffn, d], STD
        yield layer + "mlp.up_proj.weight", [ffn, d], STD
        yield layer + "mlp.down_proj.weight", [d, ffn], small
    yield "model.norm.weight", [d], None
    yield "lm_head.weight", [vocab, d], STD


def adapter_tensors(shape):
    d = shape["hidden"]
    for i in range(shape["layers"]):
        for name, out in (("q_proj", d), ("v_proj", d // shape["heads"] * shape["kv_heads"])):
            module = f"base_model.model.model.layers.{i}.self_attn.{name}."
            yield module + "lora_A.weight", [RANK, d], STD
            yield module + "lora_B.weight", [out, RANK], STD


def size_of(dims):
    count = 1
    for dim in dims:
        count *= dim
    return count


def write_safetensors(path, tensors, kind, width, write):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dims, _ in tensors:
        header[name] = {"dtype": kind, "shape": dims,
                        "data_offsets": [at, at + width * size_of(dims)]}
        at += width * size_of(dims)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, dims, std in tensors:
            write(file, size_of(dims), std)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def write_base(folder, shape, source):
    os.makedirs(folder)
    write_json(os.path.join(folder, "config.json"), {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": shape["hidden"], "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"],
        "intermediate_size": shape["ffn"], "vocab_size": shape["vocab"],
        "max_position_embeddings": 4096, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2})
    shards, used = [[]], 0
    for tensor in base_tensors(shape):
        size = 2 * size_of(tensor[1])
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += size
    ones = struct.pack("<H", bf16(1.0))
    places = {}
    for i, tensors in enumerate(shards):
        name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(os.path.join(folder, name), tensors, "BF16", 2,
                          lambda file, count, std: source.write(file, count, std) if std
                          else file.write(ones * count))
        places.update((tensor[0], name) for tensor in tensors)
    total = sum(2 * size_of(dims) for _, dims, _ in base_tensors(shape))
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": places})


def write_adapter(folder, shape, source):
    os.makedirs(folder)
    write_json(os.path.join(folder, "adapter_config.json"), {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "", "r": RANK,
        "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none",
        "target_modules": ["q_proj", "v_proj"], "fan_in_fan_out": False,
        "inference_mode": True, "init_lora_weights": True, "modules_to_save": None})
    write_safetensors(os.path.join(folder, "adapter_model.safetensors"),
                      list(adapter_tensors(shape)), "F32", 4,
                      lambda file, count, std: source.floats(count, std).tofile(file))


def write_rows(path, shape, draw):
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(shape["rows"]):
            ids = [draw.randrange(3, shape["vocab"]) for _ in range(shape["tokens"])]
            file.write(json.dumps({"input_ids": ids, "label": draw.randrange(CLASSES)}) + "\n")


def make(folder, name):
    """Writes the checkpoint where it is not there yet; returns its meta.json."""
    shape = SHAPES[name]
    meta = dict(shape, format=FORMAT, shape=name, classes=CLASSES, rank=RANK, alpha=ALPHA,
                choice_ids=[shape["vocab"] * (c + 1) // (CLASSES + 1) for c in range(CLASSES)],
                parameters=sum(size_of(dims) for _, dims, _ in base_tensors(shape)))
    if os.path.exists(folder):
        try:
            with open(os.path.join(folder, "meta.json"), encoding="utf-8") as file:
                if json.load(file) == meta:
                    return meta
        except (OSError, ValueError):
            pass
        sys.exit(f"{folder}: is there, and is no checkpoint of this program's shape {name}; remove "
                 f"it or name another")
    part = folder.rstrip("/") + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    source = Source(1, meta["parameters"])
    write_base(os.path.join(part, "base"), shape, source)
    write_adapter(os.path.join(part, "adapter"), shape, source)
    for rows in ("calib", "test"):
        write_rows(os.path.join(part, rows + ".jsonl"), shape, source.random)
    write_json(os.path.join(part, "meta.json"), meta)
    os.rename(part, folder)
    return meta


def main():
    parser = argparse.ArgumentParser(description="a Llama checkpoint with random weights, for "
                                                 "benchmarks")
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    args = parser.parse_args()
    meta = make(args.folder, args.shape)
    print("--choice-ids " + ",".join(map(str, meta["choice_ids"])))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Write the tiny random checkpoints of tests/fixtures/parity and the numbers that laplace_reference.py gives for them.

    python make_fixtures.py [--only NAME,NAME]

Seeded: the same library versions write the same bytes.  The folders in COPIES were not made here; only expected_extra.json is written
into those.
"""

import argparse
import json
import os
import shutil
import tempfile
import warnings

warnings.filterwarnings("ignore")

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import laplace_reference as ref

PARITY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "parity")
COPIES = {"bert": ["lora", "lora+head", "head"], "llama-seq": ["lora", "lora+head", "head"], "llama": ["lora"], "llama-head": ["lora"]}
N_CALIB, N_TEST = 24, 10
transformers.logging.set_verbosity_error()


# -------------------------------------------------------------------------------------------------------- helpers


class Random:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)

    def normal(self, shape, std, mean=0.0):
        return torch.randn(shape, generator=self.g, dtype=torch.float64) * std + mean

    def integer(self, lo, hi):
        return int(torch.randint(lo, hi, (1,), generator=self.g))


def base_tensors(model, rnd, embedding_std=0.08):
    """Random values for every parameter of a base model, in the order of the sorted names."""
    out = {}
    for name, p in sorted(model.named_parameters()):
        if name.endswith("bias"):
            t = rnd.normal(p.shape, 0.05)
        elif p.dim() == 1:  # a norm's weight
            t = rnd.normal(p.shape, 0.05, 1.0)
        else:
            t = rnd.normal(p.shape, embedding_std if "embed" in name else 0.08)
        out[name] = t
    return out


def write_adapter(model, config, folder, rnd, dtype=torch.float32, head_std=0.5, bias_std=0.3):
    peft = get_peft_model(model, config)
    with torch.no_grad():
        for name, p in sorted(peft.named_parameters()):
            if ".lora_A." in name:
                p.copy_(rnd.normal(p.shape, 0.3))
            elif ".lora_B." in name:
                p.copy_(rnd.normal(p.shape, 0.25))
            elif ".modules_to_save." in name:
                p.copy_(rnd.normal(p.shape, head_std if p.dim() == 2 else bias_std))
            elif config.bias == "lora_only" and name.endswith("base_layer.bias"):
                p.copy_(rnd.normal(p.shape, 0.1))
    for c in peft.peft_config.values():
        c.base_model_name_or_path = None
        c.inference_mode = True
    with tempfile.TemporaryDirectory() as tmp:
        peft.save_pretrained(tmp)
        tensors = load_file(os.path.join(tmp, "adapter_model.safetensors"))
        with open(os.path.join(tmp, "adapter_config.json")) as f:
            cfg = json.load(f)
    for key, value in cfg.items():  # sets become lists in an arbitrary order
        if isinstance(value, list) and all(isinstance(x, str) for x in value):
            cfg[key] = sorted(value)
    cfg["base_model_name_or_path"] = None
    os.makedirs(folder)
    write_json(os.path.join(folder, "adapter_config.json"), cfg)
    tensors = {k: tensors[k].to(dtype).contiguous() for k in sorted(tensors)}
    save_file(tensors, os.path.join(folder, "adapter_model.safetensors"), metadata={"format": "pt"})


def write_json(path, value):
    with open(path, "w") as f:
        f.write(json.dumps(value, indent=2) + "\n")


def write_base(folder, config, tensors, dtype=torch.float32, shards=1):
    os.makedirs(folder)
    write_json(os.path.join(folder, "config.json"), config)
    tensors = {k: v.to(torch.float32).to(dtype).contiguous() for k, v in tensors.items()}
    if shards == 1:
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return
    names, index = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[i::shards]}
        save_file(part, os.path.join(folder, file), metadata={"format": "pt"})
        index.update({n: file for n in part})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(os.path.join(folder, "model.safetensors.index.json"), {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))})


def random_rows(rnd, count, vocab, n_classes, min_len=3, max_len=20, first=5):
    return [
        {
            "input_ids": [rnd.integer(first, vocab) for _ in range(rnd.integer(min_len, max_len + 1))],
            "label": rnd.integer(0, n_classes),
        }
        for _ in range(count)
    ]


def write_rows(path, rows):
    with open(path, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)


def expected(folder, params, choice_ids=None):
    """The lora result at the top level, other parameter sets below their own name."""
    p = [os.path.join(folder, n) for n in ("base", "adapter", "calib.jsonl", "test.jsonl")]
    out = ref.reference(*p, choice_ids=choice_ids, params="lora")
    for name in params:
        if name != "lora":
            r = ref.reference(*p, choice_ids=choice_ids, params=name)
            assert r["logits"] == out["logits"]
            out[name] = {"expand": r["expand"], "reduce": r["reduce"]}
    logits = torch.tensor(out["logits"])
    print(f"{os.path.basename(folder)}: logits std {logits.std(0).mean():.2f}, blocks {out['expand']['n_modules']}, "
          f"prior {out['expand']['prior_precision']:.3f} / {out['reduce']['prior_precision']:.3f}", flush=True)
    return out


def bert_config(**kw):
    cfg = dict(
        architectures=["BertForSequenceClassification"], model_type="bert", vocab_size=97, hidden_act="gelu", hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1, max_position_embeddings=48, type_vocab_size=2, layer_norm_eps=1e-12, initializer_range=0.02,
        pad_token_id=0, position_embedding_type="absolute", use_cache=True, classifier_dropout=None, torch_dtype="float32",
        transformers_version="4.44.2",
    )
    cfg.update(kw)
    return cfg


def llama_config(**kw):
    cfg = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=101, hidden_act="silu", attention_dropout=0.0,
        max_position_embeddings=64, rms_norm_eps=1e-5, initializer_range=0.02, bos_token_id=1, eos_token_id=2, pretraining_tp=1,
        use_cache=True, tie_word_embeddings=False, torch_dtype="float32", transformers_version="4.44.2",
    )
    cfg.update(kw)
    return cfg


def labels(n):
    return dict(id2label={str(i): f"LABEL_{i}" for i in range(n)}, label2id={f"LABEL_{i}": i for i in range(n)})


def fresh(auto, cfg, **kw):
    """A model with this config.json, its weights meaningless."""
    with tempfile.TemporaryDirectory() as tmp:
        write_json(os.path.join(tmp, "config.json"), cfg)
        return auto.from_config(transformers.AutoConfig.from_pretrained(tmp, **kw)).float()


SEQ, LM = transformers.AutoModelForSequenceClassification, transformers.AutoModelForCausalLM


# ------------------------------------------------------------------------------------------------------- fixtures


def bert_all_linear(folder, rnd):
    """Every linear layer of a BERT, rsLoRA, rank and alpha patterns (the first that matches wins), trained biases."""
    cfg = bert_config(hidden_size=30, num_attention_heads=2, num_hidden_layers=2, intermediate_size=46)
    names = ["bad", "poor", "good", "great"]
    cfg.update(id2label={str(i): n for i, n in enumerate(names)}, label2id={n: i for i, n in enumerate(names)})
    model = fresh(SEQ, cfg)
    write_base(f"{folder}/base", cfg, base_tensors(model, rnd))
    lora = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, use_rslora=True, bias="lora_only", modules_to_save=["classifier"],
        target_modules=["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense", "bert.pooler.dense"],
        rank_pattern={"attention.output.dense": 2, "output.dense": 5, "layer.1.attention.self.query": 1},
        alpha_pattern={"attention.output.dense": 4, "bert.pooler.dense": 3, "layer.0.attention.self.key": 2, "output.dense": 7},
    )
    write_adapter(model, lora, f"{folder}/adapter", rnd, head_std=2.0)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 97, 4))
    return expected(folder, ["lora", "lora+head"])


def bert_pair(folder, rnd):
    """A bare BertModel file of the old kind (no `bert.` prefix, LayerNorm.gamma/beta, no classifier), one adapted layer, bf16 adapter."""
    cfg = bert_config(architectures=["BertModel"], hidden_size=28, num_attention_heads=4, num_hidden_layers=3, intermediate_size=44)
    del cfg["torch_dtype"], cfg["transformers_version"]
    model = fresh(SEQ, cfg)
    tensors = {k.removeprefix("bert."): v for k, v in base_tensors(model, rnd).items() if k.startswith("bert.")}
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in tensors.items()}
    assert sum(k.endswith((".gamma", ".beta")) for k in old) == 14
    write_base(f"{folder}/base", cfg, old)
    lora = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query"], layers_to_transform=[2], modules_to_save=["classifier"])
    write_adapter(model, lora, f"{folder}/adapter", rnd, dtype=torch.bfloat16, head_std=1.0)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 97, 2))
    # the renamed base tensors and the bf16 adapter must really have been read
    loaded = dict(ref.load_model(f"{folder}/base", f"{folder}/adapter")[0].named_parameters())
    for k, v in tensors.items():
        p = loaded.get(f"base_model.model.bert.{k}")
        p = loaded[f"base_model.model.bert.{k.replace('query.', 'query.base_layer.')}"] if p is None else p
        assert torch.equal(p, v.float().double()), k
    return expected(folder, ["lora", "lora+head", "head"])


def llama_gqa(folder, rnd):
    """Choice task: grouped queries, all seven linear layers, biases, head_dim of its own, tied embeddings, three bf16 shards, v4 config."""
    cfg = llama_config(
        hidden_size=28, num_attention_heads=4, num_key_value_heads=2, head_dim=10, num_hidden_layers=2, intermediate_size=42,
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rope_theta=500000.0, rope_scaling=None, torch_dtype="bfloat16",
    )
    model = fresh(LM, cfg)
    tensors = base_tensors(model, rnd, embedding_std=0.2)
    assert "lm_head.weight" not in tensors
    write_base(f"{folder}/base", cfg, tensors, dtype=torch.bfloat16, shards=3)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=6,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    write_adapter(model, lora, f"{folder}/adapter", rnd)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 101, 5))
    loaded = ref.load_model(f"{folder}/base", f"{folder}/adapter")[0]
    assert loaded.config.rope_parameters["rope_theta"] == 500000.0
    lm = loaded.base_model.model
    assert torch.equal(lm.lm_head.weight, tensors["model.embed_tokens.weight"].float().bfloat16().double())
    assert lm.model.layers[0].mlp.down_proj.base_layer.bias is not None
    return expected(folder, ["lora"], choice_ids=[41, 7, 93, 20, 64])


def llama3_scaled(folder, rnd):
    """Sequence classification with llama3 rope scaling in the v4 spelling, one key/value head, and pad ids inside two test rows."""
    pad = 3
    cfg = llama_config(
        architectures=["LlamaForSequenceClassification"], hidden_size=30, num_attention_heads=3, num_key_value_heads=1, num_hidden_layers=2,
        intermediate_size=46, pad_token_id=pad, attention_bias=False, mlp_bias=False, rope_theta=10000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16),
        **labels(2),
    )
    model = fresh(SEQ, cfg)
    write_base(f"{folder}/base", cfg, base_tensors(model, rnd))
    lora = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"], modules_to_save=["score"])
    write_adapter(model, lora, f"{folder}/adapter", rnd)
    calib, test = random_rows(rnd, N_CALIB, 101, 2, max_len=30), random_rows(rnd, N_TEST, 101, 2, min_len=6, max_len=30)
    test[2]["input_ids"] += [pad]  # pooled one to the left
    ids = test[5]["input_ids"]
    ids[len(ids) // 2] = pad  # an ordinary token: attended to, not pooled
    write_rows(f"{folder}/calib.jsonl", calib)
    write_rows(f"{folder}/test.jsonl", test)
    loaded = ref.load_model(f"{folder}/base", f"{folder}/adapter")[0]
    rope = loaded.config.rope_parameters
    assert rope["rope_type"] == "llama3" and rope["original_max_position_embeddings"] == 16 and rope["rope_theta"] == 10000.0
    return expected(folder, ["lora", "lora+head", "head"])


def bert_f16_head(folder, rnd):
    """F16 base file; also for the parameter sets with the dense classifier."""
    cfg = bert_config(hidden_size=30, num_attention_heads=6, num_hidden_layers=2, intermediate_size=50, torch_dtype="float16", **labels(3))
    model = fresh(SEQ, cfg)
    write_base(f"{folder}/base", cfg, base_tensors(model, rnd), dtype=torch.float16)
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=4, target_modules=["query", "value"], modules_to_save=["classifier"])
    write_adapter(model, lora, f"{folder}/adapter", rnd)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 97, 3))
    return expected(folder, ["lora", "lora+head", "head"])


MADE = {
    "bert-all-linear": (bert_all_linear, 101),
    "bert-pair": (bert_pair, 102),
    "llama-gqa": (llama_gqa, 103),
    "llama3-scaled": (llama3_scaled, 104),
    "bert-f16-head": (bert_f16_head, 105),
}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--only", type=lambda s: s.split(","), default=[*MADE, *COPIES])
    o = ap.parse_args()
    for name in o.only:
        folder = os.path.normpath(os.path.join(PARITY, name))
        if name in COPIES:
            with open(f"{folder}/expected.json") as f:
                given = json.load(f)
            result, file = expected(folder, COPIES[name], given["choice_ids"]), "expected_extra.json"
        else:
            make, seed = MADE[name]
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            torch.manual_seed(seed)
            result, file = make(folder, Random(seed)), "expected.json"
        with open(f"{folder}/{file}", "w") as f:
            f.write(ref.dumps(result))


if __name__ == "__main__":
    main()

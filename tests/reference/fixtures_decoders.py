"""Fixtures of decoders."""

import json
import os
import shutil

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

import laplace_reference as ref
from fixture_tools import (
    LM, N_CALIB, N_TEST, SEQ, base_tensors, case, expected, fresh, labels, llama_config,
    random_rows, write_adapter, write_base, write_rows,
)


def llama_gqa(folder, rnd):
    """Choice task: grouped queries, all seven linear layers, biases, head_dim of its own, tied
    embeddings, three bf16 shards, v4 config."""
    cfg = llama_config(
        hidden_size=28, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
        num_hidden_layers=2, intermediate_size=42, attention_bias=True, mlp_bias=True,
        tie_word_embeddings=True, rope_theta=500000.0, rope_scaling=None, torch_dtype="bfloat16",
    )
    model = fresh(LM, cfg)
    tensors = base_tensors(model, rnd, embedding_std=0.2)
    assert "lm_head.weight" not in tensors
    write_base(f"{folder}/base", cfg, tensors, dtype=torch.bfloat16, shards=3)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=6,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                        "down_proj"],
    )
    write_adapter(model, lora, f"{folder}/adapter", rnd)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 101, 5))
    loaded = ref.load_model(f"{folder}/base", f"{folder}/adapter")[0]
    assert loaded.config.rope_parameters["rope_theta"] == 500000.0
    lm = loaded.base_model.model
    assert torch.equal(lm.lm_head.weight,
                       tensors["model.embed_tokens.weight"].float().bfloat16().double())
    assert lm.model.layers[0].mlp.down_proj.base_layer.bias is not None
    return expected(folder, ["lora"], choice_ids=[41, 7, 93, 20, 64])


def llama3_scaled(folder, rnd):
    """Sequence classification with llama3 rope scaling in the v4 spelling, one key/value head, and
    pad ids inside two test rows."""
    pad = 3
    cfg = llama_config(
        architectures=["LlamaForSequenceClassification"], hidden_size=30, num_attention_heads=3,
        num_key_value_heads=1, num_hidden_layers=2, intermediate_size=46, pad_token_id=pad,
        attention_bias=False, mlp_bias=False, rope_theta=10000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=16),
        **labels(2),
    )
    model = fresh(SEQ, cfg)
    write_base(f"{folder}/base", cfg, base_tensors(model, rnd))
    lora = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8,
                      target_modules=["q_proj", "k_proj", "v_proj"], modules_to_save=["score"])
    write_adapter(model, lora, f"{folder}/adapter", rnd)
    calib = random_rows(rnd, N_CALIB, 101, 2, max_len=30)
    test = random_rows(rnd, N_TEST, 101, 2, min_len=6, max_len=30)
    test[2]["input_ids"] += [pad]  # pooled one to the left
    ids = test[5]["input_ids"]
    ids[len(ids) // 2] = pad  # an ordinary token: attended to, not pooled
    write_rows(f"{folder}/calib.jsonl", calib)
    write_rows(f"{folder}/test.jsonl", test)
    loaded = ref.load_model(f"{folder}/base", f"{folder}/adapter")[0]
    rope = loaded.config.rope_parameters
    assert rope["rope_type"] == "llama3" and rope["rope_theta"] == 10000.0
    assert rope["original_max_position_embeddings"] == 16
    return expected(folder, ["lora", "lora+head", "head"])


def llama_rope(folder, rnd, max_position, lengths, spelling):
    """A choice task with scaled rotary tables; `spelling` is how the config says so."""
    cfg = llama_config(
        hidden_size=32, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=2,
        intermediate_size=40, pad_token_id=0, max_position_embeddings=max_position,
        attention_bias=False, mlp_bias=False, **spelling,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6,
                      target_modules=["q_proj", "k_proj", "v_proj"])
    return case(folder, rnd, cfg, lora, choice_ids=[12, 50, 33], lengths=lengths, embedding_std=0.4)


def llama_yarn(folder, rnd):
    """YaRN in the v4 spelling; frequencies below, on and above the ramp."""
    rope = dict(type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=2.0,
                beta_slow=0.1)
    return llama_rope(folder, rnd, 128, (3, 28), dict(rope_theta=1000.0, rope_scaling=rope))


def llama_yarn_mscale(folder, rnd):
    """YaRN in the v5 spelling, its two scales of attention given, the ramp's ends not rounded to
    whole dimensions."""
    rope = dict(
        rope_type="yarn", rope_theta=500.0, factor=8.0, original_max_position_embeddings=16,
        beta_fast=3.0, beta_slow=0.2, mscale=0.9, mscale_all_dim=0.4, truncate=False,
    )
    return llama_rope(folder, rnd, 128, (3, 28), dict(rope_parameters=rope))


def llama_dynamic(folder, rnd):
    """Dynamic NTK: the base depends on the length of the row; rows on both sides of the trained
    length."""
    return llama_rope(folder, rnd, 12, (3, 28),
                      dict(rope_theta=10000.0, rope_scaling=dict(type="dynamic", factor=2.0)))


def llama_linear(folder, rnd):
    """Linear scaling of the positions."""
    return llama_rope(folder, rnd, 64, (3, 28),
                      dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0,
                                                factor=2.5)))


def qwen2_window(folder, rnd):
    """The upper two of four layers see eight tokens; v4 spelling."""
    cfg = llama_config(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=4, intermediate_size=44,
        rms_norm_eps=1e-6, rope_theta=1000000.0, use_sliding_window=True, sliding_window=8,
        max_window_layers=2, tie_word_embeddings=True,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6,
                      target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    return case(folder, rnd, cfg, lora, choice_ids=[8, 71, 30], lengths=(4, 28), embedding_std=0.2)


def qwen2_seq(folder, rnd):
    """Sequence classification without a pad id: the last token is read."""
    cfg = llama_config(
        architectures=["Qwen2ForSequenceClassification"], model_type="qwen2", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=1, num_hidden_layers=2, intermediate_size=44,
        rms_norm_eps=1e-6, rope_theta=10000.0, use_sliding_window=False, sliding_window=4,
        max_window_layers=0, **labels(3),
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6,
                      target_modules=["q_proj", "v_proj", "down_proj"], modules_to_save=["score"])
    return case(folder, rnd, cfg, lora, EVERY, embedding_std=0.4)


def gemma_config(**kw):
    cfg = llama_config(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
        intermediate_size=44, hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-6,
        query_pre_attn_scalar=12, sliding_window=8, pad_token_id=0, attention_bias=False,
        tie_word_embeddings=True,
    )
    del cfg["hidden_act"], cfg["pretraining_tp"]
    cfg.update(kw)
    return cfg


def gemma(folder, rnd):
    """The first Gemma: no windows and no caps, and the gelu of its config is the tanh approximation
    whatever it says."""
    cfg = gemma_config(architectures=["GemmaForCausalLM"], model_type="gemma", num_hidden_layers=2,
                       hidden_act="gelu", rope_theta=10000.0)
    for key in ("query_pre_attn_scalar", "sliding_window", "hidden_activation"):
        del cfg[key]
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6,
                      target_modules=["q_proj", "v_proj", "down_proj"])
    return case(folder, rnd, cfg, lora, choice_ids=[9, 44, 61], embedding_std=0.2)


def olmo2_config(**kw):
    cfg = llama_config(
        model_type="olmo2", hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=44, rms_norm_eps=1e-6, rope_theta=500000.0, attention_bias=False,
        pad_token_id=0,
    )
    for key in ("pretraining_tp", "mlp_bias"):
        cfg.pop(key, None)
    cfg.update(kw)
    return cfg


def olmo2(folder, rnd):
    """Norms of what attention and FFN add alone, and of whole queries and keys; grouped queries."""
    cfg = olmo2_config(architectures=["Olmo2ForCausalLM"], num_hidden_layers=3)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=6,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                        "down_proj"],
    )
    return case(folder, rnd, cfg, lora, choice_ids=[19, 52, 77], embedding_std=0.3)


def smollm3(folder, rnd):
    """Every second layer does not rotate."""
    cfg = llama_config(
        architectures=["SmolLM3ForCausalLM"], model_type="smollm3", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=4, intermediate_size=44,
        no_rope_layer_interval=2, use_sliding_window=False, tie_word_embeddings=True,
        rope_theta=10000.0, pad_token_id=0,
    )
    del cfg["pretraining_tp"]
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6,
                      target_modules=["q_proj", "k_proj", "v_proj"])
    return case(folder, rnd, cfg, lora, choice_ids=[15, 66, 91], embedding_std=0.2)


def scores(folder, rnd, cfg, modules, **kw):
    """The sequence classifier of an architecture whose answer tokens are another case."""
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=modules,
                      modules_to_save=["score"])
    return case(folder, rnd, cfg, lora, EVERY, lengths=(4, 24), embedding_std=0.4, **kw)


def mistral_seq(folder, rnd):
    """A window of eight tokens; pad ids behind a row are not read."""
    cfg = llama_config(
        architectures=["MistralForCausalLM"], model_type="mistral", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, intermediate_size=44,
        sliding_window=8, rope_theta=10000.0, pad_token_id=3, **labels(3),
    )

    def pads(calib, test):
        test[1]["input_ids"] += [3, 3]

    return scores(folder, rnd, cfg, ["q_proj", "v_proj", "down_proj"], edit=pads)


def qwen3_seq(folder, rnd):
    cfg = llama_config(
        architectures=["Qwen3ForSequenceClassification"], model_type="qwen3", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, num_hidden_layers=2,
        intermediate_size=44, rms_norm_eps=1e-6, rope_theta=1000000.0, use_sliding_window=False,
        sliding_window=None, pad_token_id=0, attention_bias=False, **labels(3),
    )
    return scores(folder, rnd, cfg, ["q_proj", "k_proj", "o_proj", "gate_proj"])


def olmo2_seq(folder, rnd):
    """Pruned to the pooled tokens: nothing behind the keys and values is adapted."""
    cfg = olmo2_config(architectures=["Olmo2ForSequenceClassification"], num_hidden_layers=2,
                       **labels(3))
    return scores(folder, rnd, cfg, ["q_proj", "v_proj"])


def smollm3_seq(folder, rnd):
    cfg = llama_config(
        architectures=["SmolLM3ForCausalLM"], model_type="smollm3", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3, intermediate_size=44,
        no_rope_layer_interval=3, use_sliding_window=False, rope_theta=10000.0, pad_token_id=0,
        **labels(3),
    )
    del cfg["pretraining_tp"]
    return scores(folder, rnd, cfg, ["q_proj", "v_proj", "up_proj"])


def gemma_seq(folder, rnd):
    cfg = gemma_config(
        architectures=["GemmaForSequenceClassification"], model_type="gemma", num_hidden_layers=2,
        hidden_act="gelu", rope_theta=10000.0, **labels(3),
    )
    for key in ("query_pre_attn_scalar", "sliding_window", "hidden_activation"):
        del cfg[key]
    return scores(folder, rnd, cfg, ["q_proj", "v_proj", "down_proj"], head_std=0.2)


def gemma2_seq(folder, rnd):
    """Sequence classification: the cap of the attention scores holds, that of the logits does not;
    layers alternate without being named."""
    cfg = gemma_config(
        architectures=["Gemma2ForSequenceClassification"], model_type="gemma2", num_hidden_layers=2,
        attn_logit_softcapping=3.0, final_logit_softcapping=2.0, rope_theta=10000.0, **labels(3),
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6,
                      target_modules=["q_proj", "k_proj", "v_proj"], modules_to_save=["score"])
    return case(folder, rnd, cfg, lora, EVERY, lengths=(4, 24))


def gemma3(folder, rnd):
    """Two of three layers local, each kind with its own rotary table; v5 spelling."""
    cfg = gemma_config(
        architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
        ),
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                        "down_proj"],
    )
    return case(folder, rnd, cfg, lora, choice_ids=[9, 44, 61, 80], lengths=(4, 28),
                embedding_std=0.2)


def gemma3_wrapped(folder, rnd):
    """The case gemma3 as the text part of a model that reads images too: other names, the same
    numbers."""
    plain = f"{folder}/../gemma3"
    with open(f"{plain}/base/config.json") as f:
        text = json.load(f)
    cfg = dict(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3",
               text_config=text, tie_word_embeddings=True)
    tensors = load_file(f"{plain}/base/model.safetensors")
    write_base(f"{folder}/base", cfg, {f"language_model.{k}": v for k, v in tensors.items()})
    os.makedirs(f"{folder}/adapter")
    shutil.copy(f"{plain}/adapter/adapter_config.json", f"{folder}/adapter")
    tensors = load_file(f"{plain}/adapter/adapter_model.safetensors")
    renamed = {k.replace("model.model.layers", "model.model.language_model.layers"): v
               for k, v in tensors.items()}
    save_file(renamed, f"{folder}/adapter/adapter_model.safetensors", metadata={"format": "pt"})
    for name in ("calib", "test"):
        shutil.copy(f"{plain}/{name}.jsonl", folder)
    with open(f"{plain}/expected.json") as f:
        return json.loads(f.read().replace("model.layers.", "model.language_model.layers."))


def gemma3_v4(folder, rnd):
    """Gemma 3 in the v4 spelling, its scaling for the global layers alone, as a sequence
    classifier."""
    cfg = gemma_config(
        architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", num_hidden_layers=4,
        sliding_window_pattern=3, rope_theta=500000.0, rope_local_base_freq=5000.0,
        rope_scaling=dict(rope_type="linear", factor=4.0), **labels(3),
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6,
                      target_modules=["q_proj", "k_proj", "v_proj"], modules_to_save=["score"])
    return case(folder, rnd, cfg, lora, EVERY, lengths=(4, 28))


def phi3_config(**kw):
    cfg = llama_config(
        architectures=["Phi3ForCausalLM"], model_type="phi3", hidden_size=32, num_attention_heads=4,
        num_key_value_heads=2, num_hidden_layers=2, intermediate_size=44, pad_token_id=0,
        original_max_position_embeddings=64, rope_theta=10000.0, resid_pdrop=0.0, embd_pdrop=0.0,
    )
    del cfg["pretraining_tp"]
    cfg.update(kw)
    return cfg


FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]


def phi3(folder, rnd):
    """Fused projections, all of them adapted; every layer sees eight tokens."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=FUSED)
    cfg = phi3_config(sliding_window=8, rope_scaling=None)
    return case(folder, rnd, cfg, lora, choice_ids=[15, 66, 91], lengths=(4, 24), embedding_std=0.4)


def phi3_longrope_config(**kw):
    rope = dict(type="longrope", short_factor=[1.0, 1.1, 1.25, 1.5],
                long_factor=[1.0, 1.5, 4.0, 9.0])
    return phi3_config(num_attention_heads=2, num_key_value_heads=1, partial_rotary_factor=0.5,
                       sliding_window=None, rope_scaling=rope, **kw)


def phi3_longrope(folder, rnd):
    """Half of every head rotated, short rows of a model stretched twofold: the short factors, and a
    factor of attention."""
    cfg = phi3_longrope_config(original_max_position_embeddings=32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=FUSED)
    return case(folder, rnd, cfg, lora, choice_ids=[15, 66, 91], lengths=(4, 24), embedding_std=0.4)


def phi3_longrope_long(folder, rnd):
    """Rows on both sides of the length where the long factors begin; a sequence classifier."""
    cfg = phi3_longrope_config(original_max_position_embeddings=12, **labels(2))
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=["qkv_proj"],
                      modules_to_save=["score"])
    return case(folder, rnd, cfg, lora, EVERY, classes=2, lengths=(4, 24), embedding_std=0.4)


def gpt2_seq(folder, rnd):
    """Every Conv1D of a GPT-2, scores divided by the layer's number, a wider inner layer; the pad
    id decides which token is read."""
    pad = 3
    cfg = dict(
        architectures=["GPT2LMHeadModel"], model_type="gpt2", vocab_size=101, n_positions=32,
        n_embd=30, n_layer=3, n_head=3, n_inner=44, activation_function="gelu_new",
        layer_norm_epsilon=1e-5, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=True,
        pad_token_id=pad, bos_token_id=1, eos_token_id=2, torch_dtype="float32", **labels(3),
    )
    lora = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, fan_in_fan_out=True,
        target_modules=["c_attn", "c_proj", "c_fc"], modules_to_save=["score"],
    )

    def pads(calib, test):
        test[1]["input_ids"] += [pad, pad]
        test[4]["input_ids"][1] = pad

    return case(folder, rnd, cfg, lora, EVERY, edit=pads, head_std=1.0)


EVERY = ("lora", "lora+head", "head")
MADE = {
    "llama-gqa": (llama_gqa, 103),
    "llama3-scaled": (llama3_scaled, 104),
    "llama-yarn": (llama_yarn, 301),
    "llama-yarn-mscale": (llama_yarn_mscale, 302),
    "llama-dynamic": (llama_dynamic, 303),
    "llama-linear": (llama_linear, 304),
    "qwen2-window": (qwen2_window, 305),
    "qwen2-seq": (qwen2_seq, 306),
    "gemma2-seq": (gemma2_seq, 307),
    "gemma3": (gemma3, 308),
    "gemma3-wrapped": (gemma3_wrapped, 0),
    "gemma3-v4": (gemma3_v4, 309),
    "gemma": (gemma, 320),
    "smollm3": (smollm3, 321),
    "olmo2": (olmo2, 340),
    "olmo2-seq": (olmo2_seq, 341),
    "phi3": (phi3, 310),
    "phi3-longrope": (phi3_longrope, 311),
    "phi3-longrope-long": (phi3_longrope_long, 312),
    "gpt2-seq": (gpt2_seq, 313),
    "mistral-seq": (mistral_seq, 330),
    "qwen3-seq": (qwen3_seq, 331),
    "smollm3-seq": (smollm3_seq, 332),
    "gemma-seq": (gemma_seq, 333),
}

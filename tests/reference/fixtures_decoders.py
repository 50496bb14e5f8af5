"""Fixtures of decoders."""

import torch
from peft import LoraConfig

import laplace_reference as ref
from fixture_tools import (
    LM, N_CALIB, N_TEST, SEQ, base_tensors, case, expected, fresh, labels, llama_config, random_rows, write_adapter, write_base, write_rows,
)


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


MADE = {
    "llama-gqa": (llama_gqa, 103),
    "llama3-scaled": (llama3_scaled, 104),
}

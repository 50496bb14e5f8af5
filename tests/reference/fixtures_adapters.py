"""Fixtures of adapters beyond plain LoRA, each on a small BERT, Llama or GPT-2."""

import copy

from peft import (
    AdaLoraConfig, IA3Config, LoraConfig, PrefixTuningConfig, PromptEncoderConfig,
    PromptTuningConfig, VeraConfig,
)

import adapters_library as library
from fixture_tools import bert_config, case, labels, llama_config, write_adapter

EVERY = ("lora", "lora+head", "head")
MAGNITUDES = ("lora+magnitude", "lora+magnitude+head")
CHOICES = [12, 50, 33]
LENGTHS = (4, 20)


def small_bert():
    return bert_config(hidden_size=32, num_attention_heads=4, num_hidden_layers=2,
                       intermediate_size=40, **labels(3))


def small_llama(**kw):
    return llama_config(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
        intermediate_size=40, pad_token_id=0, attention_bias=False, mlp_bias=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0), **kw,
    )


def small_gpt2():
    return dict(
        architectures=["GPT2LMHeadModel"], model_type="gpt2", vocab_size=101, n_positions=32,
        n_embd=32, n_layer=2, n_head=4, n_inner=None, activation_function="gelu_new",
        layer_norm_epsilon=1e-5, bos_token_id=1, eos_token_id=2, torch_dtype="float32",
    )


def on_bert(folder, rnd, config, params=EVERY, **kw):
    return case(folder, rnd, small_bert(), config, params, embedding_std=0.4, **kw)


def on_llama(folder, rnd, config, cfg=None, **kw):
    return case(folder, rnd, cfg or small_llama(), config, choice_ids=CHOICES, lengths=LENGTHS,
                embedding_std=0.4, **kw)


# --------------------------------------------------------------------------------------------- LoRA


def dora_bert(folder, rnd):
    """DoRA with biases in the base layers; the norm of the columns is held when the gradient is
    taken."""
    return on_bert(folder, rnd, LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, use_dora=True,
                                           target_modules=["query", "output.dense"]),
                   EVERY + MAGNITUDES)


def dora_gpt2(folder, rnd):
    """DoRA on a Conv1D, whose weight lies transposed."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, use_dora=True, fan_in_fan_out=True,
                      target_modules=["c_attn", "c_fc"])
    return case(folder, rnd, small_gpt2(), lora, ("lora", "lora+magnitude"), choice_ids=CHOICES,
                lengths=LENGTHS, embedding_std=0.4)


def embedding_llama(folder, rnd):
    """LoRA on the embedding: the input of A is the one-hot vector of the token."""
    return on_llama(folder, rnd, LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6,
                                            target_modules=["embed_tokens", "q_proj"]))


def embedding_bert(folder, rnd):
    """LoRA on the word embeddings of a BERT."""
    return on_bert(folder, rnd, LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=3,
                                           target_modules=["word_embeddings", "value"]), ("lora",))


def embedding_gemma3(folder, rnd):
    """LoRA on a scaled embedding: the scale holds for the product too; the head, tied to the
    embedding, stays as it was."""
    cfg = llama_config(
        architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", hidden_size=32,
        num_attention_heads=4, num_key_value_heads=1, head_dim=8, num_hidden_layers=2,
        intermediate_size=40, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=8,
        sliding_window=8, layer_types=["sliding_attention", "full_attention"], rms_norm_eps=1e-6,
        pad_token_id=0, tie_word_embeddings=True,
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=1,
                      target_modules=["embed_tokens", "v_proj"])
    return case(folder, rnd, cfg, lora, choice_ids=CHOICES, lengths=LENGTHS, embedding_std=0.25)


def tied_head(folder, rnd):
    """LoRA on the output layer of a model that ties it to the embedding, which stays as it was."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6,
                      target_modules=["lm_head", "v_proj"])
    return on_llama(folder, rnd, lora, small_llama(tie_word_embeddings=True))


def tied_both(folder, rnd):
    """LoRA on both ends of a tied pair, each with a product of its own."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4,
                      target_modules=["lm_head", "embed_tokens"])
    return on_llama(folder, rnd, lora, small_llama(tie_word_embeddings=True))


def trained_embedding_tied(folder, rnd):
    """A whole trained embedding where the output layer is tied: PEFT trains a copy, and the output
    layer keeps the first one."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=["v_proj"],
                      modules_to_save=["embed_tokens"])
    return on_llama(folder, rnd, lora, small_llama(tie_word_embeddings=True))


SPECIAL = [7, 40, 63]


def special_tokens(calib, test):
    for row in calib[::2] + test[::2]:
        row["input_ids"][1] = SPECIAL[row["label"]]


def trainable_tokens(folder, rnd):
    """Three rows of the embedding replaced, beside LoRA; they are no block."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"],
                      trainable_token_indices={"embed_tokens": SPECIAL})
    return on_llama(folder, rnd, lora, edit=special_tokens)


def trainable_tokens_tied(folder, rnd):
    """The same rows where the output layer is tied: it reads the replaced rows too, and one of them
    is a choice."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"],
                      trainable_token_indices=SPECIAL)
    cfg = small_llama(tie_word_embeddings=True)
    return case(folder, rnd, cfg, lora, choice_ids=[12, 40, 33], lengths=LENGTHS, embedding_std=0.4,
                edit=special_tokens)


def bias_all(folder, rnd):
    """Every bias of the model replaced: layers, norms, pooler."""
    return on_bert(folder, rnd, LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, bias="all",
                                           target_modules=["query", "value"]))


def lora_bias(folder, rnd):
    """A bias after B, scaled as B is; it is no block."""
    return on_bert(folder, rnd, LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=9, lora_bias=True,
                                           target_modules=["query", "value"]), ("lora",))


# --------------------------------------------------------------------------------------- the others


def adalora(folder, rnd):
    """AdaLoRA before any direction went, on a BERT."""
    config = AdaLoraConfig(task_type="SEQ_CLS", init_r=4, target_r=2, total_step=100, lora_alpha=8,
                           target_modules=["query", "value"])
    return on_bert(folder, rnd, config)


def adalora_pruned(folder, rnd):
    """AdaLoRA with directions gone: the divisor stays the first rank, the tensors are narrower."""
    config = AdaLoraConfig(task_type="CAUSAL_LM", init_r=4, target_r=2, total_step=100,
                           lora_alpha=8, target_modules=["q_proj", "v_proj"])
    kept = {
        f"model.layers.{layer}.self_attn.{proj}": [True, layer == 0, proj == "v_proj", True]
        for layer in (0, 1) for proj in ("q_proj", "v_proj")
    }
    return on_llama(folder, rnd, config, kept=kept)


VECTORS = "The trained vectors are no plain linear map; the logits alone are given."


def ia3_llama(folder, rnd):
    """IA3: outputs of key and value, inputs of the second feed-forward layer."""
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"],
                       feedforward_modules=["down_proj"])
    return on_llama(folder, rnd, config)


def ia3_bert(folder, rnd):
    """IA3 where the scaled outputs have a bias, which is scaled too."""
    config = IA3Config(task_type="SEQ_CLS", target_modules=["key", "value", "output.dense"],
                       feedforward_modules=["output.dense"])
    return on_bert(folder, rnd, config)


def vera_bert(folder, rnd):
    """VeRA on projections of three shapes, which read one pair of frozen matrices, and a trained
    head."""
    return on_bert(folder, rnd,
                   VeraConfig(task_type="SEQ_CLS", r=6,
                              target_modules=["query", "value", "intermediate.dense",
                                              "output.dense"]))


def vera_llama(folder, rnd):
    """VeRA on the output layer too, cut down to the answer tokens."""
    return on_llama(folder, rnd,
                    VeraConfig(task_type="CAUSAL_LM", r=5,
                               target_modules=["v_proj", "up_proj", "down_proj", "lm_head"]))


def prompt_tuning(folder, rnd):
    """Five trained embeddings before the row's."""
    return on_llama(folder, rnd, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))


def prefix_tuning(folder, rnd):
    """Four trained keys and values before every layer's own."""
    return on_llama(folder, rnd, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))


def prefix_tuning_bert(folder, rnd):
    """The same where every token sees them: positions of the row's own begin behind them there
    too."""
    return on_bert(folder, rnd, PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4))


def prefix_projection(folder, rnd):
    """A prefix that stood behind a network while it was trained: the file holds what that gave."""
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=True,
                                encoder_hidden_size=8)
    return on_llama(folder, rnd, config)


def p_tuning(folder, rnd):
    """Five embeddings that an encoder gave; the file holds them without it."""
    return on_llama(folder, rnd, PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=5,
                                                     encoder_hidden_size=16))


def prompt_tuning_bert(folder, rnd):
    """The trained embeddings come before the row's first token, so that the pooler reads one of
    them."""
    return on_bert(folder, rnd, PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
                   head_std=5.0)


# ------------------------------------------------------------------------ of the `adapters` library


def houlsby_bert(folder, rnd):
    """Adapters behind attention and FFN that read what is added to the residual; a head of its
    own."""
    return on_bert(folder, rnd, None,
                   write=lambda *a: library.write(*a, library.bottleneck(non_linearity="swish")))


def pfeiffer_bert(folder, rnd):
    """Adapters that read the normed sum; the norm is taken again behind them."""
    return on_bert(folder, rnd, None,
                   write=lambda *a: library.write(*a, library.bottleneck(original_ln_before=True)))


def parallel_bert(folder, rnd):
    """Adapters that read the residual; a folder without a version, whose gelu is the tanh
    approximation."""
    return on_bert(folder, rnd, None, write=lambda *a: library.write(
        *a, library.bottleneck(is_parallel=True, scaling=2.0, non_linearity="gelu"), version=None))


def pfeiffer_llama(folder, rnd):
    """Adapters that read the sum, behind the FFN alone."""
    return on_llama(folder, rnd, None, write=lambda *a: library.write(
        *a, library.bottleneck(original_ln_before=True, mh_adapter=False)))


def parallel_llama(folder, rnd):
    """Adapters that read the residual stream before the norm."""
    return on_llama(folder, rnd, None,
                    write=lambda *a: library.write(
                        *a, library.bottleneck(is_parallel=True, scaling=4.0)))


def union_bert(folder, rnd):
    """A prefix behind a network, a scaled parallel adapter beside the FFN, and LoRA in it: the
    hybrid of arXiv 2508.02711."""
    parts = (
        library.prefix(),
        library.bottleneck(mh_adapter=False, is_parallel=True, scaling=4.0, reduction_factor=4),
        library.lora(selfattn_lora=False, intermediate_lora=True, output_lora=True),
    )
    return on_bert(folder, rnd, None, write=lambda *a: library.write(*a, *parts))


def union_llama(folder, rnd):
    """A flat prefix, whose keys are not rotated and shift no position, an adapter behind the FFN,
    LoRA on queries and values."""
    parts = (library.prefix(flat=True, prefix_length=3),
             library.bottleneck(original_ln_before=True, mh_adapter=False), library.lora(r=2))
    return on_llama(folder, rnd, None, write=lambda *a: library.write(*a, *parts))


def library_ia3_bert(folder, rnd):
    """(IA)^3: vectors that multiply keys, values and what the first layer of the FFN gives, before
    its activation."""
    part = library.lora(attn_matrices=["k", "v"], intermediate_lora=True, r=1, alpha=1,
                        composition_mode="scale", init_weights="ia3")
    return on_bert(folder, rnd, None, write=lambda *a: library.write(*a, part))


# ---------------------------------------------------------------------------- several names at once


def write_several(configs, task_type):
    def write(at, model, rnd):
        for name, config in configs.items():
            # with the type of a classifier, PEFT stores a head beside every one of them
            config.task_type = (task_type if task_type == "CAUSAL_LM" or config.modules_to_save
                                else None)
            write_adapter(copy.deepcopy(model), config, f"{at}/{name}", rnd)
        with open(f"{at}/adapters.txt", "w") as f:
            f.write(",".join(configs) + "\n")

    return write


def mixed_llama(folder, rnd):
    """LoRA, IA3 around it and LoRA around both, where all meet: outputs of the values' projection
    and inputs of the last of the FFN."""
    configs = {
        "inner": LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"]),
        "scale": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"],
                           feedforward_modules=["down_proj"]),
        "outer": LoraConfig(r=3, lora_alpha=3, target_modules=["v_proj", "down_proj", "up_proj"]),
    }
    return on_llama(folder, rnd, None, write=write_several(configs, "CAUSAL_LM"))


def mixed_bert(folder, rnd):
    """The same with biases; the queries' inputs are scaled, which in the last layer are fewer than
    its keys'."""
    configs = {
        "inner": LoraConfig(r=2, lora_alpha=4, lora_bias=True,
                            target_modules=["query", "value", "output.dense"]),
        "scale": IA3Config(target_modules=["query", "value", "output.dense"],
                           feedforward_modules=["query", "output.dense"]),
        "outer": LoraConfig(r=3, lora_alpha=3, target_modules=["query", "value"],
                            modules_to_save=["classifier"]),
    }
    return on_bert(folder, rnd, None, ("lora",), write=write_several(configs, "SEQ_CLS"))


MADE = {
    "dora-bert": (dora_bert, 401),
    "dora-gpt2": (dora_gpt2, 402),
    "lora-embedding-llama": (embedding_llama, 403),
    "lora-embedding-bert": (embedding_bert, 404),
    "lora-embedding-gemma3": (embedding_gemma3, 405),
    "lora-tied-head": (tied_head, 406),
    "lora-tied-both": (tied_both, 407),
    "trainable-tokens": (trainable_tokens, 408),
    "trainable-tokens-tied": (trainable_tokens_tied, 409),
    "bias-all": (bias_all, 410),
    "lora-bias": (lora_bias, 411),
    "adalora": (adalora, 412),
    "adalora-pruned": (adalora_pruned, 413),
    "ia3-llama": (ia3_llama, 414),
    "ia3-bert": (ia3_bert, 415),
    "prompt-tuning": (prompt_tuning, 416),
    "prefix-tuning": (prefix_tuning, 417),
    "prompt-tuning-bert": (prompt_tuning_bert, 418),
    "trained-embedding-tied": (trained_embedding_tied, 419),
    "houlsby-bert": (houlsby_bert, 420),
    "pfeiffer-bert": (pfeiffer_bert, 421),
    "parallel-bert": (parallel_bert, 422),
    "pfeiffer-llama": (pfeiffer_llama, 423),
    "parallel-llama": (parallel_llama, 424),
    "prefix-tuning-bert": (prefix_tuning_bert, 425),
    "p-tuning": (p_tuning, 426),
    "prefix-projection": (prefix_projection, 427),
    "union-bert": (union_bert, 428),
    "union-llama": (union_llama, 429),
    "library-ia3-bert": (library_ia3_bert, 430),
    "mixed-llama": (mixed_llama, 431),
    "mixed-bert": (mixed_bert, 432),
    "vera-bert": (vera_bert, 433),
    "vera-llama": (vera_llama, 434),
}

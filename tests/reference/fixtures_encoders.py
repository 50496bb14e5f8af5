"""Fixtures of encoders: BERT and what came after it."""

import re

import torch
from peft import LoraConfig

import laplace_reference as ref
from fixture_tools import (
    N_CALIB, N_TEST, SEQ, base_tensors, bert_config, case, expected, fresh, labels, random_rows,
    real_labels, write_adapter, write_base, write_rows,
)


def bert_all_linear(folder, rnd):
    """Every linear layer of a BERT, rsLoRA, rank and alpha patterns (the first that matches wins),
    trained biases."""
    cfg = bert_config(hidden_size=30, num_attention_heads=2, num_hidden_layers=2,
                      intermediate_size=46)
    names = ["bad", "poor", "good", "great"]
    cfg.update(id2label={str(i): n for i, n in enumerate(names)},
               label2id={n: i for i, n in enumerate(names)})
    model = fresh(SEQ, cfg)
    write_base(f"{folder}/base", cfg, base_tensors(model, rnd))
    lora = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, use_rslora=True, bias="lora_only",
        modules_to_save=["classifier"],
        target_modules=["query", "key", "value", "attention.output.dense", "intermediate.dense",
                        "output.dense", "bert.pooler.dense"],
        rank_pattern={"attention.output.dense": 2, "output.dense": 5,
                      "layer.1.attention.self.query": 1},
        alpha_pattern={"attention.output.dense": 4, "bert.pooler.dense": 3,
                       "layer.0.attention.self.key": 2, "output.dense": 7},
    )
    write_adapter(model, lora, f"{folder}/adapter", rnd, head_std=2.0)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 97, 4))
    return expected(folder, ["lora", "lora+head"])


def bert_pair(folder, rnd):
    """A bare BertModel file of the old kind (no `bert.` prefix, LayerNorm.gamma/beta, no
    classifier), one adapted layer, bf16 adapter."""
    cfg = bert_config(architectures=["BertModel"], hidden_size=28, num_attention_heads=4,
                      num_hidden_layers=3, intermediate_size=44)
    del cfg["torch_dtype"], cfg["transformers_version"]
    model = fresh(SEQ, cfg)
    tensors = {k.removeprefix("bert."): v for k, v in base_tensors(model, rnd).items()
               if k.startswith("bert.")}
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    old = {re.sub("|".join(older), lambda m: older[m.group()], k): v for k, v in tensors.items()}
    assert sum(k.endswith((".gamma", ".beta")) for k in old) == 14
    write_base(f"{folder}/base", cfg, old)
    lora = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query"],
                      layers_to_transform=[2], modules_to_save=["classifier"])
    write_adapter(model, lora, f"{folder}/adapter", rnd, dtype=torch.bfloat16, head_std=1.0)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 97, 2))
    # the renamed base tensors and the bf16 adapter must really have been read
    loaded = dict(ref.load_model(f"{folder}/base", f"{folder}/adapter")[0].named_parameters())
    for k, v in tensors.items():
        p = loaded.get(f"base_model.model.bert.{k}")
        p = (loaded[f"base_model.model.bert.{k.replace('query.', 'query.base_layer.')}"]
             if p is None else p)
        assert torch.equal(p, v.float().double()), k
    return expected(folder, ["lora", "lora+head", "head"])


def bert_f16_head(folder, rnd):
    """F16 base file; also for the parameter sets with the dense classifier."""
    cfg = bert_config(hidden_size=30, num_attention_heads=6, num_hidden_layers=2,
                      intermediate_size=50, torch_dtype="float16", **labels(3))
    model = fresh(SEQ, cfg)
    write_base(f"{folder}/base", cfg, base_tensors(model, rnd), dtype=torch.float16)
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=4, target_modules=["query", "value"],
                      modules_to_save=["classifier"])
    write_adapter(model, lora, f"{folder}/adapter", rnd)
    for name, n in (("calib", N_CALIB), ("test", N_TEST)):
        write_rows(f"{folder}/{name}.jsonl", random_rows(rnd, n, 97, 3))
    return expected(folder, ["lora", "lora+head", "head"])


def deberta_config(**kw):
    cfg = dict(
        architectures=["DebertaV2ForSequenceClassification"], model_type="deberta-v2",
        vocab_size=97, hidden_size=32, num_attention_heads=4, num_hidden_layers=3,
        intermediate_size=44, hidden_act="gelu", hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1, max_position_embeddings=32, max_relative_positions=-1,
        relative_attention=True, position_buckets=8, layer_norm_eps=1e-7,
        pooler_dropout=0, pooler_hidden_act="gelu", pooler_hidden_size=32, pad_token_id=0,
        initializer_range=0.02, torch_dtype="float32",
    )
    cfg.update(kw)
    return cfg


DEBERTA_V3 = dict(share_att_key=True, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm",
                  position_biased_input=False, type_vocab_size=0)


def deberta(folder, rnd):
    """DeBERTa v3: the query and key projections serve the relative positions too, whose table is
    normed; no absolute positions."""
    cfg = deberta_config(**DEBERTA_V3, **labels(3))
    lora = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, modules_to_save=["pooler", "classifier"],
        target_modules=["query_proj", "key_proj", "value_proj", "attention.output.dense",
                        "output.dense"],
    )
    return case(folder, rnd, cfg, lora, EVERY, lengths=(3, 24), embedding_std=0.4)


def deberta_separate(folder, rnd):
    """DeBERTa v2 with projections of their own for the relative positions, absolute positions and
    types, narrow embeddings."""
    cfg = deberta_config(
        share_att_key=False, pos_att_type="c2p|p2c", position_biased_input=True, type_vocab_size=2,
        embedding_size=20, num_hidden_layers=2, pooler_hidden_act="tanh", **labels(2),
    )
    lora = LoraConfig(
        task_type="SEQ_CLS", r=2, lora_alpha=4, modules_to_save=["pooler", "classifier"],
        target_modules=["query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj"],
    )
    return case(folder, rnd, cfg, lora, classes=2, lengths=(3, 24), embedding_std=0.4)


def xlm_roberta(folder, rnd):
    """Pad ids inside the rows: they take the position of the pad and do not count for the ones
    after them, yet are attended to."""
    pad = 1
    cfg = bert_config(
        architectures=["XLMRobertaForMaskedLM"], model_type="xlm-roberta", hidden_size=32,
        num_attention_heads=4, num_hidden_layers=2, intermediate_size=44,
        max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=pad,
        bos_token_id=0, eos_token_id=2, **labels(3),
    )
    lora = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6,
        target_modules=["query", "value", "intermediate.dense"], modules_to_save=["classifier"],
    )

    def pads(calib, test):
        for row in calib[::3] + test[::2]:
            row["input_ids"][len(row["input_ids"]) // 2] = pad
        test[1]["input_ids"] += [pad]

    return case(folder, rnd, cfg, lora, EVERY, lengths=(4, 20), edit=pads, embedding_std=0.4)


def modernbert_config(**kw):
    """The keys keep their order, whichever of them is given: files that were written stay the
    same."""
    cfg = dict(
        architectures=["ModernBertForMaskedLM"], model_type="modernbert", vocab_size=97,
        hidden_size=32, num_attention_heads=4, num_hidden_layers=3, intermediate_size=40,
        hidden_activation="gelu", max_position_embeddings=64, norm_eps=1e-5, norm_bias=False,
        attention_bias=False, mlp_bias=False, classifier_bias=True, classifier_pooling="mean",
        classifier_activation="gelu", global_rope_theta=160000.0, local_rope_theta=10000.0,
        global_attn_every_n_layers=2, local_attention=8, pad_token_id=0,
        cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2, torch_dtype="float32",
    )
    cfg.update(kw)
    return cfg


def modernbert_mean(folder, rnd):
    """The mean of the tokens pooled, every bias there is, a trained head with its norm; v4
    spelling."""
    cfg = modernbert_config(norm_bias=True, attention_bias=True, mlp_bias=True, **labels(3))
    lora = LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=["Wqkv", "Wo", "Wi"],
        modules_to_save=["head", "classifier"],
    )
    return case(folder, rnd, cfg, lora, EVERY, lengths=(3, 24), embedding_std=0.4, head_std=0.9)


def all_linear(folder, rnd, cfg, r, target_modules="all-linear", **kw):
    """Whatever PEFT makes of "all-linear"; its list names the layers of a whole trained head too,
    which get no LoRA."""
    lora = LoraConfig(task_type="SEQ_CLS", r=r, lora_alpha=2 * r, target_modules=target_modules)
    return case(folder, rnd, cfg, lora, EVERY, embedding_std=0.4, **kw)


def electra_all_linear(folder, rnd):
    """Every linear layer of an ELECTRA, the projection of its narrow embeddings among them."""
    return all_linear(folder, rnd, electra_config(**labels(3)), 2)


def distilbert_all_linear(folder, rnd):
    """Every linear layer of a DistilBERT, named: PEFT refuses "all-linear", which would adapt and
    save pre_classifier at once."""
    return all_linear(folder, rnd, distilbert_config(**labels(3)), 2,
                      ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"])


def roberta_all_linear(folder, rnd):
    """Every linear layer of a RoBERTa."""
    return all_linear(folder, rnd, roberta_config(**labels(2)), 2, classes=2)


def bert_regression(folder, rnd):
    """One output, as num_labels 1 makes it, and labels that are numbers."""
    cfg = bert_config(
        hidden_size=30, num_attention_heads=2, num_hidden_layers=2, intermediate_size=46,
        problem_type="regression", **labels(1),
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=["query", "value"],
                      modules_to_save=["classifier"])
    return case(folder, rnd, cfg, lora, EVERY, classes=1, embedding_std=0.4,
                prepare=lambda: real_labels(folder, rnd))


def bert_multilabel(folder, rnd):
    """Sets of classes: sigmoid outputs.  Labels are vectors of floats, as `datasets` has them, or
    lists of names, which may be empty."""
    names = ref.SET_NAMES
    cfg = bert_config(
        hidden_size=30, num_attention_heads=2, num_hidden_layers=2, intermediate_size=46,
        problem_type="multi_label_classification",
        id2label={str(c): name for c, name in enumerate(names)},
        label2id={name: c for c, name in enumerate(names)},
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=["query", "value"],
                      modules_to_save=["classifier"])

    def edit(calib, test):
        for i, row in enumerate([*calib, *test]):
            there = [rnd.integer(0, 2) for _ in range(4)]
            row["label"] = ([name for name, t in zip(names, there) if t] if i % 3 == 2
                            else [float(t) for t in there])

    return case(folder, rnd, cfg, lora, EVERY, classes=4, embedding_std=0.4, edit=edit)


def roberta_regression(folder, rnd):
    """No problem_type: one output alone makes it a regression; a head of two layers."""
    return regression(folder, rnd, roberta_config(**labels(1)),
                      ["query", "value", "intermediate.dense"], ["classifier"], head_std=0.15)


def bert_token(folder, rnd):
    """A class for every token."""
    cfg = bert_config(hidden_size=32, num_attention_heads=4, num_hidden_layers=2,
                      intermediate_size=40, **labels(3))
    lora = LoraConfig(task_type="TOKEN_CLS", r=3, lora_alpha=6, target_modules=["query", "value"],
                      modules_to_save=["classifier"])
    return case(folder, rnd, cfg, lora, EVERY, lengths=(3, 12), embedding_std=0.4)


def modernbert_token(folder, rnd):
    """The head of a ModernBERT on every token; windows, LoRA on the head's layer, and a pooling
    that does not count for this task."""
    cfg = modernbert_config(architectures=["ModernBertForTokenClassification"], local_attention=4,
                            **labels(4))
    lora = LoraConfig(task_type="TOKEN_CLS", r=3, lora_alpha=3,
                      target_modules=["Wqkv", "Wo", "head.dense"])
    return case(folder, rnd, cfg, lora, EVERY, classes=4, lengths=(3, 12), embedding_std=0.4)


def tags(folder, rnd, cfg, modules):
    lora = LoraConfig(task_type="TOKEN_CLS", r=2, lora_alpha=4, target_modules=modules,
                      modules_to_save=["classifier"])
    return case(folder, rnd, {**cfg, **labels(3)}, lora, EVERY, lengths=(3, 12), embedding_std=0.4)


def roberta_config(**kw):
    return bert_config(
        architectures=["RobertaForMaskedLM"], model_type="roberta", hidden_size=32,
        num_attention_heads=4, num_hidden_layers=2, intermediate_size=40,
        max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, **kw,
    )


def electra_config(**kw):
    return bert_config(
        architectures=["ElectraForPreTraining"], model_type="electra", hidden_size=32,
        embedding_size=18, num_attention_heads=4, num_hidden_layers=2, intermediate_size=40, **kw,
    )


def distilbert_config(**kw):
    return dict(
        architectures=["DistilBertForMaskedLM"], model_type="distilbert", vocab_size=97, dim=32,
        hidden_dim=40, n_heads=4, n_layers=2, activation="gelu", dropout=0.1, attention_dropout=0.1,
        max_position_embeddings=32, pad_token_id=0, sinusoidal_pos_embds=False,
        seq_classif_dropout=0.2, torch_dtype="float32", **kw,
    )


def roberta_token(folder, rnd):
    """One layer on every token, where the sequence's head has two."""
    return tags(folder, rnd, roberta_config(), ["query", "value"])


def electra_token(folder, rnd):
    """One layer on every token; LoRA on the projection of the embeddings."""
    return tags(folder, rnd, electra_config(), ["embeddings_project", "query", "output.dense"])


def distilbert_token(folder, rnd):
    return tags(folder, rnd, distilbert_config(), ["q_lin", "v_lin", "lin2"])


def camembert(folder, rnd):
    """RoBERTa by another name."""
    cfg = {**roberta_config(**labels(3)), "architectures": ["CamembertForMaskedLM"],
           "model_type": "camembert"}
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=["query", "value"],
                      modules_to_save=["classifier"])
    return case(folder, rnd, cfg, lora, EVERY, embedding_std=0.4)


def regression(folder, rnd, cfg, modules, head, **kw):
    lora = LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=4, target_modules=modules,
                      modules_to_save=head)
    return case(folder, rnd, cfg, lora, EVERY, classes=1, embedding_std=0.4,
                prepare=lambda: real_labels(folder, rnd, 0.3), **kw)


def electra_regression(folder, rnd):
    """One output behind a layer of its own."""
    return regression(folder, rnd, electra_config(**labels(1)), ["query", "value"], ["classifier"],
                      head_std=0.15)


def distilbert_regression(folder, rnd):
    """One output behind a layer that is trained as well."""
    return regression(folder, rnd, distilbert_config(**labels(1)), ["q_lin", "v_lin"],
                      ["pre_classifier", "classifier"], head_std=0.15)


def modernbert_regression(folder, rnd):
    """One output behind a head that is trained as well, of the pooled mean."""
    cfg = modernbert_config(num_hidden_layers=2, classifier_bias=False, **labels(1))
    return regression(folder, rnd, cfg, ["Wqkv", "Wo"], ["head", "classifier"], head_std=0.15)


def deberta_regression(folder, rnd):
    """One output behind a pooler that is trained as well."""
    cfg = deberta_config(**DEBERTA_V3, num_hidden_layers=2, **labels(1))
    return regression(folder, rnd, cfg, ["query_proj", "value_proj"], ["pooler", "classifier"],
                      head_std=0.15)


def deberta_token(folder, rnd):
    """Distances seen from tokens anywhere in the row."""
    cfg = deberta_config(**DEBERTA_V3, num_hidden_layers=2, **labels(3))
    lora = LoraConfig(
        task_type="TOKEN_CLS", r=3, lora_alpha=6,
        target_modules=["query_proj", "key_proj", "value_proj"],
    )
    return case(folder, rnd, cfg, lora, lengths=(3, 12), embedding_std=0.4)


EVERY = ("lora", "lora+head", "head")
MADE = {
    "bert-all-linear": (bert_all_linear, 101),
    "bert-pair": (bert_pair, 102),
    "bert-f16-head": (bert_f16_head, 105),
    "deberta-v2": (deberta, 201),
    "deberta-v2-separate": (deberta_separate, 202),
    "xlm-roberta": (xlm_roberta, 203),
    "modernbert-mean": (modernbert_mean, 204),
    "electra-all-linear": (electra_all_linear, 205),
    "distilbert-all-linear": (distilbert_all_linear, 206),
    "roberta-all-linear": (roberta_all_linear, 207),
    "bert-regression": (bert_regression, 208),
    "roberta-regression": (roberta_regression, 209),
    "bert-multilabel": (bert_multilabel, 240),
    "bert-token": (bert_token, 208),
    "modernbert-token": (modernbert_token, 209),
    "deberta-token": (deberta_token, 210),
    "roberta-token": (roberta_token, 211),
    "electra-token": (electra_token, 212),
    "distilbert-token": (distilbert_token, 213),
    "camembert": (camembert, 214),
    "electra-regression": (electra_regression, 215),
    "distilbert-regression": (distilbert_regression, 216),
    "modernbert-regression": (modernbert_regression, 217),
    "deberta-regression": (deberta_regression, 218),
}

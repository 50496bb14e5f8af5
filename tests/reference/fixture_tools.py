"""Tools that the fixtures of make_fixtures.py are written with: seeded random tensors, checkpoints,
rows, and the reference's answer."""

import json
import os
import tempfile
import warnings

warnings.filterwarnings("ignore")

import torch
import transformers
from peft import get_peft_model
from safetensors.torch import load_file, save_file

import laplace_reference as ref

PARITY = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures",
                                       "parity"))
N_CALIB, N_TEST = 24, 10
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class Random:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)

    def normal(self, shape, std, mean=0.0):
        return torch.randn(shape, generator=self.g, dtype=torch.float64) * std + mean

    def integer(self, lo, hi):
        return int(torch.randint(lo, hi, (1,), generator=self.g))


def base_tensors(model, rnd, embedding_std=0.08, norm_mean=1.0):
    """Random values for every parameter of a base model, in the order of the sorted names."""
    out = {}
    for name, p in sorted(model.named_parameters()):
        if name.endswith("bias"):
            t = rnd.normal(p.shape, 0.05)
        elif p.dim() == 1:  # a norm's weight
            t = rnd.normal(p.shape, 0.05, norm_mean)
        else:
            t = rnd.normal(p.shape, embedding_std if "embed" in name else 0.08)
        out[name] = t
    return out


def write_adapter(model, config, folder, rnd, dtype=torch.float32, head_std=0.5, bias_std=0.3,
                  kept=None):
    peft = get_peft_model(model, config)
    bias = getattr(config, "bias", "none")
    with torch.no_grad():
        for name, p in sorted(peft.named_parameters()):
            if ".lora_A." in name or ".lora_embedding_A." in name:
                p.copy_(rnd.normal(p.shape, 0.3))
            elif ".lora_B." in name or ".lora_embedding_B." in name:
                p.copy_(rnd.normal(p.shape, 0.25))
            elif ".lora_E." in name:
                p.copy_(rnd.normal(p.shape, 1.5))
            elif ".lora_magnitude_vector." in name:
                # PEFT starts it at the norms of the base weight
                p.mul_(rnd.normal(p.shape, 0.15, 1.0))
            elif ".ia3_l." in name:
                p.copy_(rnd.normal(p.shape, 0.4, 1.0))
            elif ".vera_lambda_" in name:
                p.copy_(rnd.normal(p.shape, 0.6, 0.8))
            elif "trainable_tokens_delta" in name or "prompt_encoder" in name:
                p.copy_(rnd.normal(p.shape, 0.5))
            elif ".modules_to_save." in name:
                p.copy_(rnd.normal(p.shape, head_std if p.dim() == 2 else bias_std))
            elif (bias == "lora_only" and name.endswith("base_layer.bias") or bias == "all"
                  and name.endswith("bias")):
                p.copy_(rnd.normal(p.shape, 0.1))
    for c in peft.peft_config.values():
        c.base_model_name_or_path = None
        # a table behind a network (while it is trained) is saved as the network's output, but not
        # by a model that infers
        c.inference_mode = not getattr(c, "prefix_projection", False) and c.peft_type != "P_TUNING"
        if kept:  # the singular directions that AdaLoRA has left, by module
            c.rank_pattern = {f"{module}.lora_E.default": directions
                              for module, directions in kept.items()}
    with tempfile.TemporaryDirectory() as tmp:
        peft.save_pretrained(tmp)
        tensors = load_file(os.path.join(tmp, "adapter_model.safetensors"))
        with open(os.path.join(tmp, "adapter_config.json")) as f:
            cfg = json.load(f)
    for key, value in cfg.items():  # sets become lists in an arbitrary order
        if isinstance(value, list) and all(isinstance(x, str) for x in value):
            cfg[key] = sorted(value)
    cfg["base_model_name_or_path"] = None
    cfg["inference_mode"] = True
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
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))})


def random_rows(rnd, count, vocab, n_classes, min_len=3, max_len=20, first=5):
    return [
        {
            "input_ids": [rnd.integer(first, vocab)
                          for _ in range(rnd.integer(min_len, max_len + 1))],
            "label": rnd.integer(0, n_classes),
        }
        for _ in range(count)
    ]


def tag_rows(rnd, rows, classes):
    """Labels for about half of a row's tokens, at least one, instead of one for all; no class is
    the mark of the others."""
    for row in rows:
        del row["label"]
        n = len(row["input_ids"])
        row["labels"] = [rnd.integer(0, classes) if rnd.integer(0, 2) else -100 for _ in range(n)]
        row["labels"][rnd.integer(0, n)] = rnd.integer(0, classes)


def write_rows(path, rows):
    with open(path, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)


def inputs(folder):
    return [os.path.join(folder, n) for n in ("base", "adapter", "calib.jsonl", "test.jsonl")]


def expected(folder, params, choice_ids=None):
    """The lora result at the top level, other parameter sets below their own name."""
    out = ref.reference(*inputs(folder), choice_ids=choice_ids, params="lora")
    sets = {"lora": out}
    for name in params:
        if name != "lora":
            r = ref.reference(*inputs(folder), choice_ids=choice_ids, params=name)
            torch.testing.assert_close(torch.tensor(r["logits"]), torch.tensor(out["logits"]),
                                       rtol=1e-12, atol=1e-12)
            out[name] = sets[name] = {"expand": r["expand"], "reduce": r["reduce"]}
    print(f"{os.path.basename(folder)}: logits std {spread(out['logits']):.2f}, blocks "
          f"{out['expand']['n_modules']}, "
          f"prior {out['expand']['prior_precision']:.3f} / "
          f"{out['reduce']['prior_precision']:.3f}{flat_blocks(sets)}", flush=True)
    return out


def expected_regression(folder, params):
    """Same as `expected`, for one output."""
    out = None
    for name in params:
        r = ref.reference(*inputs(folder), params=name)
        out = out or {k: r[k] for k in ("task", "n_classes", "logits")}
        out[name] = {k: part for k, part in r.items() if isinstance(part, dict)}
        joint = r["expand"]["joint"]["global"]
        print(f"{os.path.basename(folder)} {name}: outputs std "
              f"{torch.tensor(out['logits']).std():.2f}, noise variance "
              f"{joint['noise_variance']:.4f}, of the model {min(joint['model_variances']):.4f} to "
              f"{max(joint['model_variances']):.4f}", flush=True)
    return out


def real_labels(folder, rnd, noise=0.6):
    """Labels of a regression: the model's outputs and noise.  One of them is an integer, one a
    string."""
    model, task = ref.load_model(f"{folder}/base", f"{folder}/adapter")
    for name in ("calib", "test"):
        rows = ref.read_rows(f"{folder}/{name}.jsonl")
        for row in rows:
            row["label"] = round(ref.run_row(model, [], row, task, None)[0].item() + noise *
                                 rnd.normal((), 1).item(), 4)
        rows[1]["label"] = round(rows[1]["label"])
        rows[2]["label"] = str(rows[2]["label"])
        write_rows(f"{folder}/{name}.jsonl", rows)


def expected_logits(folder, note, choice_ids=None):
    """For what is trained without being a plain linear map: the logits alone."""
    logits = ref.logits_alone(*inputs(folder)[:2], inputs(folder)[3], choice_ids)
    print(f"{os.path.basename(folder)}: logits std {spread(logits):.2f}, logits alone", flush=True)
    return {"task": "choice" if choice_ids else "seq", "n_classes": len(logits[0]),
            "choice_ids": choice_ids, "logits": logits, "note": note}


def spread(logits):
    """How far the rows' centred logits are apart."""
    f = torch.tensor(logits)
    return (f - f.mean(1, keepdim=True)).std(0).mean().item()


def flat_blocks(sets):
    """Blocks without curvature.  A key projection under `reduce` is meant to be one where attention
    sees no shift of all keys."""
    names = [
        f"{kron}:{b['name']}"
        for parts in sets.values()
        for kron in ("expand", "reduce")
        for b in parts[kron]["blocks"]
        if min(b["trace_in"], b["trace_out"]) < 1e-12
    ]
    return ", without curvature " + " ".join(names) if names else ""


def bert_config(**kw):
    cfg = dict(
        architectures=["BertForSequenceClassification"], model_type="bert", vocab_size=97,
        hidden_act="gelu", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
        max_position_embeddings=48, type_vocab_size=2, layer_norm_eps=1e-12, initializer_range=0.02,
        pad_token_id=0, position_embedding_type="absolute", use_cache=True, classifier_dropout=None,
        torch_dtype="float32", transformers_version="4.44.2",
    )
    cfg.update(kw)
    return cfg


def llama_config(**kw):
    cfg = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=101, hidden_act="silu",
        attention_dropout=0.0, max_position_embeddings=64, rms_norm_eps=1e-5,
        initializer_range=0.02, bos_token_id=1, eos_token_id=2, pretraining_tp=1,
        use_cache=True, tie_word_embeddings=False, torch_dtype="float32",
        transformers_version="4.44.2",
    )
    cfg.update(kw)
    return cfg


def labels(n):
    return dict(id2label={str(i): f"LABEL_{i}" for i in range(n)},
                label2id={f"LABEL_{i}": i for i in range(n)})


def fresh(auto, cfg, **kw):
    """A model with this config.json, its weights meaningless."""
    with tempfile.TemporaryDirectory() as tmp:
        write_json(os.path.join(tmp, "config.json"), cfg)
        return auto.from_config(transformers.AutoConfig.from_pretrained(tmp, **kw)).float()


SEQ, LM = transformers.AutoModelForSequenceClassification, transformers.AutoModelForCausalLM
TAGS = transformers.AutoModelForTokenClassification


def case(folder, rnd, cfg, adapter, params=("lora",), classes=3, choice_ids=None, lengths=(3, 20),
         embedding_std=0.08, edit=None, note=None, prepare=None, write=None, **kw):
    """A whole fixture: base and adapter of these configurations, rows (edited by `edit(calib,
    test)`), and the reference's answer.

    choice_ids make it a causal language model.  A note says why there are logits alone.  prepare()
    changes the files last. write(folder, model, rnd) writes an adapter that is not PEFT's."""
    tags = adapter is not None and adapter.task_type == "TOKEN_CLS"
    model = fresh(LM if choice_ids else TAGS if tags else SEQ,
                  {k: v for k, v in cfg.items() if k != "quantization_config"})
    # the norms of Gemma multiply by 1 + weight
    norm_mean = 0.0 if cfg["model_type"].startswith("gemma") else 1.0
    tensors = base_tensors(model, rnd, embedding_std, norm_mean)
    write_base(f"{folder}/base", cfg, tensors)
    # DoRA starts from the base's norms, and some adapters hold a copy of the embedding
    model.load_state_dict(tensors, strict=False)
    if write:
        write(f"{folder}/adapter", model, rnd)
    else:
        write_adapter(model, adapter, f"{folder}/adapter", rnd, **kw)
    classes = len(choice_ids) if choice_ids else classes
    rows = [random_rows(rnd, n, cfg["vocab_size"], classes, *lengths)
            for n in ((N_CALIB // 3, N_TEST // 2) if tags else (N_CALIB, N_TEST))]
    if tags:
        tag_rows(rnd, [*rows[0], *rows[1]], classes)
    if edit:
        edit(*rows)
    for name, part in zip(("calib", "test"), rows):
        write_rows(f"{folder}/{name}.jsonl", part)
    if prepare:
        prepare()
    if note:
        return expected_logits(folder, note, choice_ids)
    return (expected_regression(folder, params) if classes == 1
            else expected(folder, params, choice_ids))

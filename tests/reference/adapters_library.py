"""Adapters of the `adapters` library as it computes and stores them, on a plain BERT or Llama of
transformers: bottlenecks, LoRA, (IA)^3, prefixes, and unions of these."""

import json
import os
import types

import torch
from safetensors.torch import load_file, save_file

F64 = torch.float64
COMMON = dict(use_gating=False, leave_out=[], dropout=0.0)
BOTTLENECK = dict(
    COMMON, mh_adapter=True, output_adapter=True, reduction_factor=8, non_linearity="relu",
    original_ln_before=False, original_ln_after=True, ln_before=False, ln_after=False,
    init_weights="bert", is_parallel=False, scaling=1.0, residual_before_ln=True,
    adapter_residual_before_ln=False, inv_adapter=None, cross_adapter=False, phm_layer=False,
    stochastic_depth=0.0,
)
LORA = dict(
    COMMON, architecture="lora", selfattn_lora=True, intermediate_lora=False, output_lora=False,
    attn_matrices=["q", "v"], r=3, alpha=6, composition_mode="add", init_weights="lora",
    use_dora=False, vera_d=None, vera_b=None, dtype=None,
)
PREFIX = dict(
    COMMON, architecture="prefix_tuning", encoder_prefix=True, cross_prefix=True, flat=False,
    prefix_length=4, bottleneck_size=8, non_linearity="tanh", shared_gating=True,
)
ACTIVATIONS = {
    "relu": torch.relu,
    "swish": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "gelu": torch.nn.functional.gelu,
    "gelu_new": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}
OLD_NAMES = {"gelu": "gelu_new", "gelu_orig": "gelu"}  # meaning in folders without a version
LINEAR = {  # where LoRA can be: q, k, v, then what selfattn_lora does not govern
    "bert": dict(q="attention.self.query", k="attention.self.key", v="attention.self.value",
                 intermediate="intermediate.dense", output="output.dense"),
    "llama": dict(q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj",
                  intermediate="mlp.up_proj", output="mlp.down_proj"),
}


def bottleneck(**kw):
    return {**BOTTLENECK, **kw}


def lora(**kw):
    return {**LORA, **kw}


def prefix(**kw):
    return {**PREFIX, **kw}


def is_of_library(folder):
    path = os.path.join(folder, "adapter_config.json")
    if not os.path.exists(path):
        return False
    with open(path) as f:
        return isinstance(json.load(f).get("config"), dict)


def parts_of(config):
    return config["configs"] if config.get("architecture") == "union" else [config]


def layers_of(model):
    """(name, module) of every layer."""
    name = "bert.encoder.layer" if model.config.model_type == "bert" else "model.layers"
    return [(f"{name}.{i}", layer) for i, layer in enumerate(model.get_submodule(name))]


def places(model):
    """(name of the module that holds the bottleneck, whether it is behind attention) for every
    layer."""
    names = (("attention.output", "output") if model.config.model_type == "bert"
             else ("attention_adapters", "output_adapters"))
    return [(f"{layer}.{name}", name == names[0]) for layer, _ in layers_of(model)
            for name in names]


def kv_width(config):
    """(heads of keys, width of one)"""
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    return heads, config.hidden_size // config.num_attention_heads


# -------------------------------------------------------------------------------------- bottlenecks


class Bottleneck(torch.nn.Module):
    def __init__(self, tensors, prefix, config):
        super().__init__()
        self.adapter_down, self.adapter_up = (self.dense(tensors, f"{prefix}.{part}")
                                              for part in ("adapter_down.0", "adapter_up"))
        self.config, self.act = config, ACTIVATIONS[config["non_linearity"]]

    @staticmethod
    def dense(tensors, name):
        weight = tensors.pop(f"{name}.weight")
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=F64)
        linear.weight.data, linear.bias.data = weight.to(F64), tensors.pop(f"{name}.bias").to(F64)
        return linear

    def forward(self, added, residual, norm=None):
        """Branch that is added to the residual, with the adapter."""
        if self.config["is_parallel"]:
            z = residual
        elif self.config["original_ln_before"]:
            z = added + residual if norm is None else norm(added + residual)
        else:
            z = added
        return added + self.config["scaling"] * self.adapter_up(self.act(self.adapter_down(z)))


def hang_in_bert(module, adapter):
    def forward(hidden_states, input_tensor):
        added = adapter(module.dense(hidden_states), input_tensor, module.LayerNorm)
        return module.LayerNorm(added + input_tensor)

    module.forward = forward


def hang_in_llama(layer, attention, output):
    residual = {}

    def keep(name):
        def hook(module, args, kwargs):
            residual[name] = args[0] if args else kwargs["hidden_states"]

        return hook

    layer.register_forward_pre_hook(keep("attention"), with_kwargs=True)
    layer.post_attention_layernorm.register_forward_pre_hook(keep("output"), with_kwargs=True)
    if attention:
        layer.self_attn.register_forward_hook(
            lambda m, args, out: (attention(out[0], residual["attention"]), *out[1:]))
    if output:
        layer.mlp.register_forward_hook(lambda m, args, out: output(out, residual["output"]))


def attach_bottlenecks(model, tensors, name, config, found):
    for place, behind_attention in places(model):
        if config["mh_adapter" if behind_attention else "output_adapter"]:
            found[place] = Bottleneck(tensors, f"{place}.adapters.{name}", config)
    if model.config.model_type == "bert":
        for place, _ in places(model):
            if place in found:
                hang_in_bert(model.get_submodule(place), found[place])
    else:
        for layer, module in layers_of(model):
            hang_in_llama(module, found.get(f"{layer}.attention_adapters"),
                          found.get(f"{layer}.output_adapters"))


# --------------------------------------------------------------------------- LoRA, (IA)^3, prefixes


def lora_places(model, config):
    linear = LINEAR[model.config.model_type]
    wanted = config["attn_matrices"] if config["selfattn_lora"] else []
    wanted = [*wanted, *(part for part in ("intermediate", "output") if config[f"{part}_lora"])]
    return [f"{layer}.{linear[part]}" for layer, _ in layers_of(model) for part in linear
            if part in wanted]


def attach_lora(model, tensors, name, config, blocks, new_block):
    for place in lora_places(model, config):
        module, inside = model.get_submodule(place), model.get_submodule(place).forward
        matrices = {leaf: tensors.pop(f"{place}.loras.{name}.{leaf}").to(F64)
                    for leaf in (("lora_A", "lora_B") if config["composition_mode"] == "add"
                                 else ("lora_B",))}
        made = {leaf: new_block(f"{place}.{leaf}", m) for leaf, m in matrices.items()}
        blocks += made.values()
        if config["composition_mode"] == "add":
            scale = config["alpha"] / config["r"]
            module.forward = lambda x, f=inside, a=made["lora_A"], b=made["lora_B"], s=scale: (
                f(x) + s * b.apply(a.apply(x)))
        else:
            module.forward = lambda x, f=inside, b=made["lora_B"]: (
                f(x) * b.apply(torch.ones(*x.shape[:-1], 1, dtype=F64)))


def prefix_table(tensors, name, config, width):
    """[n, width], and its tensors taken away, with the copies under every layer."""
    endings = (["control_trans"] if config["flat"]
               else ["wte.weight",
                     *(f"control_trans.{i}.{leaf}" for i in (0, 2) for leaf in ("weight", "bias"))])
    found = {}
    for key in [*tensors]:
        for ending in endings:
            if key.endswith(f"prefix_tunings.{name}.self_prefix.{ending}"):
                found[ending] = tensors.pop(key).to(F64)
    if config["flat"]:
        return found["control_trans"].reshape(config["prefix_length"], width)
    narrow = found["wte.weight"] @ found["control_trans.0.weight"].T + found["control_trans.0.bias"]
    return (ACTIVATIONS[config["non_linearity"]](narrow) @ found["control_trans.2.weight"].T +
            found["control_trans.2.bias"])


def attach_prefix(model, tensors, name, config, blocks, new_block):
    """Keys and values of every layer, which strict_float64.attention puts before the row's own;
    positions stay as they are."""
    layers = layers_of(model)
    heads, width = kv_width(model.config)
    table = prefix_table(tensors, name, config, 2 * len(layers) * heads * width)
    columns = iter(table.chunk(2 * len(layers), 1))
    for i, (_, layer) in enumerate(layers):
        pair = [new_block(f"prefix_tuning.{i}.{part}", next(columns).T.clone(), len(table))
                for part in ("key", "value")]
        blocks += pair
        attention = layer.self_attn if hasattr(layer, "self_attn") else layer.attention.self
        attention.prefix = lambda pair=pair, n=len(table): [
            b.apply(torch.eye(n, dtype=F64)).reshape(n, heads, width).transpose(0, 1) for b in pair]


def attach(model, folder, new_block):
    """The model with the adapter of a folder, and its head.  Afterwards: model.bottlenecks and
    model.trained_head, modules by name, and model.library_blocks, made by new_block(name, weight,
    virtual=0)."""
    with open(os.path.join(folder, "adapter_config.json")) as f:
        stored = json.load(f)
    tensors = load_file(os.path.join(folder, "adapter.safetensors"))
    found, model.library_blocks = {}, []
    for config in parts_of(stored["config"]):
        if "version" not in stored:
            config["non_linearity"] = OLD_NAMES.get(config["non_linearity"],
                                                    config["non_linearity"])
        kind = config.get("architecture")
        if kind is None:
            attach_bottlenecks(model, tensors, stored["name"], config, found)
        else:
            {"lora": attach_lora, "prefix_tuning": attach_prefix}[kind](
                model, tensors, stored["name"], config, model.library_blocks, new_block)
    assert not tensors
    head, model.trained_head = os.path.join(folder, "model_head.safetensors"), {}
    if os.path.exists(head):
        tensors = {k: v.to(F64) for k, v in load_file(head).items()}
        model.load_state_dict(tensors, strict=False)
        model.trained_head = {n: model.get_submodule(n)
                              for n in sorted({k.rpartition(".")[0] for k in tensors})}
    model.bottlenecks = torch.nn.ModuleDict({place.replace(".", "/"): adapter
                                             for place, adapter in found.items()})
    model.peft_config = {"default": types.SimpleNamespace(is_prompt_learning=False, use_dora=False,
                                                          peft_type=None)}
    return model


# ------------------------------------------------------------------------------------------ writing


def bottleneck_tensors(model, rnd, config):
    d = model.config.hidden_size
    r = int(d // config["reduction_factor"])
    tensors = {}
    for place, behind_attention in places(model):
        if config["mh_adapter" if behind_attention else "output_adapter"]:
            for part, shape in (("adapter_down.0", (r, d)), ("adapter_up", (d, r))):
                tensors[f"{place}.adapters.task.{part}.weight"] = rnd.normal(shape, 0.25)
                tensors[f"{place}.adapters.task.{part}.bias"] = rnd.normal(shape[:1], 0.1)
    return tensors


def lora_tensors(model, rnd, config):
    tensors = {}
    for place in lora_places(model, config):
        out, inner = model.get_submodule(place).weight.shape
        if config["composition_mode"] == "add":
            tensors[f"{place}.loras.task.lora_A"] = rnd.normal((config["r"], inner), 0.2)
            tensors[f"{place}.loras.task.lora_B"] = rnd.normal((out, config["r"]), 0.2)
        else:
            tensors[f"{place}.loras.task.lora_B"] = 1 + rnd.normal((out, 1), 0.2)
    return tensors


def prefix_tensors(model, rnd, config):
    """With the copies that the library's own files have."""
    layers, d = layers_of(model), model.config.hidden_size
    n, r = config["prefix_length"], config["bottleneck_size"]
    heads, each = kv_width(model.config)
    width = 2 * len(layers) * heads * each
    if config["flat"]:
        tensors = {"control_trans": rnd.normal((n * width,), 0.7)}
    else:
        tensors = {
            "wte.weight": rnd.normal((n, d), 1.0),
            "control_trans.0.weight": rnd.normal((r, d), 0.2),
            "control_trans.0.bias": rnd.normal((r,), 0.1),
            "control_trans.2.weight": rnd.normal((width, r), 0.4),
            "control_trans.2.bias": rnd.normal((width,), 0.1),
        }
    attention = "attention.self" if model.config.model_type == "bert" else "self_attn"
    owners = ["bert." if model.config.model_type == "bert" else "model.",
              *(f"{layer}.{attention}.prefix_tuning.pool." for layer, _ in layers)]
    owners[0] += "prefix_tuning."
    return {f"{owner}prefix_tunings.task.self_prefix.{k}": v.clone() for owner in owners
            for k, v in tensors.items()}


def write(folder, model, rnd, *configs, head_std=0.5, version="adapters.1.3.0"):
    """One adapter of these configurations; of several, their union."""
    os.makedirs(folder)
    makers = {None: bottleneck_tensors, "lora": lora_tensors, "prefix_tuning": prefix_tensors}
    tensors = {}
    for config in configs:
        tensors |= makers[config.get("architecture")](model, rnd, config)
    save_file({k: v.float() for k, v in tensors.items()}, f"{folder}/adapter.safetensors")
    config = configs[0] if len(configs) == 1 else dict(architecture="union", configs=[*configs])
    stored = dict(
        config=config, hidden_size=model.config.hidden_size, model_class=type(model).__name__,
        model_name="", model_type=model.config.model_type, name="task",
    )
    if version:
        stored["version"] = version
    with open(f"{folder}/adapter_config.json", "w") as f:
        f.write(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    if hasattr(model, "classifier"):
        head = {"classifier.weight": rnd.normal(model.classifier.weight.shape, head_std),
                "classifier.bias": rnd.normal(model.classifier.bias.shape, 0.3)}
        save_file({k: v.float() for k, v in head.items()}, f"{folder}/model_head.safetensors")

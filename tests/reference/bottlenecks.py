"""Bottleneck adapters as the `adapters` library computes and stores them, on a plain BERT or Llama of transformers."""

import json
import os
import types

import torch
from safetensors.torch import load_file, save_file

F64 = torch.float64
DEFAULTS = dict(
    mh_adapter=True, output_adapter=True, reduction_factor=8, non_linearity="relu", original_ln_before=False, original_ln_after=True, ln_before=False,
    ln_after=False, init_weights="bert", is_parallel=False, scaling=1.0, use_gating=False, residual_before_ln=True,
    adapter_residual_before_ln=False, inv_adapter=None, cross_adapter=False, leave_out=[], dropout=0.0, phm_layer=False, stochastic_depth=0.0,
)
ACTIVATIONS = {
    "relu": torch.relu,
    "swish": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_new": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}
OLD_NAMES = {"gelu": "gelu_new", "gelu_orig": "gelu"}  # what folders without a version mean


def is_bottleneck(folder):
    with open(os.path.join(folder, "adapter_config.json")) as f:
        return isinstance(json.load(f).get("config"), dict)


def places(model):
    """(name of the module that holds the adapter, what adds to the residual) for every layer: behind attention, behind the FFN."""
    if model.config.model_type == "bert":
        for i in range(model.config.num_hidden_layers):
            for name in ("attention.output", "output"):
                yield f"bert.encoder.layer.{i}.{name}"
    else:
        for i in range(model.config.num_hidden_layers):
            for name in ("attention_adapters", "output_adapters"):
                yield f"model.layers.{i}.{name}"


class Bottleneck(torch.nn.Module):
    def __init__(self, tensors, prefix, config):
        super().__init__()
        self.adapter_down, self.adapter_up = (self.dense(tensors, f"{prefix}.{part}") for part in ("adapter_down.0", "adapter_up"))
        self.config, self.act = config, ACTIVATIONS[config["non_linearity"]]

    @staticmethod
    def dense(tensors, name):
        weight = tensors[f"{name}.weight"]
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=F64)
        linear.weight.data, linear.bias.data = weight.to(F64), tensors[f"{name}.bias"].to(F64)
        return linear

    def forward(self, added, residual, norm=None):
        """What is added to the residual, with the adapter."""
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
        layer.self_attn.register_forward_hook(lambda m, args, out: (attention(out[0], residual["attention"]), *out[1:]))
    if output:
        layer.mlp.register_forward_hook(lambda m, args, out: output(out, residual["output"]))


def attach(model, folder):
    """The model with the adapter of a folder, and its head; trained modules in model.bottlenecks and model.trained_head by name."""
    with open(os.path.join(folder, "adapter_config.json")) as f:
        stored = json.load(f)
    if "version" not in stored:
        stored["config"]["non_linearity"] = OLD_NAMES.get(stored["config"]["non_linearity"], stored["config"]["non_linearity"])
    tensors = load_file(os.path.join(folder, "adapter.safetensors"))
    found = {}
    for place in places(model):
        if f"{place}.adapters.{stored['name']}.adapter_up.weight" in tensors:
            found[place] = Bottleneck(tensors, f"{place}.adapters.{stored['name']}", stored["config"])
    assert 4 * len(found) == len(tensors)
    if model.config.model_type == "bert":
        for place, adapter in found.items():
            hang_in_bert(model.get_submodule(place), adapter)
    else:
        for i, layer in enumerate(model.model.layers):
            hang_in_llama(layer, found.get(f"model.layers.{i}.attention_adapters"), found.get(f"model.layers.{i}.output_adapters"))
    head, model.trained_head = os.path.join(folder, "model_head.safetensors"), {}
    if os.path.exists(head):
        tensors = {k: v.to(F64) for k, v in load_file(head).items()}
        model.load_state_dict(tensors, strict=False)
        model.trained_head = {n: model.get_submodule(n) for n in sorted({k.rpartition(".")[0] for k in tensors})}
    model.bottlenecks = torch.nn.ModuleDict({place.replace(".", "/"): adapter for place, adapter in found.items()})
    model.peft_config = {"default": types.SimpleNamespace(is_prompt_learning=False, use_dora=False, peft_type=None)}
    return model


def write(folder, model, rnd, head_std=0.5, version="adapters.1.3.0", **config):
    config = {**DEFAULTS, **config}
    os.makedirs(folder)
    d = model.config.hidden_size
    r = int(d // config["reduction_factor"])
    tensors = {}
    for place in places(model):
        behind_attention = "attention" in place
        if config["mh_adapter" if behind_attention else "output_adapter"]:
            for part, shape in (("adapter_down.0", (r, d)), ("adapter_up", (d, r))):
                tensors[f"{place}.adapters.task.{part}.weight"] = rnd.normal(shape, 0.25)
                tensors[f"{place}.adapters.task.{part}.bias"] = rnd.normal(shape[:1], 0.1)
    save_file({k: v.float() for k, v in tensors.items()}, f"{folder}/adapter.safetensors")
    stored = dict(config=config, hidden_size=d, model_class=type(model).__name__, model_name="", model_type=model.config.model_type, name="task")
    if version:
        stored["version"] = version
    with open(f"{folder}/adapter_config.json", "w") as f:
        f.write(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    if hasattr(model, "classifier"):
        head = {"classifier.weight": rnd.normal(model.classifier.weight.shape, head_std), "classifier.bias": rnd.normal(model.classifier.bias.shape, 0.3)}
        save_file({k: v.float() for k, v in head.items()}, f"{folder}/model_head.safetensors")

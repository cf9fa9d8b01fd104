"""Models whose layers differ in width, lack a block, or have biases beside the family's: the classes that run them,
complete in this one file.

``per_layer_config`` in config.json has the heads, key-value heads and MLP channels of each layer; transformers reads
it, but its own model classes build every layer from the global values. ``dropped_blocks`` names the layers without
attention or without MLP, ``added_biases`` the linear layers of every layer that have a bias which transformers' own
class lacks. A class such as ``RaggedLlamaModel`` or ``RaggedLlamaForCausalLM`` is the class of transformers behind
``Ragged`` with each layer built from its own entry. Every such model folder has a copy of this file, so the file
imports only torch and transformers, and of transformers only the requested class.
"""

import copy

import transformers
from torch import nn

PREFIX = "Ragged"
BLOCK_NORMS = (
    {"attention": ("input_layernorm",), "mlp": ("post_attention_layernorm",)},
    {"attention": ("post_attention_layernorm",), "mlp": ("post_feedforward_layernorm",)},
    {
        "attention": ("input_layernorm", "post_attention_layernorm"),
        "mlp": ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    },
    {
        "attention": ("input_layernorm", "post_self_attn_layernorm"),
        "mlp": ("post_attention_layernorm", "post_mlp_layernorm"),
    },
)
"""Norms of each block, by arrangement: the first entry that has all norms of a layer applies to it."""


class NoAttention(nn.Module):
    """Adds nothing to the residual stream.

    The KV cache reads its length from any layer, so this one stores a dummy value per token.
    """

    def __init__(self, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states, past_key_values=None, **kwargs):
        if past_key_values is not None:
            nothing = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            past_key_values.update(nothing, nothing, self.layer_idx)
        return hidden_states.new_zeros(()), None


class NoMLP(nn.Module):
    """Adds nothing to the residual stream."""

    def forward(self, hidden_states):
        return hidden_states.new_zeros(())


def without_block(layer, block, index):
    """A decoder layer without one block, which shares everything else with ``layer``.

    Args:
        layer: a layer with one of the arrangements of ``BLOCK_NORMS``.
        block: ``attention`` or ``mlp``, removed with its norms.
        index: index of the layer, for the cache.
    """
    layer = copy.copy(layer)
    layer._modules = dict(layer._modules)
    for norm in _norms(layer)[block]:
        setattr(layer, norm, nn.Identity())
    if block == "attention":
        layer.self_attn = NoAttention(index)
    else:
        layer.mlp = NoMLP()
    return layer


def _norms(layer):
    own = {name for name in layer._modules if name.endswith("norm")}
    for norms in BLOCK_NORMS:
        if own <= {name for names in norms.values() for name in names}:
            return norms
    raise ValueError(f"{type(layer).__name__} has an unknown arrangement of norms: {sorted(own)}")


class _RaggedLayers:
    """Mixin for a model class, with or without output weights, built from the model's own config."""

    def __init__(self, config):
        config.allow_global_per_layer_attribute_access = True
        super().__init__(config)
        layers = self.base_model.layers
        for index, layer in enumerate(layers):
            layers[index] = type(layer)(config.per_layer_config[index], index)
            for name in getattr(config, "added_biases", None) or ():
                linear = layers[index].get_submodule(name)
                linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
        for block, indices in (getattr(config, "dropped_blocks", None) or {}).items():
            for index in indices:
                layers[index] = without_block(layers[index], block, index)

    def set_attn_implementation(self, *args, **kwargs):
        super().set_attn_implementation(*args, **kwargs)
        # each layer has its own configuration, with its widths
        for layer in self.base_model.layers:
            if own := getattr(layer.self_attn, "config", None):
                own._attn_implementation_internal = self.config._attn_implementation_internal

    def train(self, mode=True):
        # on CPUs with avx512_bf16 bitsandbytes repacks 4-bit weights in evaluation mode for a kernel that takes
        # only widths in multiples of 32
        for module in self.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return super().train(mode)


def __getattr__(name):
    if not name.startswith(PREFIX):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    own = getattr(transformers, name.removeprefix(PREFIX))
    made = type(name, (_RaggedLayers, own), {"__module__": __name__})
    globals()[name] = made
    return made

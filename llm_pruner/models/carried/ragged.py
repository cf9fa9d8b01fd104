"""Models whose layers differ in width, lack a block, or have biases beside the family's: the classes that run them,
complete in this one file.

``per_layer_config`` in config.json says how many heads, key-value heads and MLP channels each layer has;
transformers reads it but its own model classes build every layer from the global values. ``dropped_blocks`` names the
layers without attention or without MLP, ``added_biases`` the linear layers of every layer that have a bias which
transformers' own class gives none. ``Ragged`` and the name of a class of transformers, such as
``RaggedLlamaModel`` or ``RaggedLlamaForCausalLM``, is that class with each layer built from its own entry. A copy of
this file travels in every such model folder, so it imports nothing but torch and transformers, and of transformers
only the class that is asked for.
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
"""Norms that go with a block: a layer has those of the first entry that names all it has."""


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
    """A decoder layer that shares all but one block with ``layer``.

    Args:
        layer: of a family whose norms are those of ``BLOCK_NORMS``.
        block: ``attention`` or ``mlp``; its norms go with it.
        index: of the layer, for the cache.
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
    raise ValueError(f"{type(layer).__name__} has norms in places that this file does not know: {sorted(own)}")


class _RaggedLayers:
    """Mixed into a model class, with output weights or without; the config is the model's own."""

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
        # layers have configurations of their own, which hold their widths
        for layer in self.base_model.layers:
            if own := getattr(layer.self_attn, "config", None):
                own._attn_implementation_internal = self.config._attn_implementation_internal

    def train(self, mode=True):
        # on CPUs with avx512_bf16 bitsandbytes repacks 4-bit weights in evaluation mode for a kernel that takes
        # widths in multiples of 32 alone
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

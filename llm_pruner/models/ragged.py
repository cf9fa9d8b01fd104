"""Models whose layers differ in width, or lack a block: the class that runs them, complete in this one file.

``per_layer_config`` in config.json says how many heads, key-value heads and MLP channels each layer has;
transformers reads it but its own model classes build every layer from the global values. ``dropped_blocks`` names the
layers without attention or without MLP. These subclasses build each layer from its own entry. A copy of this file
travels in every such model folder, so it imports nothing but torch and transformers.
"""

import copy

from torch import nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM


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
        layer: of any of the families below.
        block: ``attention`` or ``mlp``; its norm goes with it.
        index: of the layer, for the cache.
    """
    layer = copy.copy(layer)
    layer._modules = dict(layer._modules)
    if block == "attention":
        layer.input_layernorm, layer.self_attn = nn.Identity(), NoAttention(index)
    else:
        layer.post_attention_layernorm, layer.mlp = nn.Identity(), NoMLP()
    return layer


class _RaggedLayers:
    """Mixed into a causal language model class; the config is the model's own."""

    def __init__(self, config):
        config.allow_global_per_layer_attribute_access = True
        super().__init__(config)
        layers = self.model.layers
        for index, layer in enumerate(layers):
            layers[index] = type(layer)(config.per_layer_config[index], index)
            # one shared object, so that a later change of the attention implementation reaches every layer
            layers[index].self_attn.config = config
        for block, indices in (getattr(config, "dropped_blocks", None) or {}).items():
            for index in indices:
                layers[index] = without_block(layers[index], block, index)

    def train(self, mode=True):
        # on CPUs with avx512_bf16 bitsandbytes repacks 4-bit weights in evaluation mode for a kernel that takes
        # widths in multiples of 32 alone
        for module in self.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return super().train(mode)


class RaggedLlamaForCausalLM(_RaggedLayers, LlamaForCausalLM):
    pass


class RaggedMistralForCausalLM(_RaggedLayers, MistralForCausalLM):
    pass


class RaggedQwen2ForCausalLM(_RaggedLayers, Qwen2ForCausalLM):
    pass


class RaggedQwen3ForCausalLM(_RaggedLayers, Qwen3ForCausalLM):
    pass

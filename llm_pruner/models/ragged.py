"""Models whose layers differ in width: the class that runs them, complete in this one file.

``per_layer_config`` in config.json says how many heads, key-value heads and MLP channels each layer has;
transformers reads it but its own model classes build every layer from the global values. These subclasses build
each layer from its own entry. A copy of this file travels in every such model folder, so it imports nothing but
transformers.
"""

from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM


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


class RaggedLlamaForCausalLM(_RaggedLayers, LlamaForCausalLM):
    pass


class RaggedMistralForCausalLM(_RaggedLayers, MistralForCausalLM):
    pass


class RaggedQwen2ForCausalLM(_RaggedLayers, Qwen2ForCausalLM):
    pass


class RaggedQwen3ForCausalLM(_RaggedLayers, Qwen3ForCausalLM):
    pass

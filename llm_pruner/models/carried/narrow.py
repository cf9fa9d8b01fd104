"""Classifiers whose layers differ in heads and FFN neurons, or hold 8-bit weights: complete in this one file.

``layer_widths`` in config.json gives every layer's heads and neurons; the size of a head is the whole model's, hidden
size by heads. ``eight_bit_modules`` names linear layers stored as integers. Every such model folder has a copy of this
file, so the file imports only torch and transformers, and of transformers only the requested class. The name of a class
of transformers after ``Narrow`` is the name of that class with these layers.
"""

import torch
import transformers
from torch import nn

PREFIX = "Narrow"


class Linear8bit(nn.Linear):
    """A linear layer with int8 weights and one float32 scale for each row, so that a row's largest value is ±127."""

    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        del self.weight
        self.register_buffer("integers", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scales", torch.ones(out_features, 1))

    @property
    def weight(self):
        return self.integers * self.scales

    @staticmethod
    def quantize(weight):
        """Integers and scales of a weight [out_features, in_features]."""
        scales = weight.detach().float().abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        return (weight.detach() / scales).round().to(torch.int8), scales


_BERT = (
    "encoder.layer",
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
PARTS = {
    "distilbert": (
        "transformer.layer",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.out_lin",
        "ffn.lin1",
        "ffn.lin2",
    ),
    "bert": _BERT,
    "roberta": _BERT,
}
"""The layers within the base model, and the linear modules within a layer, by model type."""


class _Narrow:
    """Mixin for a classifier's or a base model's class; the configuration has the widths."""

    def __init__(self, config):
        super().__init__(config)
        layers, inputs, output, ffn_input, ffn_output = PARTS[config.model_type]
        head_dim = config.hidden_size // config.num_attention_heads
        widths = getattr(config, "layer_widths", None) or ()
        for layer, width in zip(self.base_model.get_submodule(layers), widths):  # noqa: B905
            hidden = layer.get_submodule(output).out_features
            heads, neurons = width["heads"] * head_dim, width["neurons"]
            for name in inputs:
                layer.set_submodule(name, nn.Linear(hidden, heads))
            layer.set_submodule(output, nn.Linear(heads, hidden))
            layer.set_submodule(ffn_input, nn.Linear(hidden, neurons))
            layer.set_submodule(ffn_output, nn.Linear(neurons, hidden))
        for module in self._eight_bit():
            linear = self.get_submodule(module)
            self.set_submodule(module, Linear8bit(linear.in_features, linear.out_features, linear.bias is not None))

    def _eight_bit(self):
        """Names of this model's linear layers stored as integers. The configuration has names within a classifier."""
        names = getattr(self.config, "eight_bit_modules", None) or ()
        if self.base_model is not self:
            return names
        prefix = f"{self.base_model_prefix}."
        return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

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
    made = type(name, (_Narrow, own), {"__module__": __name__})
    globals()[name] = made
    return made

"""Classifiers whose layers differ in heads and FFN neurons, or hold 8-bit weights: complete in this one file.

``layer_widths`` in config.json gives every layer's heads and neurons; a head's size is that of the whole model, hidden
size by heads. ``eight_bit_modules`` names linear layers stored as integers. A copy of this file travels in every such
model folder, so it imports nothing but torch and transformers.
"""

import torch
from torch import nn
from transformers import (
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    RobertaForSequenceClassification,
)


class Linear8bit(nn.Linear):
    """Weights as int8 with one float32 scale a row, so that a row's largest is ±127."""

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


def narrow(model, layers, inputs, output, ffn_input, ffn_output, head_dim):
    """Give every layer the widths that the configuration says."""
    config = model.config
    widths = getattr(config, "layer_widths", None) or ()
    for layer, width in zip(model.get_submodule(layers), widths):  # noqa: B905
        hidden = layer.get_submodule(output).out_features
        heads, neurons = width["heads"] * head_dim, width["neurons"]
        for name in inputs:
            layer.set_submodule(name, nn.Linear(hidden, heads))
        layer.set_submodule(output, nn.Linear(heads, hidden))
        layer.set_submodule(ffn_input, nn.Linear(hidden, neurons))
        layer.set_submodule(ffn_output, nn.Linear(neurons, hidden))
    for name in getattr(config, "eight_bit_modules", None) or ():
        linear = model.get_submodule(name)
        model.set_submodule(name, Linear8bit(linear.in_features, linear.out_features, linear.bias is not None))


class _Narrow:
    """Mixed into a classifier class; ``parts`` are its layers, and the names of their linear modules."""

    def __init__(self, config):
        super().__init__(config)
        narrow(self, *self.parts, config.hidden_size // config.num_attention_heads)

    def train(self, mode=True):
        # on CPUs with avx512_bf16 bitsandbytes repacks 4-bit weights in evaluation mode for a kernel that takes
        # widths in multiples of 32 alone
        for module in self.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return super().train(mode)


class NarrowDistilBertForSequenceClassification(_Narrow, DistilBertForSequenceClassification):
    parts = (
        "distilbert.transformer.layer",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.out_lin",
        "ffn.lin1",
        "ffn.lin2",
    )


_BERT = (
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


class NarrowBertForSequenceClassification(_Narrow, BertForSequenceClassification):
    parts = ("bert.encoder.layer", *_BERT)


class NarrowRobertaForSequenceClassification(_Narrow, RobertaForSequenceClassification):
    parts = ("roberta.encoder.layer", *_BERT)

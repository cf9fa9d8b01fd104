"""Models whose hidden dimensions are sliced: the classes that run them, complete in this one file.

``sliced.widths`` in config.json has the widths of the residual stream: entry 2i before layer i, 2i + 1 between the
attention and the MLP of layer i, the last before the output. Each position has its own basis, so a shortcut matrix
carries the residual stream from one basis to the next. Gains of norms are in the linear layers after them. A class such
as ``SlicedLlamaModel`` or ``SlicedLlamaForCausalLM`` is the class of transformers behind ``Sliced`` with these widths.
Every such model folder has a copy of this file, so the file imports only torch and transformers, and of transformers
only the requested class.
"""

import torch
import transformers
from torch import nn

PREFIX = "Sliced"


class _Norm(nn.Module):
    """RMSNorm without a gain. Removed dimensions count as zero, so the mean is over the original hidden size."""

    def __init__(self, hidden_size, eps):
        super().__init__()
        self.hidden_size = hidden_size
        self.eps = eps

    def forward(self, hidden_states):
        wide = hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32))
        mean_square = wide.square().sum(-1, keepdim=True) / self.hidden_size
        return (wide * torch.rsqrt(mean_square + self.eps)).to(hidden_states.dtype)


class _SlicedLayer:
    """Mixin for a decoder layer class; ``widths`` are the widths at the three positions of the layer."""

    def __init__(self, config, layer_idx, widths):
        super().__init__(config, layer_idx)
        enter, middle, leave = widths
        self.input_layernorm = _Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = _Norm(config.hidden_size, config.rms_norm_eps)
        _resize(self.self_attn, ("q_proj", "k_proj", "v_proj"), "o_proj", enter, middle)
        _resize(self.mlp, ("gate_proj", "up_proj"), "down_proj", middle, leave)
        self.attn_shortcut = nn.Linear(enter, middle, bias=False)
        self.mlp_shortcut = nn.Linear(middle, leave, bias=False)

    def forward(self, hidden_states, **kwargs):
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states = self.attn_shortcut(hidden_states) + attended
        return self.mlp_shortcut(hidden_states) + self.mlp(self.post_attention_layernorm(hidden_states))


def _resize(block, inputs, output, before, after):
    """Give the linear layers of a block the widths of the residual stream before and after the block."""
    for name in inputs:
        linear = getattr(block, name)
        setattr(block, name, nn.Linear(before, linear.out_features, bias=linear.bias is not None))
    linear = getattr(block, output)
    setattr(block, output, nn.Linear(linear.in_features, after, bias=linear.bias is not None))


class _SlicedLayers:
    """Mixin for a model class, with or without output weights, built from the model's own config."""

    def __init__(self, config):
        super().__init__(config)
        backbone, widths = self.base_model, config.sliced["widths"]
        backbone.embed_tokens = nn.Embedding(config.vocab_size, widths[0], backbone.padding_idx)
        own = type(backbone.layers[0])
        # under the same name, by which transformers knows the modules that must stay on one device
        sliced = type(own.__name__, (_SlicedLayer, own), {})
        for index in range(len(backbone.layers)):
            backbone.layers[index] = sliced(config, index, widths[2 * index : 2 * index + 3])
        backbone.norm = _Norm(config.hidden_size, config.rms_norm_eps)
        if backbone is not self:
            self.lm_head = nn.Linear(widths[-1], config.vocab_size, bias=False)

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
    made = type(name, (_SlicedLayers, own), {"__module__": __name__})
    globals()[name] = made
    return made

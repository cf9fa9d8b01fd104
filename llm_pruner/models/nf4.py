"""NF4, as described by transformers and bitsandbytes.

NF4 is the 4-bit NormalFloat of Dettmers et al., QLoRA, 2023 (arXiv:2305.14314): blocks of 64 weights, one scale each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

BLOCK = 64
"""Weights that share a scale."""


def nf4_config(skip: Sequence[str], *, double_quant: bool = False, dtype: str = "float32") -> BitsAndBytesConfig:
    """transformers' own description of NF4.

    Args:
        skip: names of modules that are not quantised; a pattern matches from the start or at the end of a name.
        double_quant: quantise the scales of the blocks of weights too.
        dtype: dtype of matrix products.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(skip),
    )


def fake_nf4(weight: torch.Tensor, *, double_quant: bool = False) -> torch.Tensor:
    """A weight after quantisation to NF4 and back, in its own dtype and shape."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(
        weight.detach().contiguous(), blocksize=BLOCK, quant_type="nf4", compress_statistics=double_quant
    )
    return dequantize_4bit(packed, state).to(weight.dtype)

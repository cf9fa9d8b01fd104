"""Read and write classifiers as ordinary Hugging Face folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.encoders.architecture import EIGHT_BIT, WIDTHS, EncoderShape, read_shape
from llm_pruner.models.architecture import check_finite
from llm_pruner.models.checkpoint import carry_module, load_tokenizer
from llm_pruner.models.headers import read_headers
from llm_pruner.system.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NARROW_MODULE = "modeling_narrow"


def load_classifier(folder: Path, *, device: str = "cpu") -> PreTrainedModel:
    """Load any classifier written by this project, in evaluation mode. Code in the folder is never executed.

    Raises:
        CheckpointError: if the folder is missing, truncated or damaged, or its family is not supported.
    """
    shape = read_shape(folder)
    read_headers(folder)
    check_finite(folder)
    if shape.config.get("quantization_config"):
        from llm_pruner.models.packed import load_packed

        return load_packed(classifier_class(shape), folder, device=device)
    return classifier_class(shape).from_pretrained(folder, dtype="float32").to(device).eval()


def classifier_class(shape: EncoderShape) -> Any:
    """Model class for this shape: from ``narrow.py`` for pruned or 8-bit layers, otherwise from transformers."""
    if shape.is_narrow:
        from llm_pruner.models.carried import narrow

        return getattr(narrow, f"Narrow{shape.family.model_class}")
    import transformers

    return getattr(transformers, shape.family.model_class)


def build_classifier(shape: EncoderShape, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """Build a classifier in memory, in evaluation mode.

    Args:
        shape: shape of the classifier.
        weights: all parameters and buffers, by name.
    """
    from transformers import AutoConfig

    config = {key: value for key, value in shape.config.items() if key not in ("auto_map", "architectures")}
    model = classifier_class(shape)(AutoConfig.for_model(**config))
    model.load_state_dict(weights)
    return model.eval()


def save_classifier(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write a classifier and its tokenizer into ``folder``, with the modelling file if the shape needs it."""
    if getattr(model.config, WIDTHS, None) or getattr(model.config, EIGHT_BIT, None):
        model.config.auto_map = {
            "AutoModel": f"{NARROW_MODULE}.{type(model).__name__.removesuffix('ForSequenceClassification')}Model",
            "AutoModelForSequenceClassification": f"{NARROW_MODULE}.{type(model).__name__}",
        }
        carry_module("llm_pruner.models.carried.narrow", folder, NARROW_MODULE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_encoder_tokenizer(folder: Path, length: int) -> Any:
    """Load the tokenizer of a classifier.

    Args:
        folder: model folder.
        length: tokens of the longest example.

    Raises:
        CheckpointError: if the tokenizer is missing, or the model reads fewer than ``length`` tokens.
    """
    check_length(read_shape(folder), length, folder)
    return load_tokenizer(folder)


def check_length(shape: EncoderShape, length: int, place: str | Path) -> None:
    """Check that the model reads examples of ``length`` tokens.

    Raises:
        CheckpointError: if the model reads fewer tokens.
    """
    # RoBERTa numbers positions from the padding token's number plus one
    offset = shape.config["pad_token_id"] + 1 if shape.config["model_type"] == "roberta" else 0
    context = shape.config["max_position_embeddings"] - offset
    if length > context:
        raise CheckpointError(f"{place}: the model reads {context} tokens, but length is {length}; lower length")

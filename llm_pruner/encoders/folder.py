"""Reading and writing classifiers as ordinary Hugging Face folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.encoders.architecture import EIGHT_BIT, WIDTHS, Encoder, read_encoder
from llm_pruner.models.architecture import check_finite
from llm_pruner.models.checkpoint import carry_module, load_tokenizer
from llm_pruner.models.headers import read_headers
from llm_pruner.system.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NARROW_MODULE = "modeling_narrow"


def load_classifier(folder: Path, *, device: str = "cpu") -> PreTrainedModel:
    """Load a classifier of any kind this project writes, in evaluation mode; no code from the folder is executed.

    Raises:
        CheckpointError: if the folder is missing, truncated, damaged or of an unsupported architecture.
    """
    encoder = read_encoder(folder)
    read_headers(folder)
    check_finite(folder)
    if encoder.config.get("quantization_config"):
        from llm_pruner.models.packed import load_packed

        return load_packed(classifier_class(encoder), folder, device=device)
    return classifier_class(encoder).from_pretrained(folder, dtype="float32").to(device).eval()


def classifier_class(encoder: Encoder) -> Any:
    """transformers' own class, or ours for layers that differ."""
    if encoder.is_narrow:
        from llm_pruner.models.carried import narrow

        return getattr(narrow, f"Narrow{encoder.family.model_class}")
    import transformers

    return getattr(transformers, encoder.family.model_class)


def build_classifier(encoder: Encoder, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """A classifier in memory.

    Args:
        encoder: its shape.
        weights: all its parameters and buffers, by name.
    """
    from transformers import AutoConfig

    config = {key: value for key, value in encoder.config.items() if key not in ("auto_map", "architectures")}
    model = classifier_class(encoder)(AutoConfig.for_model(**config))
    model.load_state_dict(weights)
    return model.eval()


def save_classifier(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write a classifier into a folder being staged, with the modelling file where its layers need that."""
    if getattr(model.config, WIDTHS, None) or getattr(model.config, EIGHT_BIT, None):
        model.config.auto_map = {
            "AutoModel": f"{NARROW_MODULE}.{type(model).__name__.removesuffix('ForSequenceClassification')}Model",
            "AutoModelForSequenceClassification": f"{NARROW_MODULE}.{type(model).__name__}",
        }
        carry_module("llm_pruner.models.carried.narrow", folder, NARROW_MODULE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_encoder_tokenizer(folder: Path, length: int) -> Any:
    """The tokenizer of a classifier.

    Raises:
        CheckpointError: if there is none, or the model reads fewer tokens than an example has.
    """
    check_length(read_encoder(folder), length, folder)
    return load_tokenizer(folder)


def check_length(encoder: Encoder, length: int, place: str | Path) -> None:
    """Raise CheckpointError if a model reads fewer tokens than an example has."""
    # RoBERTa numbers positions from the padding token's number on
    offset = encoder.config["pad_token_id"] + 1 if encoder.config["model_type"] == "roberta" else 0
    context = encoder.config["max_position_embeddings"] - offset
    if length > context:
        raise CheckpointError(f"{place}: examples of {length} tokens, but the model reads {context}; lower length")

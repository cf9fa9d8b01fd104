"""config.json of model folders, read without torch and held to the types and ranges that this package relies on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from llm_pruner.models.foreign_json import read_object, shown
from llm_pruner.models.layout import ADDED_BIASES, BLOCKS, DROPPED, LINEARS, PER_LAYER_LISTS, PER_LAYER_WIDTHS
from llm_pruner.system.errors import CheckpointError

CONFIG_FILE = "config.json"
WAY_OUT = "correct it, or copy the model's own config.json again"


def read_config_file(folder: Path) -> dict[str, Any]:
    """The object in config.json, of which only the keys that tell the family are checked.

    Raises:
        CheckpointError: if the file is missing or damaged, or does not say the family. Names file, key and value.
    """
    path = folder / CONFIG_FILE
    if not os.path.lexists(path):
        raise CheckpointError(f"{folder}: has no {CONFIG_FILE}; name a Hugging Face model folder")
    config = read_object(path, WAY_OUT)
    _check_types(config, path, _FAMILY)
    return config


def completed(config: Mapping[str, Any], path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A causal model's configuration with the values that the family's class takes for missing ones.

    Args:
        path: config.json, for messages.
        defaults: values of the family's class.

    Raises:
        CheckpointError: for a missing size, a value of a wrong type, and values that do not fit each other. Names file,
            key and value.
    """
    _check_types(config, path, _KEYS)
    for key in _SIZES:
        if key not in config:
            raise CheckpointError(f"{path}: has no '{key}'; {WAY_OUT}")
    whole = {**defaults, **config}
    if whole.get("num_key_value_heads") is None:
        whole["num_key_value_heads"] = whole["num_attention_heads"]
    _check_together(whole, path)
    return whole


def _check_types(config: Mapping[str, Any], path: Path, rules: Mapping[str, _Rule]) -> None:
    for key, (what, holds) in rules.items():
        if key in config and not holds(config[key]):
            raise CheckpointError(f"{path}: '{key}' is {shown(config[key])}, not {what}; {WAY_OUT}")


def _check_together(config: Mapping[str, Any], path: Path) -> None:
    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"{path}: {problem}; {WAY_OUT}")

    layers = config["num_hidden_layers"]
    if not config.get("head_dim") and config["hidden_size"] < config["num_attention_heads"]:
        raise refuse(
            f"'hidden_size' {config['hidden_size']} is less than 'num_attention_heads' {config['num_attention_heads']}"
        )
    for place, own in {"": {}, **(config.get("per_layer_config") or {})}.items():
        if place and not _names_layer(place, layers):
            raise refuse(f"'per_layer_config' has {shown(place)}, which is no layer of {layers}")
        heads, groups = (own.get(key, config[key]) for key in ("num_attention_heads", "num_key_value_heads"))
        if heads % groups:
            layer = f" of layer {place}" if place else ""
            raise refuse(f"'num_key_value_heads' {groups} does not divide 'num_attention_heads' {heads}{layer}")
    for block, indices in (config.get(DROPPED) or {}).items():
        if outside := [index for index in indices if index >= layers]:
            raise refuse(f"'{DROPPED}' has layer {outside[0]} without {block}, which is no layer of {layers}")
    if (sliced := config.get("sliced")) and len(sliced["widths"]) != 2 * layers + 1:
        raise refuse(f"'sliced' has {len(sliced['widths'])} widths, not {2 * layers + 1} for {layers} layers")
    for key in PER_LAYER_LISTS:
        if config.get(key) and len(config[key]) != layers:
            raise refuse(f"'{key}' has {len(config[key])} entries, not one for each of {layers} layers")


def _names_layer(key: str, layers: int) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 10 and str(int(key)) == key and int(key) < layers


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_index(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _is_object_of(holds: Callable[[Any], bool], keys: Collection[str] | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(map(holds, value.values())) and (keys is None or value.keys() <= set(keys))
    )


def _or_null(rule: _Rule) -> _Rule:
    what, holds = rule
    return f"{what}, or null", lambda value: value is None or holds(value)


def _are_layer_widths(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(value[key]) for key in PER_LAYER_WIDTHS if key in value)


def _has_widths(value: Any) -> bool:
    return isinstance(value, dict) and _is_list_of(_is_count)(value.get("widths"))


def _is_quantization(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("quant_method"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_token_ids(value: Any) -> bool:
    return type(value) is int or _is_list_of(lambda each: type(each) is int)(value)


_Rule = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words and as a test."""
_COUNT: _Rule = ("a whole number of at least 1", _is_count)
_FLAG: _Rule = ("true or false", lambda value: isinstance(value, bool))
_TEXT: _Rule = ("text", _is_text)
_NUMBER: _Rule = ("a number", _is_number)
_OBJECT: _Rule = ("an object", lambda value: isinstance(value, dict))
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
"""Keys without a default: every checkpoint has its own."""
_FAMILY: Mapping[str, _Rule] = {
    "model_type": _TEXT,
    "architectures": _or_null(("a list of texts", _is_list_of(_is_text))),
}
"""Keys that tell the family."""
_KEYS: Mapping[str, _Rule] = {
    **dict.fromkeys(_SIZES, _COUNT),
    **dict.fromkeys(("num_key_value_heads", "head_dim", "max_position_embeddings"), _or_null(_COUNT)),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias", "use_cache", "use_sliding_window"), _FLAG),
    **dict.fromkeys(("dtype", "torch_dtype"), _or_null(_TEXT)),
    **dict.fromkeys(("rope_parameters", "rope_scaling"), _or_null(_OBJECT)),
    "quantization_config": _or_null(("an object with a text 'quant_method'", _is_quantization)),
    **dict.fromkeys(("rms_norm_eps", "rope_theta", "initializer_range", "attention_dropout"), _or_null(_NUMBER)),
    **dict.fromkeys(("sliding_window", "max_window_layers"), _or_null(("a whole number", _is_index))),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _or_null(("a token id", _are_token_ids))),
    "hidden_act": _or_null(_TEXT),
    # outputs of models are read by name
    "return_dict": ("true", lambda value: value is True),
    **dict.fromkeys(PER_LAYER_LISTS, _or_null(("a list", lambda value: isinstance(value, list)))),
    "per_layer_config": _or_null(("an object with the widths of each layer", _is_object_of(_are_layer_widths))),
    DROPPED: _or_null(("an object with the layers that lack a block", _is_object_of(_is_list_of(_is_index), BLOCKS))),
    ADDED_BIASES: _or_null(("a list of linear layers", _is_list_of(lambda value: value in LINEARS))),
    "sliced": _or_null(("an object with a list of 'widths'", _has_widths)),
}
"""Keys that this package reads, and usual ones of all families. transformers judges the values, and all other keys."""

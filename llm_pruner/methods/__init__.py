"""The methods, by name. Adding one is a file here and a line below; it then appears everywhere."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llm_pruner.errors import ConfigError, nearest

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method

METHODS: dict[str, str] = {
    "Dense": "llm_pruner.methods.dense:Dense",
    "Magnitude": "llm_pruner.methods.magnitude:Magnitude",
    "Wanda": "llm_pruner.methods.wanda:Wanda",
    "GQA": "llm_pruner.methods.gqa:GQA",
    "Random": "llm_pruner.methods.random:Random",
    "ShortGPT": "llm_pruner.methods.shortgpt:ShortGPT",
}
"""``module:Class`` by name, imported when asked for."""


def method_module(name: str) -> str:
    """Dotted name of the module that holds a method.

    Raises:
        ConfigError: for an unknown method, with the nearest known one.
    """
    if name not in METHODS:
        raise ConfigError([f"unknown method '{name}'{nearest(name, METHODS)}"], source="methods")
    return METHODS[name].partition(":")[0]


def get_method(name: str) -> type[Method]:
    """The class of a method, by its name in configurations."""
    module = import_module(method_module(name))
    return getattr(module, METHODS[name].partition(":")[2])

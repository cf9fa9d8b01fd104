from __future__ import annotations

from llm_pruner.methods.base import Method


class Dense(Method):
    """The base model itself, with nothing removed."""

    name = "Dense"
    title = "The base model, nothing removed"
    paper = ""
    mechanisms = ("dense",)

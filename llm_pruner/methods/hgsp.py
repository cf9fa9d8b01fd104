from __future__ import annotations

from typing import ClassVar

from llm_pruner.methods.gqa import GQA


class HGSP(GQA):
    """Taylor importance, with the units of all layers ranked together by importance per parameter."""

    name = "HGSP"
    title = "Global ranking of key-value groups and MLP channels by Taylor importance per parameter"
    paper = ""
    scores_of = "GQA"
    defaults: ClassVar = {"allocation": "global"}

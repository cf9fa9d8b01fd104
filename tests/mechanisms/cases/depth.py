"""Whole layers, and blocks of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_pruner.methods import METHODS
from llm_pruner.methods.base import Method
from llm_pruner.models.architecture import Architecture
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.variant import load_class
from tests.mechanisms.cases.base import Case, MechanismCases, Refusal, repaired, set_kept_layers, zero_planned


class Cases(MechanismCases):
    amounts = (
        Case("_remove_1", {}),
        Case("_remove_3", {}),
        Case("_protected_remove_2", {"protect_first": 1}),
        Case("_attention_remove_2", {"drop": "attention"}),
        Case("_mlp_remove_1", {"drop": "mlp"}),
        Case("_3000", {}),
    )
    further = repaired("depth", ("ShortGPT", "remove_2"), protect_first=1)
    elsewhere = ((Case("ShortGPT_attention_remove_2", {"drop": "attention"}), True),)
    spread = (Case("ShortGPT_mlp_remove_1", {"drop": "mlp"}),)
    refused = (Refusal("ShortGPT_remove_4", "has 4 layers, at most 3"),)
    reads_weights = tuple(f"{name}_remove_1" for name in METHODS if "depth" in load_class(METHODS[name]).mechanisms)

    def fits(self, method: type[Method], options: Mapping[str, Any]) -> bool:
        return options.get("drop") in (None, *method.parts)

    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        zeroed = zero_planned(dense, output)
        if PruningRecord.read(output / "pruning.json").repair:
            set_kept_layers(zeroed, output)
        return zeroed

    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        assert record.asked and record.reached
        if record.asked.of == "parameters":
            removed = before.total_parameters - after.total_parameters
            assert removed / before.total_parameters == pytest.approx(record.reached.amount)
            one = sum(entry.numel for name, entry in before.tensors.items() if name.startswith("model.layers.0."))
            assert abs(removed - record.asked.amount * before.total_parameters) <= one / 2
        elif options.get("drop"):
            blocks = [block for index in range(after.num_layers) for block in after.dropped_blocks(index)]
            assert blocks == [options["drop"]] * int(record.asked.amount)
            assert (record.reached.amount, record.reached.of) == (len(blocks), record.asked.of)
        else:
            assert before.num_layers - after.num_layers == record.asked.amount == record.reached.amount

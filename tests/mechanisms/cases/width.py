"""Key-value groups and MLP channels, by every way to share the budget out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_pruner.methods.base import Method
from llm_pruner.models.architecture import Architecture
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.variants.records import PruningRecord
from tests.mechanisms.cases.base import (
    Case,
    MechanismCases,
    Refusal,
    repaired,
    set_kept_columns,
    set_kept_units,
    zero_planned,
)


class Cases(MechanismCases):
    amounts = (
        Case("_2000", {}),
        Case("_mlp_2000", {"split": "0:1"}),
        Case("_uniform_3500", {"uniform": True}),
        Case("_even_1500", {"multiple_of": 8}),
    )
    further = (
        Case("GQA_inverse_2000", {"allocation": "inverse", "max_rate": 0.5}),
        Case(
            "GQA_proportional_2000",
            {"allocation": {"proportional": {"importance": "Activation", "log": False}}, "min_rate": 0.1},
        ),
        Case("GQA_frozen_2000", {"freeze_top_layers": 2, "importance": "ShortGPT"}),
        Case("GQA_middle_2000", {"layer_range": "1:-1", "allocation": "global", "split": "5:5"}),
        Case("GQA_kept_2000", {"gradient_checkpointing": False}),
        Case("OBS_even_2000", {"allocation": "uniform", "rounds": None, "scale": "output"}),
        Case("FLAP_norm_2000", {"metric": "WIFN"}),
        *(
            Case(f"Magnitude_{name}_2000", {"allocation": name})
            for name in ALLOCATIONS
            if "width" in ALLOCATION.class_of(name).mechanisms
        ),
        *(Case(f"GQA_{taylor}_2000", {"taylor": taylor}) for taylor in ("second", "mixed", "vectorized")),
    )
    further += repaired("width", ("Magnitude", "2000"))
    elsewhere = (
        (Case("FLAP_2000", {}), True),
        (Case("GQA_uniform_2000", {"uniform": True}), False),
    )
    spread = (Case("GQA_2000", {}),)
    refused = (Refusal("Magnitude_9900", "at most"),)
    reads_weights = ("Wanda_2000", "GQA_2000", "Magnitude_2000", "OBS_2000")

    def fits(self, method: type[Method], options: Mapping[str, Any]) -> bool:
        # half of the four layers kept whole leaves no room for one shape for all, nor for wide multiples; and a repair
        # that adds biases leaves no shape that every family's own class has
        narrow = {"uniform", "multiple_of"} & options.keys() and "layer_range" in method.defaults
        return not narrow and not ("uniform" in options and "bias" in method.defaults.get("repair", ""))

    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        zeroed = zero_planned(dense, output)
        if repair := PruningRecord.read(output / "pruning.json").repair:
            (set_kept_units if repair.blocks else set_kept_columns)(zeroed, output)
        return zeroed

    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        removed = before.total_parameters - after.total_parameters
        assert record.asked and record.reached
        asked, reached = record.asked.amount, record.reached.amount
        assert removed / before.total_parameters == pytest.approx(reached)
        unit = before.layers[0].channel_parameters * options.get("multiple_of", 1)
        if all(now.channels in (1, was.channels) for was, now in zip(before.layers, after.layers, strict=True)):
            unit = before.layers[0].group_parameters  # every layer that may lose channels has lost all it can
        units_at_once = before.num_layers if options.get("uniform") else 1
        assert abs(removed - asked * before.total_parameters) <= unit * units_at_once
        noted = any("is the nearest to" in note for note in record.notes)
        assert noted is (abs(reached - asked) > 0.005)
        if options.get("uniform"):
            assert len(set(after.layers)) == 1
            assert "per_layer_config" not in after.config
        if options.get("multiple_of"):
            assert all(layer.channels % options["multiple_of"] == 0 for layer in after.layers)

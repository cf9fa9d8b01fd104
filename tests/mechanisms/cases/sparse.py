"""Single weights, freely and N of every M."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_pruner.models.architecture import Architecture
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.variants.records import PruningRecord
from tests.mechanisms.cases.base import Case, MechanismCases, Refusal, repaired, with_weights_of


class Cases(MechanismCases):
    amounts = (
        Case("_unstructured_5000", {}),
        Case("_2of4", {}),
        Case("_4of8", {}),
    )
    further = tuple(
        Case(f"{method}_{name}_unstructured_6000", {"allocation": name})
        for name in ALLOCATIONS
        if "sparse" in ALLOCATION.class_of(name).mechanisms
        for method in ("Wanda", "Magnitude")
    )
    further += repaired("sparse", ("Wanda", "unstructured_5000"), ("Magnitude", "2of4"))
    refused = (Refusal("Magnitude_3of7", "a multiple of 7"),)

    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        return with_weights_of(dense, output)

    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        assert after.total_parameters == before.total_parameters
        assert record.asked and record.reached
        zeros = sum(entry.numel - entry.count_nonzero() for name, entry in after.tensors.items() if "_proj.w" in name)
        assert zeros / before.linear_parameters() == record.reached.amount
        # counts are rounded down in every row
        assert record.asked.amount * 0.9 < record.reached.amount <= record.asked.amount
        asked = [layer.asked for layer in record.layers]
        assert sum(asked) / len(asked) == pytest.approx(record.asked.amount)
        assert (len(set(asked)) > 1) is (options.get("allocation", "uniform") != "uniform")
        shortest_row = min(entry.shape[1] for name, entry in before.tensors.items() if "_proj.w" in name)
        for layer in record.layers:
            assert layer.asked - 1 / shortest_row < layer.reached <= layer.asked

"""Single weights, freely and N of every M."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llm_pruner.models.architecture import Architecture
from llm_pruner.variants.records import PruningRecord
from tests.mechanisms.cases.base import Case, MechanismCases, Refusal, with_weights_of


class Cases(MechanismCases):
    amounts = (
        Case("_unstructured_5000", {}),
        Case("_2of4", {}),
        Case("_4of8", {}),
    )
    refused = (Refusal("Magnitude_3of7", "multiples of 7"),)

    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        return with_weights_of(dense, output)

    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        assert after.total_parameters == before.total_parameters
        assert record.asked and record.reached
        asked, reached = record.asked.amount, record.reached.amount
        zeros = sum(entry.numel - entry.count_nonzero() for name, entry in after.tensors.items() if "_proj.w" in name)
        assert zeros / before.linear_parameters() == reached
        # counts are rounded down in every row
        assert asked * 0.9 < reached <= asked

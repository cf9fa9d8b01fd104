"""Dimensions of the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_pruner.models.architecture import Architecture
from llm_pruner.system.files import read_json
from llm_pruner.variants.records import PruningRecord
from tests.mechanisms.cases.base import Case, MechanismCases, Refusal
from tests.tiny.models import project_out


class Cases(MechanismCases):
    amounts = (
        Case("_2500", {}),
        Case("_uneven_3000", {"schedule": "variance", "multiple_of": 2}),
        Case("_slim_1000", {"of": "parameters"}),
    )
    elsewhere = ((Case("SliceGPT_2500", {}), True),)
    spread = (Case("SliceGPT_2500", {}),)
    refused = (Refusal("SliceGPT_8000", "leaves fewer than 8"),)
    reads_weights = ("SliceGPT_2500",)

    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        return project_out(dense, tokens, read_json(output / "model" / "config.json")["sliced"]["widths"])

    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        widths, hidden, multiple = after.config["sliced"]["widths"], before.hidden_size, options.get("multiple_of", 8)
        mean = sum(widths[:-1]) / (2 * before.num_layers)
        assert len(widths) == 2 * before.num_layers + 1 and widths[-1] == hidden
        assert record.asked and record.reached
        if record.asked.of == "parameters":
            gone = 1 - after.total_parameters / before.total_parameters
            assert record.reached.amount == pytest.approx(gone) and gone >= record.asked.amount
        else:
            assert record.reached.amount == pytest.approx(1 - mean / hidden)
            asked = hidden * (1 - record.asked.amount)
            assert asked - multiple < mean <= asked
        assert all(width % multiple == 0 for width in widths)

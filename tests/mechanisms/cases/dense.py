"""Nothing goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llm_pruner.models.architecture import Architecture
from llm_pruner.variants.records import PruningRecord
from tests.mechanisms.cases.base import Case, MechanismCases


class Cases(MechanismCases):
    amounts = (Case("", {}),)
    spread = (Case("Dense", {}),)

    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        return dense

    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        assert after.total_parameters == before.total_parameters

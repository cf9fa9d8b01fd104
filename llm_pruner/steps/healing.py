"""What healing steps share: they train a low-rank change of the linear layers and merge it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llm_pruner.steps.base import Need, Step, StepInputs, StepOutcome
from llm_pruner.training.options import HealingOptions


class Healing(Step):
    """Trains on the healing tokens, and judges itself by the held-out ones."""

    needs: ClassVar[tuple[Need, ...]] = ("healing", "held_out")
    gpu = True

    options: HealingOptions

    def apply(self, inputs: StepInputs, output: Path) -> StepOutcome:
        from llm_pruner.data.tokens import read_tokens
        from llm_pruner.training.heal import heal

        result = heal(
            inputs.parent,
            output,
            read_tokens(inputs.files["healing"]),
            read_tokens(inputs.files["held_out"]),
            self.options,
            keep_zeros=inputs.sparse,
            teacher=inputs.files.get("base"),
            resume_point=inputs.resume_point,
            name=inputs.name,
            device=inputs.runtime.device,
            progress=inputs.runtime.progress,
        )
        return StepOutcome({"held_out": result["perplexity"]}, result)

    def describe(self, summary: Mapping[str, Any]) -> str:
        perplexity = summary["held_out"]
        return f"held-out perplexity {perplexity['before']:.2f} → {perplexity['after']:.2f}"

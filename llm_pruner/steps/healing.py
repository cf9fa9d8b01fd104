"""The base of healing steps, which train a low-rank change of the linear layers and merge it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from llm_pruner.steps.base import Need, Step, StepInputs, StepOutcome
from llm_pruner.steps.records import StepRecord
from llm_pruner.training.options import HealingOptions


class Healing(Step):
    """Trains on the healing tokens, and measures its progress on the held-out tokens."""

    needs: ClassVar[tuple[Need, ...]] = ("healing", "held_out")
    gpu = True

    options: HealingOptions

    def apply(self, inputs: StepInputs, output: Path) -> StepOutcome:
        from llm_pruner.data.tokens import read_tokens_of
        from llm_pruner.training.heal import heal

        healed = heal(
            inputs.parent,
            output,
            read_tokens_of(inputs.files["healing"], inputs.parent),
            read_tokens_of(inputs.files["held_out"], inputs.parent),
            self.options,
            keep_zeros=inputs.sparse,
            teacher=inputs.files.get("base"),
            resume_point=inputs.resume_point,
            name=inputs.name,
            device=inputs.runtime.device,
            progress=inputs.runtime.progress,
        )
        return StepOutcome({"held_out": healed.perplexity.to_dict()}, healed.to_dict())

    def describe(self, taken: StepRecord) -> str:
        assert taken.held_out
        return f"held-out perplexity {taken.held_out.before:.2f} → {taken.held_out.after:.2f}"

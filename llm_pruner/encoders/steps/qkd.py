"""``+qkd``: a classifier trained with quantised weights while it follows the teacher, then stored in few bits."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.encoders.options import QATOptions, QuantizationOptions
from llm_pruner.encoders.steps.base import ClassifierInputs, ClassifierStep


class QKDOptions(QATOptions, QuantizationOptions):
    """The training, and how the result is stored."""


class QKD(ClassifierStep):
    """Trains for few bits, and stores the weights so."""

    title = "Training for few bits"
    Options = QKDOptions
    sections = ("quantization", "qat")
    terminal = True
    gpu = True
    trains = True

    options: QKDOptions

    def apply(self, inputs: ClassifierInputs, output: Path) -> None:
        from llm_pruner.encoders.quantize import train_quantized

        assert inputs.teacher and inputs.task
        training = self.options.model_dump(include=set(QATOptions.model_fields))
        stored = self.options.model_dump(include=set(QuantizationOptions.model_fields))
        train_quantized(
            inputs.teacher,
            inputs.parent,
            output,
            inputs.task,
            QATOptions(**{**training, "seed": inputs.seed}),
            QuantizationOptions(**stored),
            name=inputs.name,
            device=inputs.device,
            progress=inputs.progress,
        )

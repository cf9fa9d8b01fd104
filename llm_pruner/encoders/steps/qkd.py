"""``+qkd``: train a classifier with quantised weights by distillation, then store it in 4 or 8 bits."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.encoders.options import QATOptions, QuantizationOptions
from llm_pruner.encoders.steps.base import ClassifierInputs, ClassifierStep


class QKDOptions(QATOptions, QuantizationOptions):
    """Options of the training, and of the storage of its result."""


class QKD(ClassifierStep):
    """Trains with quantised weights, and stores them."""

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
            device=inputs.runtime.device,
            progress=inputs.runtime.progress,
        )

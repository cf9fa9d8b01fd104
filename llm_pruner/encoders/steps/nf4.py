"""``+nf4``: store a classifier's encoder layers in 4 or 8 bits, without training."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.encoders.options import QuantizationOptions
from llm_pruner.encoders.steps.base import ClassifierInputs, ClassifierStep


class NF4(ClassifierStep):
    """Stores weights in 4 or 8 bits, without training."""

    title = "Storage in few bits"
    Options = QuantizationOptions
    sections = ("quantization",)
    terminal = True

    options: QuantizationOptions

    def apply(self, inputs: ClassifierInputs, output: Path) -> None:
        from llm_pruner.encoders.quantize import quantize_classifier

        quantize_classifier(inputs.parent, output, self.options, name=inputs.name, seed=inputs.seed)

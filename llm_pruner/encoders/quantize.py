"""PTQ and QKD: classifiers with encoder layers stored in 4 or 8 bits, without training or after it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from llm_pruner.encoders.architecture import EIGHT_BIT, EncoderShape, unquantized_shape
from llm_pruner.encoders.folder import (
    build_classifier,
    classifier_class,
    load_classifier,
    save_classifier,
)
from llm_pruner.encoders.objective import Student
from llm_pruner.encoders.options import Bits, QATOptions, QuantizationOptions, TaskOptions
from llm_pruner.encoders.records.classifier import PTQ, QKD, ClassifierRecord
from llm_pruner.encoders.runs import RECORD, TrainingRun
from llm_pruner.encoders.tasks import Batch
from llm_pruner.encoders.training import ClassifierTraining
from llm_pruner.models.carried.narrow import Linear8bit
from llm_pruner.models.checkpoint import load_tokenizer
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.models.nf4 import fake_nf4, nf4_config
from llm_pruner.models.packed import load_packed
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.fake_quantize import FakeQuantize

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantize_classifier(
    source: Path, output: Path, options: QuantizationOptions, *, name: str = PTQ, seed: int | None = None
) -> ClassifierRecord:
    """PTQ: store a trained classifier in 4 or 8 bits, and write ``output/model`` and ``output/record.json``.

    Args:
        source: model folder.
        name: name of the run in tables.
        seed: seed of the model's training, for the record.

    Raises:
        CheckpointError: if the model cannot be read or is quantised already.
        PlanError: if ``layer_bits`` names a layer that the model does not have.
    """
    shape = unquantized_shape(source)
    run = Run(options.model_dump(mode="json"), seed=seed)
    bits = module_bits(shape, options)
    with staged_directory(output / "model", inputs=[source]) as folder:
        quantized = quantized_classifier(shape, load_classifier(source).state_dict(), bits, options.double_quant)
        save_classifier(quantized, load_tokenizer(source), folder)
    record = ClassifierRecord(
        name=name,
        kind=PTQ,
        seed=seed,
        bytes_on_disk=bytes_on_disk(output / "model"),
        reached=shape.removed(shape.layers),
        bits=dict(sorted(bits.items())),
        run=run.describe(),
    )
    record.write(output / RECORD)
    return record


def train_quantized(
    teacher: Path,
    source: Path,
    output: Path,
    task: TaskOptions,
    options: QATOptions,
    quantization: QuantizationOptions,
    *,
    name: str = QKD,
    device: str = "auto",
    progress: bool = False,
) -> ClassifierRecord:
    """QKD: train a classifier with quantised weights, by distillation from a teacher of full precision.

    Validation accuracy is measured with the quantised weights, and the quantised weights are saved.

    Args:
        teacher: model folder of the teacher.
        source: model folder of the classifier to train, usually a pruned one.
        output: folder of the run, for ``model`` and ``record.json``; the training resumes from a resume point in it.
        name: name of the run in tables.

    Raises:
        CheckpointError: if a model cannot be read or is quantised already, or the training diverges.
        PlanError: if ``layer_bits`` names a layer that the model does not have.
        DataError: if the task cannot be read.
    """
    shape = unquantized_shape(source)
    bits = module_bits(shape, quantization)
    run = TrainingRun(output, task, options, Runtime(device, progress=progress))
    run.job.options["quantization"] = quantization.model_dump(mode="json")
    train, validation = run.splits(source, "train", "validation")
    model = load_classifier(source, device=run.runtime.device)
    learner = run.seeded(lambda: Student(model, load_classifier(teacher, device=run.runtime.device), options))
    fake_quantize(model, bits, quantization.double_quant)
    history = run.fit(QuantizedTraining(learner), train, validation, teacher, source, name=name)
    for module in bits:
        parametrize.remove_parametrizations(model.get_submodule(module), "weight", leave_parametrized=False)
    quantized = quantized_classifier(shape, model.state_dict(), bits, quantization.double_quant)
    reached, stored = shape.removed(shape.layers), dict(sorted(bits.items()))
    return run.finish(quantized, source, history, kind=QKD, name=name, reached=reached, bits=stored)


class QuantizedTraining(ClassifierTraining):
    """Distillation with the quantised weights in the forward pass."""

    def __init__(self, student: Student) -> None:
        super().__init__(student, student.model)
        self.student = student

    def loss(self, batch: Batch) -> torch.Tensor:
        return self.student.loss(batch)


def module_bits(shape: EncoderShape, options: QuantizationOptions) -> dict[str, Bits]:
    """Bits of each linear module in the encoder layers, by name.

    Raises:
        PlanError: if ``layer_bits`` names a layer that the model does not have.
    """
    layers = len(shape.layers)
    if unknown := [layer for layer in options.layer_bits if layer >= layers]:
        raise PlanError(f"layer_bits: no layer {unknown[0]}; the model has {layers}, counted from 0; remove it")
    return {
        name: options.layer_bits.get(layer, options.bits) for layer in range(layers) for name in shape.linears(layer)
    }


def fake_quantize(model: PreTrainedModel, bits: Mapping[str, Bits], double_quant: bool) -> None:
    """Let linear modules compute with quantised weights; gradients go straight through to the full weights."""
    quantizers: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {
        4: partial(fake_nf4, double_quant=double_quant),
        8: fake_int8,
    }
    for name, count in bits.items():
        linear = model.get_submodule(name)
        parametrize.register_parametrization(linear, "weight", FakeQuantize(quantizers[count]))


def fake_int8(weight: torch.Tensor) -> torch.Tensor:
    """Round a weight to 8-bit integers with one scale per row, and scale it back."""
    integers, scales = Linear8bit.quantize(weight)
    return integers * scales


def quantized_classifier(
    shape: EncoderShape, weights: Mapping[str, torch.Tensor], bits: Mapping[str, Bits], double_quant: bool
) -> PreTrainedModel:
    """Build a classifier in memory with linear modules stored in ``bits``; all other modules keep their precision."""
    stored = dict(weights)
    eight = [name for name, count in bits.items() if count == 8]
    for name in eight:
        integers, scales = Linear8bit.quantize(stored.pop(f"{name}.weight"))
        stored |= {f"{name}.integers": integers, f"{name}.scales": scales}
    if eight:
        shape = EncoderShape({**shape.config, EIGHT_BIT: eight})
    model = build_classifier(shape, stored)
    if len(eight) == len(bits):
        return model
    four = {name for name, count in bits.items() if count == 4}
    skip = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in four]
    # AutoModel loads the model without its head, under names without the prefix
    skip = list(dict.fromkeys([*skip, *(name.removeprefix(f"{model.base_model_prefix}.") for name in skip)]))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_packed(classifier_class(shape), Path(folder), nf4_config(skip, double_quant=double_quant))

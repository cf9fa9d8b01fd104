"""PTQ and QKD: classifiers whose encoder is stored in 4 bits, or some layers of it in 8, straight or after training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from llm_pruner.encoders.architecture import EIGHT_BIT, Encoder, unquantized_encoder
from llm_pruner.encoders.folder import (
    build_classifier,
    classifier_class,
    load_classifier,
    save_classifier,
)
from llm_pruner.encoders.objective import Student
from llm_pruner.encoders.options import Bits, QATOptions, QuantizationOptions, TaskOptions
from llm_pruner.encoders.records.classifier import PTQ, QKD, ClassifierRecord
from llm_pruner.encoders.runs import RECORD, Workplace
from llm_pruner.encoders.tasks import Batch
from llm_pruner.encoders.training import Course
from llm_pruner.models.carried.narrow import Linear8bit
from llm_pruner.models.checkpoint import load_tokenizer
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.models.nf4 import fake_nf4, nf4_config
from llm_pruner.models.packed import load_packed
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.provenance import Run
from llm_pruner.training.fake_quantize import FakeQuantize

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantize_classifier(
    source: Path, output: Path, options: QuantizationOptions, *, name: str = PTQ, seed: int | None = None
) -> ClassifierRecord:
    """PTQ: store a trained classifier in few bits, and write ``output/model`` and ``output/record.json``.

    Args:
        source: model folder.
        seed: of the model, for the record.

    Raises:
        CheckpointError: if the model cannot be read or is quantised already.
        PlanError: if a layer is given bits that the model has not.
    """
    encoder = unquantized_encoder(source)
    run = Run(options.model_dump(mode="json"), seed=seed)
    bits = module_bits(encoder, options)
    with staged_directory(output / "model") as folder:
        quantized = quantized_classifier(encoder, load_classifier(source).state_dict(), bits, options.double_quant)
        save_classifier(quantized, load_tokenizer(source), folder)
    record = ClassifierRecord(
        name=name,
        kind=PTQ,
        seed=seed,
        bytes_on_disk=bytes_on_disk(output / "model"),
        reached=encoder.removed(encoder.layers),
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
    """QKD: train a classifier to work with quantised weights, following a teacher of full precision.

    What is saved, and what validation accuracy is measured with, are the quantised weights.

    Args:
        teacher: folder of the classifier that is followed.
        source: folder of the one that is trained, usually pruned.
        output: gets ``model``, ``record.json`` and ``curves.png``; a checkpoint in it is taken up.

    Raises:
        CheckpointError: if a model cannot be read, is quantised already, or the training diverges.
        PlanError: if a layer is given bits that the model has not.
        DataError: if the task cannot be read.
    """
    encoder = unquantized_encoder(source)
    bits = module_bits(encoder, quantization)
    place = Workplace(output, task, options, device)
    place.run.options["quantization"] = quantization.model_dump(mode="json")
    train, validation = place.splits(source, "train", "validation")
    model = load_classifier(source, device=place.device)
    learner = place.seeded(lambda: Student(model, load_classifier(teacher, device=place.device), options))
    fake_quantize(model, bits, quantization.double_quant)
    history = place.fit(QuantizedCourse(learner), train, validation, teacher, source, name=name, progress=progress)
    for module in bits:
        parametrize.remove_parametrizations(model.get_submodule(module), "weight", leave_parametrized=False)
    quantized = quantized_classifier(encoder, model.state_dict(), bits, quantization.double_quant)
    reached, stored = encoder.removed(encoder.layers), dict(sorted(bits.items()))
    return place.finish(quantized, source, history, kind=QKD, name=name, reached=reached, bits=stored)


class QuantizedCourse(Course):
    """Distillation with the quantised weights in the forward pass."""

    def __init__(self, student: Student) -> None:
        super().__init__(student, student.model)
        self.student = student

    def loss(self, batch: Batch) -> torch.Tensor:
        return self.student.loss(batch)


def module_bits(encoder: Encoder, options: QuantizationOptions) -> dict[str, Bits]:
    """Bits of every linear module of the encoder's layers.

    Raises:
        PlanError: for a layer that is not there.
    """
    layers = len(encoder.layers)
    if unknown := [layer for layer in options.layer_bits if layer >= layers]:
        raise PlanError(f"layer_bits: no layer {unknown[0]}; the model has {layers}, counted from 0")
    return {
        name: options.layer_bits.get(layer, options.bits) for layer in range(layers) for name in encoder.linears(layer)
    }


def fake_quantize(model: PreTrainedModel, bits: Mapping[str, Bits], double_quant: bool) -> None:
    """Let linear modules compute with what quantising leaves of their weights, gradients going straight through."""
    quantizers: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {
        4: partial(fake_nf4, double_quant=double_quant),
        8: fake_int8,
    }
    for name, width in bits.items():
        linear = model.get_submodule(name)
        parametrize.register_parametrization(linear, "weight", FakeQuantize(quantizers[width]))


def fake_int8(weight: torch.Tensor) -> torch.Tensor:
    """What 8-bit integers with one scale a row leave of a weight."""
    integers, scales = Linear8bit.quantize(weight)
    return integers * scales


def quantized_classifier(
    encoder: Encoder, weights: Mapping[str, torch.Tensor], bits: Mapping[str, Bits], double_quant: bool
) -> PreTrainedModel:
    """A classifier in memory whose linear modules are stored in so many bits; all else stays as it is."""
    stored = dict(weights)
    eight = [name for name, width in bits.items() if width == 8]
    for name in eight:
        integers, scales = Linear8bit.quantize(stored.pop(f"{name}.weight"))
        stored |= {f"{name}.integers": integers, f"{name}.scales": scales}
    if eight:
        encoder = Encoder({**encoder.config, EIGHT_BIT: eight})
    model = build_classifier(encoder, stored)
    if len(eight) == len(bits):
        return model
    four = {name for name, width in bits.items() if width == 4}
    skip = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in four]
    # also as AutoModel knows them, which loads the model without its head
    skip = list(dict.fromkeys([*skip, *(name.removeprefix(f"{model.base_model_prefix}.") for name in skip)]))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_packed(classifier_class(encoder), Path(folder), nf4_config(skip, double_quant=double_quant))

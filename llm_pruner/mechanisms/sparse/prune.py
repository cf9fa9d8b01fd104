"""Pruning jobs that zero single weights, unstructured or N:M, layer by layer.

Each layer reads the outputs of the earlier layers after pruning.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.job import Job, LayerOutcome, Outcome
from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.mechanisms.sparse.options import SparseOptions
from llm_pruner.mechanisms.sparse.records import MeasuresFile
from llm_pruner.methods.base import LinearMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import (
    CheckpointWriter,
    WeightReader,
    copy_companions,
    write_config,
)
from llm_pruner.models.layout import component, layer_prefix
from llm_pruner.planning.budget import layer_ratios
from llm_pruner.planning.masks import Pattern
from llm_pruner.refinements.none import Unrefined
from llm_pruner.scoring.evidence import Inputs, Kind, gather
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import scratch_directory, staged_directory

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


def prune(job: Job) -> Outcome:
    """Zero linear weights of every block. The method, or a repair, sets the values of the kept weights.

    Raises:
        PlanError: if the length of a row is not a multiple of M, the allocation lacks layer scores, or a repair has too
            few samples.
        CheckpointError: if the method or the repair uses inputs of a linear layer that are not finite.
    """
    if not job.variant.repaired:
        return zero(job, job.model)
    with scratch_directory(job.model) as scratch:
        outcome = zero(job, scratch / "zeroed")
        zeroed = WeightReader(scratch / "zeroed")
        repair = job.repair(
            job.model, lambda index, linear: zeroed.tensor(f"{layer_prefix(index)}{linear}.weight") == 0
        )
    return replace(outcome, repair=repair, notes=[*outcome.notes, repair.note()])


def zero(job: Job, output: Path) -> Outcome:
    """Write the model with zeros and with the kept weights that the method chooses."""
    method = job.variant.build_method()
    assert isinstance(method, LinearMethod)
    refinement = SparseOptions(**job.variant.options).refinement
    kind, inputs = looked_at(method, refined=not isinstance(refinement, Unrefined))
    architecture = read_architecture(job.base)
    asked = ratios(job.variant, architecture, job.importance)
    layers = []
    weights = WeightReader(job.base)
    with staged_directory(output, inputs=[job.base]) as folder, CheckpointWriter(folder) as writer:
        for name in weights.names():
            if component(name)[0] is None:
                writer.add(name, weights.tensor(name))
        for layer in gather(
            kind,
            job.base,
            job.input_ids,
            job.runtime,
            inputs=inputs,
            description=f"{job.variant.name} layers",
        ):
            zeros = weights_of_layer = 0
            for weight, evidence in layer.linears():
                shape = pattern(job.variant, asked[layer.index])
                mask, solved = method.solve(weight, evidence, shape)
                mask = refinement.refine(mask, solved, evidence, shape)
                weight.copy_(solved).masked_fill_(mask, 0)
                zeros += int(mask.sum())
                weights_of_layer += mask.numel()
            layers.append(LayerOutcome(layer.index, asked[layer.index], zeros, weights_of_layer))
            layer.changed()
            for name, tensor in layer.parameters.items():
                writer.add(layer_prefix(layer.index) + name, tensor)
        write_config(folder, architecture.config)
        copy_companions(job.base, folder)
    return Outcome(
        sum(layer.zeros for layer in layers) / architecture.linear_parameters(),
        layers=sorted(layers, key=lambda layer: layer.index),
    )


def ratios(variant: Variant, architecture: Architecture, scores: ScoresFile | None) -> list[float]:
    """Share of its linear weights that each layer loses, so that all layers lose the variant's amount.

    Args:
        variant: variant to make.
        architecture: shape of the base model.
        scores: scores of layers; None if the variant's allocation uses none.

    Raises:
        PlanError: if the number of scores is not the number of layers.
    """
    assert scores is None or isinstance(scores, MeasuresFile | LayerScoresFile)
    if scores and len(scores.layers) != architecture.num_layers:
        raise PlanError(
            f"{variant.name}: scores of {len(scores.layers)} layers for a model of {architecture.num_layers} layers"
        )
    sizes = [0] * architecture.num_layers
    for name, tensor in architecture.linears().items():
        index, _ = component(name)
        assert index is not None
        sizes[index] += tensor.numel
    sharing = SparseOptions(**variant.options).sharing
    targets = sharing.targets(variant.amount, len(sizes), [entry.score for entry in scores.layers] if scores else None)
    return layer_ratios(variant.amount, targets, sizes)


def looked_at(method: LinearMethod, refined: bool) -> tuple[Kind, Inputs]:
    """Kind of evidence to gather, and input statistics beside it: the method's own, plus moments for a refinement."""
    if not refined:
        return method.evidence, method.inputs
    if method.evidence in ("gradient", "curvature"):
        return method.evidence, "moments"
    return "moments", "none"


def pattern(variant: Variant, ratio: float) -> Pattern:
    """Pattern of the zeros in every linear layer of a layer that loses the share ``ratio``."""
    if variant.structure == "unstructured":
        return Pattern(ratio)
    n, m = map(int, variant.structure.split(":"))
    return Pattern(n / m, n, m)

"""Single weights become zero, freely or N of every M. Layer by layer, each seeing what the pruned ones before make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.methods.base import SaliencyMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import (
    CheckpointWriter,
    WeightReader,
    copy_companions,
    write_config,
)
from llm_pruner.models.layout import component, layer_prefix
from llm_pruner.planning.masks import n_of_m_mask, unstructured_mask
from llm_pruner.scoring.evidence import Evidence, gather
from llm_pruner.system.files import staged_directory

if TYPE_CHECKING:
    import torch

    from llm_pruner.variants.variant import Variant


def prune(job: Job) -> Outcome:
    """Zero the least salient linear weights of every block.

    Raises:
        PlanError: if N:M does not divide the model's rows.
    """
    method = job.variant.build_method()
    assert isinstance(method, SaliencyMethod)
    architecture = read_architecture(job.base)
    zeros = 0
    weights = WeightReader(job.base)
    with staged_directory(job.model) as folder, CheckpointWriter(folder) as writer:
        for name in weights.names():
            if component(name)[0] is None:
                writer.add(name, weights.tensor(name))
        for layer in gather(
            method.evidence,
            job.base,
            job.input_ids,
            job.runtime,
            description=f"{job.variant.name} layers",
        ):
            for weight, evidence in layer.linears():
                mask = choose(job.variant, method, weight, evidence)
                weight.masked_fill_(mask, 0)
                zeros += int(mask.sum())
            layer.changed()
            for name, tensor in layer.parameters.items():
                writer.add(layer_prefix(layer.index) + name, tensor)
        write_config(folder, architecture.config)
        copy_companions(job.base, folder)
    return Outcome(zeros / architecture.linear_parameters())


def choose(variant: Variant, method: SaliencyMethod, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
    """bool [out_features, in_features]: the weights of one linear layer that go."""
    saliency = method.saliency(weight, evidence)
    if variant.structure == "unstructured":
        return unstructured_mask(saliency, variant.amount, method.comparison)
    n, m = map(int, variant.structure.split(":"))
    return n_of_m_mask(saliency, n, m)

"""What models hold and what went of them, as files."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Pair, Part, Record


class Sizes(Part):
    """How much is stored, and how much of it is not zero."""

    parameters: int
    """Stored."""
    nonzero: int
    """Of those, the ones that are not zero."""


class AttentionSizes(Sizes):
    """An attention block."""

    heads: int
    """Query heads; 0 where the block is gone."""
    key_value_groups: int
    """Key-value heads with the query heads that read them; 0 where the block is gone."""
    head_dim: int
    """Dimensions of a head."""


class MLPSizes(Sizes):
    """An MLP block."""

    channels: int
    """Width between its projections; 0 where the block is gone."""


class LayerNumber(Part):
    """Which layer it is."""

    layer_idx: int
    """Its number in the base."""


class LayerPlace(LayerNumber):
    """Which layer it is, and where."""

    position: int | None
    """Its number in the model; null where it is gone."""


class LayerStructure(Sizes, LayerPlace):
    """A layer of the base, as a model holds it."""

    attention: AttentionSizes
    """Its attention block, without the norm."""
    mlp: MLPSizes
    """Its MLP block, without the norm."""
    shortcut: Sizes = Sizes(parameters=0, nonzero=0)
    """What carries the residual from one sliced basis to the next."""
    sparsity: float
    """Share of its stored parameters that are zero."""


class Totals(Sizes):
    """A model as a whole."""

    sparsity: float
    """Share of the stored parameters that are zero."""
    bytes_on_disk: int
    """Of the weights."""
    parts: dict[str, Sizes]
    """By what they are part of: embedding, attention, mlp, shortcut, norm, lm_head, other."""


class ModelStructure(Record):
    """What a model holds, in total and by layer of the base.

    The base's own lies beside each model's, ``original_model_analysis.json``.
    """

    file: ClassVar[str] = "baselines/{variant}/analysis/pruned_model_analysis.json"

    name: str
    """Of the model."""
    model_type: str
    """Of its configuration."""
    hidden_size: int
    """Of the residual stream."""
    num_layers: int
    """Stored."""
    totals: Totals
    """The model as a whole."""
    layers: tuple[LayerStructure, ...]
    """One entry a layer of the base, those that are gone included."""


class TensorEntry(Part):
    """A tensor of a checkpoint."""

    name: str
    """As in the checkpoint."""
    shape: tuple[int, ...]
    """Sizes of its dimensions."""
    dtype: str
    """As in the checkpoint."""
    parameters: int
    """Elements."""
    component: str
    """What it is part of."""
    layer: int | None
    """Position of its layer in the model; null outside the layers."""
    layer_idx: int | None
    """Number of that layer in the base."""


class TensorList(Record):
    """Every tensor of a model."""

    file: ClassVar[str] = "baselines/{variant}/analysis/model_structure.json"

    name: str
    """Of the model."""
    tensors: tuple[TensorEntry, ...]
    """In the order of the layers."""


class Quantity(Pair[int]):
    """A quantity before and after."""

    reduction_ratio: float
    """Share that is gone; below 0 where something was added."""


class BlockComparison(Part):
    """What went of a part of the model."""

    parameters: Pair[int]
    """Stored."""
    nonzero: Pair[int]
    """Stored, and not zero."""
    sparsity: Pair[float]
    """Share of the stored parameters that are zero."""
    reduction_ratio: float
    """Share of the parameters that are no longer stored."""
    nonzero_reduction_ratio: float
    """Share of the non-zero parameters that were removed or zeroed: the measure that all models have in common."""


class AttentionComparison(BlockComparison):
    """What went of an attention block."""

    heads: Pair[int]
    """Query heads."""
    key_value_groups: Pair[int]
    """Key-value heads with the query heads that read them."""


class MLPComparison(BlockComparison):
    """What went of an MLP block."""

    channels: Pair[int]
    """Width between its projections."""


class LayerComparison(BlockComparison, LayerPlace):
    """What went of a layer."""

    is_zero_layer: bool
    """Whether it cannot change its input any more: it is gone, or its blocks hold nothing but zeros."""
    attention: AttentionComparison
    """Its attention block, without the norm."""
    mlp: MLPComparison
    """Its MLP block, without the norm."""
    shortcut: Pair[int]
    """Parameters of what carries the residual from one sliced basis to the next."""


class TotalsComparison(Part):
    """What went of the model as a whole."""

    parameters: Quantity
    """Stored."""
    nonzero: Quantity
    """Stored, and not zero."""
    bytes_on_disk: Quantity
    """Of the weights."""
    sparsity: Pair[float]
    """Share of the stored parameters that are zero."""


class ModelComparison(Record):
    """A model beside its base: what went, in total, by part and by layer."""

    file: ClassVar[str] = "baselines/{variant}/analysis/model_comparison.json"

    base: str
    """Name of the base."""
    model: str
    """Name of the model."""
    num_layers: Pair[int]
    """Stored."""
    totals: TotalsComparison
    """The model as a whole."""
    parts: dict[str, BlockComparison]
    """By what they are part of: embedding, attention, mlp, shortcut, norm, lm_head, other."""
    layers: tuple[LayerComparison, ...]
    """One entry a layer of the base."""


class ModelParameters(Part):
    """How large a model is."""

    total: int
    """Parameters stored."""
    before: int
    """Of its base."""
    nonzero: int
    """Of those stored."""
    num_layers: int
    """Stored."""


class Reduction(Part):
    """How much is gone."""

    reduction_ratio: float
    """Share of the parameters that are no longer stored."""
    nonzero_reduction_ratio: float
    """Share of the non-zero parameters that were removed or zeroed."""


class LayerReduction(Reduction, LayerNumber):
    """How much of a layer is gone."""

    is_zero: bool
    """Whether it cannot change its input any more."""


class ModelSummary(Part):
    """A model among those of a run."""

    name: str
    """Of its folder."""
    params: ModelParameters
    """How large it is."""
    pruning: Reduction
    """How much is gone."""
    layer_pruning: tuple[LayerReduction, ...]
    """The same by layer of the base."""


class Statistics(Part):
    """One number over all models."""

    params_total: float
    """Of the parameters stored."""
    params_nonzero: float
    """Of those that are not zero."""
    reduction_ratio: float
    """Of the share of the parameters that are no longer stored."""


class StructureSummary(Record):
    """All models of a run."""

    file: ClassVar[str] = "results/models_structure_summary.json"

    timestamp: str
    """When it was made, ISO 8601, UTC."""
    total_models: int
    """Models that are analysed."""
    missing: tuple[str, ...]
    """Models that are not."""
    statistics: dict[str, Statistics]
    """``minimum``, ``maximum`` and ``mean`` over all models, the base among them; empty without models."""
    models: tuple[ModelSummary, ...]
    """In the order of the run."""
    damaged: dict[str, str] | None = None
    """What is wrong with analyses that cannot be read, by model."""

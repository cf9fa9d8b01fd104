"""Structures of models and comparisons of structures, as files."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Pair, Part, Record


class Sizes(Part):
    """Stored parameters, and how many of them are not zero."""

    parameters: int
    """Stored parameters."""
    nonzero: int
    """Stored parameters that are not zero."""


class AttentionSizes(Sizes):
    """An attention block."""

    heads: int
    """Query heads; 0 if the block was removed."""
    key_value_groups: int
    """Key-value heads with the query heads that read them; 0 if the block was removed."""
    head_dim: int
    """Dimensions of a head."""


class MLPSizes(Sizes):
    """An MLP block."""

    channels: int
    """Width between the MLP's projections; 0 if the block was removed."""


class LayerNumber(Part):
    """Number of a layer."""

    layer_idx: int
    """Number of the layer in the base."""


class LayerPlace(LayerNumber):
    """Number and position of a layer."""

    position: int | None
    """Number of the layer in the model; null if the layer was removed."""


class LayerStructure(Sizes, LayerPlace):
    """A layer of the base, as stored in a model."""

    attention: AttentionSizes
    """Attention block, without the norm."""
    mlp: MLPSizes
    """MLP block, without the norm."""
    shortcut: Sizes = Sizes(parameters=0, nonzero=0)
    """Matrices that carry the residual stream from one sliced basis to the next."""
    sparsity: float
    """Share of the layer's stored parameters that are zero."""


class Totals(Sizes):
    """A model as a whole."""

    sparsity: float
    """Share of the stored parameters that are zero."""
    bytes_on_disk: int
    """Bytes of the weights."""
    parts: dict[str, Sizes]
    """Sizes of the parts: embedding, attention, mlp, shortcut, norm, lm_head, other."""


class ModelStructure(Record):
    """Sizes of a model, in total and by layer of the base.

    Beside it lies the record of the base, ``original_model_analysis.json``.
    """

    file: ClassVar[str] = "baselines/{variant}/analysis/pruned_model_analysis.json"

    name: str
    """Name of the model."""
    model_type: str
    """``model_type`` of the model's configuration."""
    hidden_size: int
    """Width of the residual stream."""
    num_layers: int
    """Stored layers."""
    totals: Totals
    """The model as a whole."""
    layers: tuple[LayerStructure, ...]
    """One entry for each layer of the base, removed layers included."""


class TensorEntry(Part):
    """A tensor of a checkpoint."""

    name: str
    """Name in the checkpoint."""
    shape: tuple[int, ...]
    """Sizes of the dimensions."""
    dtype: str
    """Dtype in the checkpoint."""
    parameters: int
    """Number of elements."""
    component: str
    """Part of the model that the tensor belongs to."""
    layer: int | None
    """Position of the tensor's layer in the model; null outside the layers."""
    layer_idx: int | None
    """Number of the tensor's layer in the base; null outside the layers."""


class TensorList(Record):
    """Every tensor of a model."""

    file: ClassVar[str] = "baselines/{variant}/analysis/model_structure.json"

    name: str
    """Name of the model."""
    tensors: tuple[TensorEntry, ...]
    """All tensors, in the order of the layers."""


class Quantity(Pair[int]):
    """A quantity before and after."""

    reduction_ratio: float
    """Removed share; below 0 if the quantity grew."""


class BlockComparison(Part):
    """A part of the model, before and after."""

    parameters: Pair[int]
    """Stored parameters."""
    nonzero: Pair[int]
    """Stored parameters that are not zero."""
    sparsity: Pair[float]
    """Share of the stored parameters that are zero."""
    reduction_ratio: float
    """Share of the parameters that are no longer stored."""
    nonzero_reduction_ratio: float
    """Share of the non-zero parameters that were removed or zeroed, which compares all kinds of models."""


class AttentionComparison(BlockComparison):
    """An attention block, before and after."""

    heads: Pair[int]
    """Query heads."""
    key_value_groups: Pair[int]
    """Key-value heads with the query heads that read them."""


class MLPComparison(BlockComparison):
    """An MLP block, before and after."""

    channels: Pair[int]
    """Width between the MLP's projections."""


class LayerComparison(BlockComparison, LayerPlace):
    """A layer, before and after."""

    is_zero_layer: bool
    """Whether the layer can no longer change its input: the layer was removed, or its blocks hold only zeros."""
    attention: AttentionComparison
    """Attention block, without the norm."""
    mlp: MLPComparison
    """MLP block, without the norm."""
    shortcut: Pair[int]
    """Parameters of the matrices that carry the residual stream from one sliced basis to the next."""


class TotalsComparison(Part):
    """The model as a whole, before and after."""

    parameters: Quantity
    """Stored parameters."""
    nonzero: Quantity
    """Stored parameters that are not zero."""
    bytes_on_disk: Quantity
    """Bytes of the weights."""
    sparsity: Pair[float]
    """Share of the stored parameters that are zero."""


class ModelComparison(Record):
    """A model compared with its base, in total, by part and by layer."""

    file: ClassVar[str] = "baselines/{variant}/analysis/model_comparison.json"

    base: str
    """Name of the base."""
    model: str
    """Name of the model."""
    num_layers: Pair[int]
    """Stored layers."""
    totals: TotalsComparison
    """The model as a whole."""
    parts: dict[str, BlockComparison]
    """Comparisons of the parts: embedding, attention, mlp, shortcut, norm, lm_head, other."""
    layers: tuple[LayerComparison, ...]
    """One entry for each layer of the base."""


class ModelParameters(Part):
    """Size of a model."""

    total: int
    """Stored parameters."""
    before: int
    """Stored parameters of the base."""
    nonzero: int
    """Stored parameters that are not zero."""
    num_layers: int
    """Stored layers."""


class Reduction(Part):
    """Shares of removed parameters."""

    reduction_ratio: float
    """Share of the parameters that are no longer stored."""
    nonzero_reduction_ratio: float
    """Share of the non-zero parameters that were removed or zeroed."""


class LayerReduction(Reduction, LayerNumber):
    """Shares of a layer's removed parameters."""

    is_zero: bool
    """Whether the layer can no longer change its input."""


class ModelSummary(Part):
    """One model of a run."""

    name: str
    """Name of the model's folder."""
    params: ModelParameters
    """Size of the model."""
    pruning: Reduction
    """Shares of the model's removed parameters."""
    layer_pruning: tuple[LayerReduction, ...]
    """The same shares by layer of the base."""


class Statistics(Part):
    """A statistic over all models."""

    params_total: float
    """The statistic of the stored parameters."""
    params_nonzero: float
    """The statistic of the stored parameters that are not zero."""
    reduction_ratio: float
    """The statistic of the share of parameters that are no longer stored."""


class StructureSummary(Record):
    """Structures of all models of a run."""

    file: ClassVar[str] = "results/models_structure_summary.json"

    timestamp: str
    """Date and time of the summary, ISO 8601, UTC."""
    total_models: int
    """Number of analysed models."""
    missing: tuple[str, ...]
    """Models without an analysis."""
    statistics: dict[str, Statistics]
    """``minimum``, ``maximum`` and ``mean`` over all models, the base included; empty without models."""
    models: tuple[ModelSummary, ...]
    """Analysed models, in the order of the run."""
    damaged: dict[str, str] | None = None
    """Problems of analyses that cannot be read, by model."""

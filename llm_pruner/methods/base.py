"""Interfaces of methods. Shared parts (groups, allocation, masks, surgery) live in the mechanisms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from llm_pruner.system.options import Count, Options, Seed

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence
    from llm_pruner.scoring.stream import LayerStream


class MethodOptions(Options):
    """Options of a method."""


class CalibratedOptions(MethodOptions):
    """Options of a method that uses calibration samples."""

    samples: Count | None = None
    """Use the first n calibration samples; all by default."""


class SeededOptions(MethodOptions):
    """Options of a method with random scores."""

    seed: Seed = 0
    """Seed of the random numbers."""


class Method(ABC):
    """A pruning method, made from its options. Importing its module must not import torch."""

    name: ClassVar[str]
    """Name in configurations and folder names."""
    title: ClassVar[str]
    """The criterion in one line, for people."""
    paper: ClassVar[str]
    """Citation of the source; empty if there is none."""
    mechanisms: ClassVar[tuple[str, ...]]
    """Mechanisms that can use the method: ``dense``, ``width``, ``depth``, ``sparse``, ``slice``."""
    parts: ClassVar[tuple[str, ...]] = ()
    """Parts that a depth method can score: the whole ``layer``, its ``attention`` or its ``mlp`` block."""
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    defaults: ClassVar[dict[str, Any]] = {}
    """Defaults of the mechanism's options, such as ``allocation``; a variant can override them."""
    scores_of: ClassVar[str | None] = None
    """A registered method whose scores this method uses, computed once for both; None for scores of its own."""

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    @property
    def calibrated(self) -> bool:
        """Whether the method uses calibration samples."""
        return isinstance(self.options, CalibratedOptions)

    def first_samples(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The calibration samples that the method uses, int64 [samples, length]."""
        if isinstance(self.options, CalibratedOptions) and self.options.samples:
            return input_ids[: self.options.samples]
        return input_ids


class LinearMethod(Method):
    """A method that zeroes single weights, one linear layer at a time."""

    evidence: Literal["none", "input_norm", "moments", "gradient", "curvature"] = "none"
    """Kind of evidence that the method uses besides the weight."""
    inputs: Literal["none", "input_norm", "moments"] = "none"
    """Statistics of inputs that the method uses beside gradients. Sparsity gathers them, width does not."""
    checkpointing: bool = True
    """Whether the backward pass computes activations again instead of keeping them in memory."""

    @abstractmethod
    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the weights of a linear layer to remove, and the values of the kept weights.

        Args:
            weight: float [out_features, in_features]; not changed in place.
            evidence: evidence of the kind that ``evidence`` and ``inputs`` name.
            pattern: number and places of the zeros.

        Returns:
            The mask, bool [out_features, in_features], True where a weight is removed; and the new weight, float
            [out_features, in_features], whose removed values have no effect. ``weight`` itself if no kept weight
            changes.

        Raises:
            PlanError: if the pattern does not fit the weight, or the evidence does not determine the kept weights.
            CheckpointError: if the evidence is not finite.
        """


class SaliencyMethod(LinearMethod):
    """A method that scores single weights. Width pruning sums the scores over units, sparsity ranks them."""

    comparison: Literal["matrix", "row"] = "matrix"
    """Scope of the ranking for unstructured sparsity: the whole matrix, or each output row."""

    @abstractmethod
    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Saliency of every weight, float [out_features, in_features]; higher is more important."""

    def summed(self, weight: torch.Tensor, evidence: Evidence, dim: int) -> torch.Tensor:
        """Saliency of whole rows, [out_features] (``dim`` 1), or columns, [in_features] (``dim`` 0), for width."""
        return self.saliency(weight, evidence).sum(dim=dim)

    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        return pattern.mask(self.saliency(weight, evidence), self.comparison), weight


class WeightSolver(LinearMethod):
    """A method that chooses mask and kept weights of a linear layer together, to reproduce the layer's output."""

    mechanisms = ("sparse",)
    Options = CalibratedOptions
    evidence = "moments"


class ColumnMethod(Method):
    """A method that scores units by their columns in the linear layers that write the residual stream.

    A key-value group has several columns in attention's output projection, an MLP channel one column in the down
    projection.
    """

    mechanisms = ("width",)
    evidence: Literal["none", "input_norm", "features", "moments"] = "none"
    """Kind of evidence that the method uses besides the weight."""

    @abstractmethod
    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        """Score of every unit, float [in_features / unit_size]; higher is more important.

        Args:
            weight: float [out_features, in_features].
            evidence: evidence about the linear layer.
            unit_size: consecutive columns of one unit.
        """


class LayerScoreMethod(Method):
    """A method that scores layers. Depth pruning removes the lowest, unless the method overrides ``select``."""

    mechanisms = ("depth",)
    Options = CalibratedOptions
    parts: ClassVar[tuple[str, ...]] = ("layer", "attention", "mlp")

    @abstractmethod
    def layer_scores(self, stream: LayerStream) -> list[float]:
        """One score for each layer; higher is more important."""

    def layer_entries(self, stream: LayerStream) -> list[dict[str, Any]]:
        """Entries of the scores file: ``index`` and ``score`` of each layer, and further values for ``select``."""
        return [{"index": index, "score": score} for index, score in enumerate(self.layer_scores(stream))]

    def select(self, layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
        """Indices of the layers to remove: the lowest scores, of equals the later layer.

        Args:
            layers: entries of the removable layers, ascending.
            count: number of layers to remove, at most ``len(layers)``.

        Raises:
            PlanError: if the method ranked fewer than ``count`` layers.
        """
        return lowest_layers(layers, count)

    def problems_with(self, entry: Mapping[str, Any], num_layers: int) -> list[str]:
        """What is wrong with a layer's entry, as read from a file, for ``select`` and ``notes``."""
        return []

    def notes(self, removed: Sequence[Mapping[str, Any]]) -> list[str]:
        """Notes for the variant's record about the removal of these layers, given as entries."""
        return []

    def check_count(self, num_layers: int, count: int) -> None:
        """Raise PlanError if the scores of a model of ``num_layers`` layers cannot select ``count`` layers."""

    def naive_evaluations(self, num_layers: int) -> int:
        """Layer evaluations, each of all samples, without sharing between scores."""
        return num_layers


def lowest_layers(layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Indices of the ``count`` entries with the lowest scores, lowest first, of equals the later first."""
    lowest = sorted(layers, key=lambda entry: (entry["score"], -entry["index"]))
    return [entry["index"] for entry in lowest[:count]]


class LayerMeasure(Method):
    """A measure of layers for an allocation, computed from their weights. Measures prune nothing themselves and are not
    registered."""

    paper = ""
    mechanisms = ()
    evidence: ClassVar[Literal["none", "input_norm"]] = "none"
    """Kind of evidence that the measure uses besides the weights."""

    @abstractmethod
    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        """One number for a layer.

        Args:
            linears: (weight float [out_features, in_features], evidence) of each linear layer, in the dense model.
        """


class RotationMethod(Method):
    """A method that chooses a basis of the residual stream at each position. Slicing keeps the first directions."""

    mechanisms = ("slice",)

    @abstractmethod
    def basis(self, moments: torch.Tensor) -> torch.Tensor:
        """Directions as orthonormal columns, most important first.

        Args:
            moments: float64 [hidden, hidden], sum of x·xᵀ over calibration tokens.

        Returns:
            float64 [hidden, hidden].
        """

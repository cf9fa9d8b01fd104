"""What a method is. Everything it shares with others (groups, allocation, masks, surgery) lives in its mechanism."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from llm_pruner.system.options import Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence
    from llm_pruner.scoring.stream import LayerStream


class MethodOptions(Options):
    """Options of a method."""


class CalibratedOptions(MethodOptions):
    """Options of a method that looks at calibration samples."""

    samples: PositiveInt | None = None
    """Use the first n calibration samples; all of them by default."""


class SeededOptions(MethodOptions):
    """Options of a method that draws at random."""

    seed: NonNegativeInt = 0
    """Decides what is drawn."""


class Method(ABC):
    """A pruning method, made from its options. Importing its module must not import torch."""

    name: ClassVar[str]
    """As written in configurations and folder names."""
    title: ClassVar[str]
    """One line for people."""
    paper: ClassVar[str]
    """Where it comes from."""
    mechanisms: ClassVar[tuple[str, ...]]
    """Mechanisms it can drive: ``dense``, ``width``, ``depth``, ``sparse``, ``slice``."""
    parts: ClassVar[tuple[str, ...]] = ()
    """What of a layer its depth scores can be of: the ``layer``, its ``attention`` or its ``mlp`` block."""
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    defaults: ClassVar[dict[str, Any]] = {}
    """Options of its mechanism that it sets unless a variant says otherwise, such as ``allocation``."""
    scores_of: ClassVar[str | None] = None
    """The registered method whose scores it plans from, if not its own; they are then computed once for both."""

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    @property
    def calibrated(self) -> bool:
        """Whether it looks at calibration samples."""
        return isinstance(self.options, CalibratedOptions)

    def first_samples(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The calibration samples this method uses: int64 [samples, length]."""
        if isinstance(self.options, CalibratedOptions) and self.options.samples:
            return input_ids[: self.options.samples]
        return input_ids


class LinearMethod(Method):
    """Zeroes single weights, one linear layer at a time."""

    evidence: Literal["none", "input_norm", "moments", "gradient", "curvature"] = "none"
    """What it looks at besides the weight."""
    inputs: Literal["none", "input_norm", "moments"] = "none"
    """What of inputs it looks at beside gradients; sparsity gathers it, width does not."""
    checkpointing: bool = True
    """Whether activations are computed again on the way back of gradients, rather than held."""

    @abstractmethod
    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        """Which weights of a linear layer go, and what the others become.

        Args:
            weight: [out_features, in_features]; is left as it is.
            evidence: of the kind it asks for.
            pattern: how many go.

        Returns:
            bool [out_features, in_features], True where a weight goes; and the weight, whose values there do not
            matter. ``weight`` itself if none of the others changes.
        """


class SaliencyMethod(LinearMethod):
    """Scores single weights. Width pruning sums them over groups, sparsity ranks them one by one."""

    comparison: Literal["matrix", "row"] = "matrix"
    """Weights that unstructured sparsity ranks against each other: the whole matrix, or each output row."""

    @abstractmethod
    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Saliency of every weight, [out_features, in_features], higher is more important."""

    def summed(self, weight: torch.Tensor, evidence: Evidence, dim: int) -> torch.Tensor:
        """Saliency of whole rows (``dim`` 1) or columns (``dim`` 0): of what width pruning cuts."""
        return self.saliency(weight, evidence).sum(dim=dim)

    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        return pattern.mask(self.saliency(weight, evidence), self.comparison), weight


class WeightSolver(LinearMethod):
    """Chooses the mask of a linear layer and the weights that stay together, by what they do to its output."""

    mechanisms = ("sparse",)
    Options = CalibratedOptions
    evidence = "moments"


class ColumnMethod(Method):
    """Scores what width pruning cuts by the columns that feed it back into the residual stream.

    These are the columns of the output projection of attention, those of a key-value group together, and of the MLP's
    down projection, one for each channel.
    """

    mechanisms = ("width",)
    evidence: Literal["none", "input_norm", "features", "moments"] = "none"
    """What it looks at besides the weight."""

    @abstractmethod
    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        """Score of every unit, [in_features / unit_size], higher is more important.

        Args:
            weight: [out_features, in_features]
            evidence: about its linear layer.
            unit_size: consecutive columns that go together.
        """


class LayerScoreMethod(Method):
    """Scores whole layers; depth pruning removes the lowest, unless a method selects in another way."""

    mechanisms = ("depth",)
    Options = CalibratedOptions
    parts: ClassVar[tuple[str, ...]] = ("layer", "attention", "mlp")

    @abstractmethod
    def layer_scores(self, stream: LayerStream) -> list[float]:
        """One score a layer, higher is more important."""

    def layer_entries(self, stream: LayerStream) -> list[dict[str, Any]]:
        """What is kept of each layer: its ``index``, its ``score``, and what else ``select`` goes by."""
        return [{"index": index, "score": score} for index, score in enumerate(self.layer_scores(stream))]

    def select(self, layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
        """Indices of the layers that go: those with the lowest scores, of equals the later.

        Args:
            layers: entries of the layers that may go, ascending.
            count: how many, at most as many as there are.

        Raises:
            PlanError: if fewer layers are ranked than asked for.
        """
        return lowest_layers(layers, count)

    def notes(self, removed: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a reader of the results should know about the removal of these layers, given their entries."""
        return []

    def check_count(self, num_layers: int, count: int) -> None:
        """Raise PlanError if the scores of a model of ``num_layers`` will not say which ``count`` layers go."""

    def naive_evaluations(self, num_layers: int) -> int:
        """Layer evaluations, each of all samples, that the method would take without sharing any between scores."""
        return num_layers


def lowest_layers(layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Indices of so many entries, those with the lowest scores first, of equals the later."""
    lowest = sorted(layers, key=lambda entry: (entry["score"], -entry["index"]))
    return [entry["index"] for entry in lowest[:count]]


class LayerMeasure(Method):
    """Measures layers for an allocation, by their weights; drives no mechanism itself and is not registered."""

    paper = ""
    mechanisms = ()
    evidence: ClassVar[Literal["none", "input_norm"]] = "none"
    """What it looks at besides the weights."""

    @abstractmethod
    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        """One number for a layer.

        Args:
            linears: (weight [out_features, in_features], evidence) of each of its linear layers, of the dense model.
        """


class RotationMethod(Method):
    """Gives the residual stream a basis at each position, of which slicing keeps the first directions."""

    mechanisms = ("slice",)

    @abstractmethod
    def basis(self, moments: torch.Tensor) -> torch.Tensor:
        """Directions as orthonormal columns, what matters most first.

        Args:
            moments: float64 [hidden, hidden], the sum over calibration tokens of x·xᵀ.

        Returns:
            float64 [hidden, hidden].
        """

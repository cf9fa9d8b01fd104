"""The base of refinements, which exchange zeros and kept weights of a finished mask. Values of weights stay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from llm_pruner.system.options import Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence


class Refinement(ABC):
    """A refinement, made from its options. Importing its module must not import torch."""

    title: ClassVar[str]
    """A short description for people."""
    paper: ClassVar[str] = ""
    """The refinement's source; empty without a publication."""
    mechanisms: ClassVar[tuple[str, ...]] = ("sparse",)
    """Mechanisms that the refinement works for."""
    Options: ClassVar[type[Options]] = Options

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    @abstractmethod
    def refine(self, mask: torch.Tensor, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> torch.Tensor:
        """A better mask with the same number of zeros in every row: bool [out_features, in_features].

        Args:
            mask: True for zeros, bool [out_features, in_features]. Do not change it.
            weight: the original weight, [out_features, in_features]. Do not change it.
            evidence: statistics of the inputs, with ``moments`` and ``input_norm``.
            pattern: pattern of the mask, which the better mask follows too.
        """

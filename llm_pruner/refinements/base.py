"""What a refinement is: weights of a finished mask change places, and no weight changes its value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from llm_pruner.system.options import Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence


class Refinement(ABC):
    """Exchanges weights that go for weights that stay, made from its options. Importing its module imports no torch."""

    title: ClassVar[str]
    """One line for people."""
    paper: ClassVar[str] = ""
    """Where it comes from."""
    mechanisms: ClassVar[tuple[str, ...]] = ("sparse",)
    """Mechanisms whose masks it has a meaning for."""
    Options: ClassVar[type[Options]] = Options

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    @abstractmethod
    def refine(self, mask: torch.Tensor, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> torch.Tensor:
        """A better mask, with as many zeros in every row.

        Args:
            mask: bool [out_features, in_features], True where a weight goes; is left as it is.
            weight: [out_features, in_features]; is left as it is.
            evidence: with ``moments`` and ``input_norm``.
            pattern: which the mask follows, and the better one too.
        """

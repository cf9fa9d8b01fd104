from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from llm_pruner.methods.base import SaliencyMethod, SeededOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class Random(SaliencyMethod):
    """Uniform random scores, as a control for every other method. Needs no data."""

    name = "Random"
    title = "Random choice, as a control"
    paper = ""
    mechanisms = ("width", "sparse")
    Options = SeededOptions

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        import torch

        assert isinstance(self.options, SeededOptions)
        place = f"{self.options.seed}/{evidence.layer}/{evidence.linear}"
        generator = torch.Generator().manual_seed(zlib.crc32(place.encode()))
        return torch.rand(weight.shape, generator=generator).to(weight.device)

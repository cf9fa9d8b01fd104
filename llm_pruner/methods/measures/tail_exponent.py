from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from llm_pruner.methods.base import LayerMeasure, MethodOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence

BINS = 100
"""Of the histogram of the logarithms of eigenvalues."""


class TailOptions(MethodOptions):
    tail: Literal["peak", "median"] = "peak"
    """Where the tail of the eigenvalues begins: around the ``peak`` of their histogram, where the fit is best, or at
    their ``median``."""


class TailExponent(LayerMeasure):
    """Mean over a layer's linear layers of the exponent α of the power law that the large eigenvalues of WᵀW follow.

    Hill's estimator, α = 1 + n / Σ ln(λ / λ_min) over the n eigenvalues from λ_min on. Needs no data.
    """

    name = "TailExponent"
    title = "Exponent of the spectral tail"
    Options = TailOptions
    options: TailOptions

    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        return fmean(self.exponent(weight) for weight, _ in linears)

    def exponent(self, weight: torch.Tensor) -> float:
        """α of one weight, [out_features, in_features]."""
        import torch

        eigenvalues = torch.linalg.svdvals(weight.float()).square().sort().values
        logs = eigenvalues.log()
        counts = torch.arange(len(logs), 0, -1, device=logs.device)
        # of each possible beginning: the sum of ln(λ / λ_min) from there to the end
        sums = logs.flip(0).cumsum(0).flip(0) - counts * logs
        exponents = 1 + counts / sums
        if self.options.tail == "median":
            return exponents[len(logs) // 2].item()
        return exponents[self._best_beginning(eigenvalues, exponents)].item()

    def _best_beginning(self, eigenvalues: torch.Tensor, exponents: torch.Tensor) -> int:
        """Of the beginnings around the peak of the histogram, that whose power law is nearest to the eigenvalues in
        the distance of Kolmogorov and Smirnov."""
        import torch

        logs = eigenvalues.log10()
        low, high = logs.min().item(), logs.max().item()
        peak = torch.histc(logs, BINS, min=low, max=high).argmax()
        middle = 10 ** torch.linspace(low, high, BINS + 1)[peak]
        # the lower bound is a logarithm, as in the published code: it holds for all eigenvalues below 1 or so
        inside = (eigenvalues >= torch.log10(0.95 * middle)) & (eigenvalues <= 1.5 * middle)
        distances = torch.ones(len(eigenvalues) - 1)
        for start in inside[:-1].nonzero().flatten().tolist():
            exponent, count = exponents[start], len(eigenvalues) - start
            if exponent > 1:
                law = 1 - (eigenvalues[start:] / eigenvalues[start]) ** (1 - exponent)
                distances[start] = (law - torch.arange(count, device=law.device) / count).abs().max()
        return int(distances.argmin())

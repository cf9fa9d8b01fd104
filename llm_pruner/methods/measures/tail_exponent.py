from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from llm_pruner.methods.base import LayerMeasure, MethodOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence

BINS = 100
"""Bins of the histogram of the eigenvalues' logarithms."""


class TailOptions(MethodOptions):
    """Options of the tail exponent."""

    tail: Literal["peak", "median"] = "peak"
    """First eigenvalue of the tail: the best fit near the ``peak`` of the histogram, or the ``median``."""


class TailExponent(LayerMeasure):
    """Exponent α of a power law for the large eigenvalues of WᵀW, mean over a layer's linear layers.

    Hill's estimator is α = 1 + n / Σ ln(λ / λ_min), over the n eigenvalues from λ_min on. Needs no data.
    """

    name = "TailExponent"
    title = "Exponent of the spectral tail"
    Options = TailOptions
    options: TailOptions

    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        return fmean(self.exponent(weight) for weight, _ in linears)

    def exponent(self, weight: torch.Tensor) -> float:
        """α of one weight, float [out_features, in_features]."""
        import torch

        eigenvalues = torch.linalg.svdvals(weight.float()).square().sort().values
        logs = eigenvalues.log()
        counts = torch.arange(len(logs), 0, -1, device=logs.device)
        # for each possible λ_min: the sum of ln(λ / λ_min) over the eigenvalues from λ_min on
        sums = logs.flip(0).cumsum(0).flip(0) - counts * logs
        exponents = 1 + counts / sums
        if self.options.tail == "median":
            return exponents[len(logs) // 2].item()
        return exponents[self._best_beginning(eigenvalues, exponents)].item()

    def _best_beginning(self, eigenvalues: torch.Tensor, exponents: torch.Tensor) -> int:
        """Index of the λ_min near the peak of the histogram whose power law has the smallest Kolmogorov–Smirnov
        distance to the eigenvalues."""
        import torch

        logs = eigenvalues.log10()
        low, high = logs.min().item(), logs.max().item()
        peak = torch.histc(logs, BINS, min=low, max=high).argmax()
        middle = 10 ** torch.linspace(low, high, BINS + 1)[peak]
        # the lower bound is a logarithm, as in the published code, so it has no effect if the peak is below 1
        inside = (eigenvalues >= torch.log10(0.95 * middle)) & (eigenvalues <= 1.5 * middle)
        distances = torch.ones(len(eigenvalues) - 1)
        for start in inside[:-1].nonzero().flatten().tolist():
            exponent, count = exponents[start], len(eigenvalues) - start
            if exponent > 1:
                law = 1 - (eigenvalues[start:] / eigenvalues[start]) ** (1 - exponent)
                distances[start] = (law - torch.arange(count, device=law.device) / count).abs().max()
        return int(distances.argmin())

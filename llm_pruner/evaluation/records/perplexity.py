"""The result file of perplexity and divergence."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

from pydantic import model_validator

from llm_pruner.system.records import Part, Record, RunRecord


class Windows(NamedTuple):
    """Text and windows of a measurement. Two models with equal ``Windows`` can be compared window by window."""

    dataset: str | None
    split: str | None
    window: int
    stride: int
    windows: int
    tokens: int


class WindowLosses(Part):
    """Losses over windows of a text."""

    window: int
    """Tokens that the model sees at once."""
    stride: int
    """Tokens from one window to the next."""
    windows: int
    """Number of windows."""
    tokens: int
    """Number of scored tokens."""
    nll: float
    """Mean negative log-likelihood, in nats per token."""
    perplexity: float
    """Exponential of ``nll``."""
    window_nll: tuple[float, ...] | None = None
    """Mean negative log-likelihood of each window, to compare two models window by window."""

    @model_validator(mode="after")
    def _has_a_mean_for_each_window(self) -> Self:
        if self.window_nll is not None and len(self.window_nll) != self.windows:
            raise ValueError(f"window_nll: {len(self.window_nll)} means, but windows is {self.windows}")
        return self


class TextSource(Part):
    """Model and text of a measurement."""

    model: str
    """Name of the model."""
    dataset: str | None
    """Source of the text; null if the token file does not name its source."""
    split: str | None
    """Split of the source."""


class PredictedText(Part):
    """Reference, text and windows of predictions."""

    weights: str
    """Digest of the reference's weights."""
    tokens: str
    """Digest of the token file."""
    window: int
    """Tokens that the model sees at once."""
    stride: int
    """Tokens from one window to the next."""
    max_windows: int | None
    """Largest number of windows; null for the whole text."""
    vocabulary: int
    """Size of the vocabulary that the reference predicts."""


class DivergenceResult(Part):
    """Divergence of predictions from a reference's on the same tokens: KL(reference ‖ model), in nats per token.

    Standard errors take tokens as independent; they are null for a single token.
    """

    mean_kl: float
    """Mean divergence; a lower bound of the exact mean if ``top`` is less than the vocabulary."""
    mean_kl_stderr: float | None
    """Standard error of ``mean_kl``."""
    median_kl: float
    """Median divergence over tokens."""
    p99_kl: float
    """99th percentile of the divergence over tokens."""
    same_top: float
    """Share of tokens for which model and reference have the same likeliest next token."""
    same_top_stderr: float | None
    """Standard error of ``same_top``."""
    top: int
    """Number of likeliest next tokens compared one by one; all other tokens form one bucket."""
    window_kl: tuple[float, ...]
    """Mean divergence of each window."""
    reference: PredictedText
    """The reference, its text and its windows."""


class PerplexityResult(WindowLosses, TextSource, Record):
    """Perplexity of a model on a text, and the divergence from a reference."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/perplexity.json"

    bits_per_byte: float | None
    """Bits per byte of the text; null if the number of bytes is unknown."""
    divergence: DivergenceResult | None = None
    """Divergence from a reference; absent without a reference."""
    run: RunRecord
    """The job of the measurement."""

    @property
    def text(self) -> Windows:
        """Text and windows of the measurement."""
        return Windows(self.dataset, self.split, self.window, self.stride, self.windows, self.tokens)

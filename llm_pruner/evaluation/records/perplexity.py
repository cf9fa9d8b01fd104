"""How well a model predicts a text, as a file."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from llm_pruner.system.records import Part, Record, RunRecord


class Windows(NamedTuple):
    """What was measured on: two models are compared window by window where it is the same."""

    dataset: str | None
    split: str | None
    window: int
    stride: int
    windows: int
    tokens: int


class WindowLosses(Part):
    """Losses over windows of a text."""

    window: int
    """Tokens the model sees at once."""
    stride: int
    """Tokens from one window to the next."""
    windows: int
    """How many."""
    tokens: int
    """Predicted."""
    nll: float
    """Mean negative log-likelihood, in nats per token."""
    perplexity: float
    """Its exponential."""
    window_nll: tuple[float, ...] | None = None
    """The mean of each window, by which two models are compared window by window."""


class TextSource(Part):
    """Which model was measured, and on what."""

    model: str
    """Name of the model."""
    dataset: str | None
    """Where the text is from; null for a token file that does not say."""
    split: str | None
    """Of the source."""


class PredictedText(Part):
    """What a reference's predictions rest on."""

    weights: str
    """Digest of the reference's weights."""
    tokens: str
    """Digest of the token file."""
    window: int
    """Tokens the model sees at once."""
    stride: int
    """Tokens from one window to the next."""
    max_windows: int | None
    """Where it stops; null for the whole text."""
    vocabulary: int
    """Tokens that can come next."""


class DivergenceResult(Part):
    """How far predictions are from a reference's on the same tokens: KL(reference ‖ model), in nats per token.

    Standard errors are over tokens taken as independent; null for a single one.
    """

    mean_kl: float
    """Mean divergence; a lower bound of the exact one where ``top`` is less than the vocabulary."""
    mean_kl_stderr: float | None
    """Its standard error."""
    median_kl: float
    """Half of the tokens have less."""
    p99_kl: float
    """99 of 100 tokens have less."""
    same_top: float
    """Share of tokens where both hold the same next one likeliest."""
    same_top_stderr: float | None
    """Its standard error."""
    top: int
    """Likeliest next tokens compared one by one; the rest is one bucket."""
    window_kl: tuple[float, ...]
    """The mean of each window."""
    reference: PredictedText
    """What the reference's predictions rest on."""


class PerplexityResult(WindowLosses, TextSource, Record):
    """How well a model predicts a text."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/perplexity.json"

    bits_per_byte: float | None
    """Of the text; null where its bytes are not known."""
    divergence: DivergenceResult | None = None
    """From a reference's predictions; lacking where there was none."""
    run: RunRecord
    """The job that measured."""

    @property
    def text(self) -> Windows:
        """What was measured on."""
        return Windows(self.dataset, self.split, self.window, self.stride, self.windows, self.tokens)

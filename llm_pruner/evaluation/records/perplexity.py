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


class PerplexityResult(WindowLosses, TextSource, Record):
    """How well a model predicts a text."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/perplexity.json"

    bits_per_byte: float | None
    """Of the text; null where its bytes are not known."""
    run: RunRecord
    """The job that measured."""

    @property
    def text(self) -> Windows:
        """What was measured on."""
        return Windows(self.dataset, self.split, self.window, self.stride, self.windows, self.tokens)

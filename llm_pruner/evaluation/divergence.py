"""Divergence of a model's predictions from a reference's on the same tokens, measured in the pass for perplexity.

The measures are those of llama.cpp's ``perplexity --kl-divergence``: mean of the Kullback-Leibler divergence
KL(reference ‖ model) over tokens with its standard error, median, 99th percentile, and share of tokens with the same
likeliest next token. This module differs in two points. llama.cpp keeps the reference's log-probabilities of the whole
vocabulary in 16 bits; this module keeps the likeliest ``TOP`` exactly and puts the rest into one bucket, so a
divergence is a lower bound of the exact divergence, and equal to it for a vocabulary of at most ``TOP`` tokens.
llama.cpp scores the second half of each window; this module scores the same tokens as perplexity.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.evaluation.records.perplexity import DivergenceResult, PredictedText
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.models.headers import read_headers
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.errors import CheckpointError, DataError
from llm_pruner.system.files import staged_file
from llm_pruner.system.provenance import sha256

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOP = 1024
"""Number of next tokens whose log-probabilities are kept for each scored token."""

_RESOLUTION = 2**-24
"""Spacing of float32 just below 1. A smaller probability of the bucket is rounding."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a reference at every scored token of a text."""

    ids: torch.Tensor
    """Likeliest next tokens, likeliest first: int32 [tokens, top]."""
    log_probs: torch.Tensor
    """Log-probabilities of these tokens: float32 [tokens, top]."""
    text: PredictedText
    """The reference, the text and its windows."""

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the predictions as a safetensors file, with ``text`` in the header."""
        from safetensors.torch import save_file

        tensors = {"ids": self.ids, "log_probs": self.log_probs}
        with staged_file(path) as staged:
            save_file(tensors, staged, metadata={"text": self.text.model_dump_json()})

    @classmethod
    def read(cls, path: str | os.PathLike[str], **expected: Any) -> Self:
        """Read a file of ``write``.

        Args:
            path: the safetensors file.
            expected: values that fields of ``text`` must have.

        Raises:
            DataError: if the file is missing or damaged, or has other values.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).exists():
            raise DataError(f"{path}: no such file of predictions")
        try:
            with safe_open(path, framework="pt") as file:
                text = PredictedText.model_validate_json((file.metadata() or {}).get("text", ""))
                found = cls(file.get_tensor("ids"), file.get_tensor("log_probs"), text)
        except (SafetensorError, ValidationError) as error:
            raise DataError(
                f"{path}: not a file of predictions, or damaged ({error}); delete it and run again"
            ) from None
        for key, value in expected.items():
            if getattr(text, key) != value:
                raise DataError(
                    f"{path}: made with {key} {getattr(text, key)}, but {value} is needed; delete it and run again"
                )
        return found


class Divergence:
    """Compares a model with a reference's predictions. Pass ``add`` as ``observe`` to ``perplexity``."""

    def __init__(self, reference: Predictions) -> None:
        self._reference = reference
        self._seen = 0
        self._kl: list[torch.Tensor] = []
        self._same: list[torch.Tensor] = []

    def add(self, logits: torch.Tensor, normaliser: torch.Tensor) -> None:
        """Add the next window.

        Args:
            logits: the model's logits at the scored tokens, float [scored, vocabulary].
            normaliser: logarithm of the sum of exponentials of these logits, float [scored].

        Raises:
            DataError: if the vocabularies of model and reference differ in size.
        """
        import torch

        known, vocabulary = self._reference, self._reference.text.vocabulary
        if logits.shape[1] != vocabulary:
            raise DataError(
                f"the model predicts {logits.shape[1]:,} tokens and the reference {vocabulary:,}; "
                "compare models with the same tokenizer"
            )
        rows = slice(self._seen, self._seen + len(logits))
        self._seen = rows.stop
        ids = known.ids[rows].to(logits.device, torch.int64)
        theirs = known.log_probs[rows].to(logits.device).double()
        found = logits.gather(1, ids)
        own = (found - normaliser[:, None]).double()
        shares = theirs.exp()
        # a token of probability zero adds nothing, although its log-probability is infinite
        kl = torch.where(shares > 0, shares * (theirs - own), 0).sum(1)
        if ids.shape[1] < vocabulary:
            rest, own_rest = ((1 - mass.sum(1)).clamp(min=_RESOLUTION) for mass in (shares, own.exp()))
            kl += rest * (rest / own_rest).log()
        self._kl.append(kl)
        # compare values, because several tokens can be equally likely
        self._same.append(found[:, 0] == logits.amax(1))

    def result(self) -> DivergenceResult:
        """The measures over all added windows.

        Raises:
            CheckpointError: if a divergence is not finite.
        """
        import torch

        kl, same = torch.cat(self._kl), torch.cat(self._same).double()
        if not kl.isfinite().all():
            raise CheckpointError("the divergence is not finite; the model excludes tokens that the reference predicts")
        share, count = same.mean().item(), len(kl)
        middle, high = kl.quantile(torch.tensor([0.5, 0.99], dtype=kl.dtype, device=kl.device)).tolist()
        return DivergenceResult(
            mean_kl=kl.mean().item(),
            mean_kl_stderr=kl.std().item() / count**0.5 if count > 1 else None,
            median_kl=middle,
            p99_kl=high,
            same_top=share,
            same_top_stderr=(share * (1 - share) / (count - 1)) ** 0.5 if count > 1 else None,
            top=self._reference.ids.shape[1],
            window_kl=tuple(window.mean().item() for window in self._kl),
            reference=self._reference.text,
        )


def write_predictions(
    folder: Path,
    tokens: Path,
    output: Path,
    *,
    options: Mapping[str, Any],
    device: str = "auto",
    spread: bool = False,
    progress: bool = False,
) -> None:
    """Write a model's predictions on a token file, as the reference for other models.

    Args:
        folder: folder of the reference model.
        tokens: the token file.
        output: the safetensors file to write.
        options: options of ``perplexity``. Measure the models to compare with the same options.
        device: device of the model.
        spread: spread the model over all GPUs; ``device`` is then ignored.
        progress: show a progress bar on stderr.
    """
    device = pick_device(device)
    limit_threads()
    model = load(folder, device=device, device_map="auto" if spread else None)
    predict(model, folder, tokens, options, progress=progress).write(output)


def predict(
    model: PreTrainedModel, folder: Path, tokens: Path, options: Mapping[str, Any], *, progress: bool = False
) -> Predictions:
    """Predictions of a loaded model on a token file.

    Args:
        model: a loaded causal language model.
        folder: folder of the model, for the digest of its weights.
        tokens: the token file.
        options: options of ``perplexity``.
        progress: show a progress bar on stderr.
    """
    recorder = _Recorder(TOP)
    perplexity(model, read_tokens(tokens, model.config.vocab_size), progress=progress, observe=recorder.add, **options)
    return recorder.predictions(weights=_weights_digest(folder), **text_facts(tokens, options))


def check_tokenizers(folder: Path, reference: Path) -> None:
    """Check that two model folders have the same vocabulary, so that a token id means the same word.

    Raises:
        DataError: if the vocabularies differ.
    """
    own, other = (load_tokenizer(model).get_vocab() for model in (folder, reference))
    if own != other:
        raise DataError(
            f"{folder} and {reference} have different tokenizers ({len(own):,} and {len(other):,} tokens); "
            "compare models with the same tokenizer"
        )


def text_facts(tokens: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that two comparable results share: digest of the token file, and its cut into windows.

    Args:
        tokens: the token file.
        options: options of ``perplexity``.
    """
    window = options["window"]
    cut = {"window": window, "stride": options.get("stride") or window, "max_windows": options.get("max_windows")}
    return {"tokens": sha256(tokens), **cut}


def _weights_digest(folder: Path) -> str:
    files = sorted({entry.file for entry in read_headers(folder).values()})
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


class _Recorder:
    """Collects a model's predictions. Pass ``add`` as ``observe`` to ``perplexity``."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._ids: list[torch.Tensor] = []
        self._log_probs: list[torch.Tensor] = []
        self._vocabulary = 0

    def add(self, logits: torch.Tensor, normaliser: torch.Tensor) -> None:
        """Add the next window; arguments as for ``Divergence.add``."""
        import torch

        self._vocabulary = logits.shape[1]
        best = logits.topk(min(self._top, self._vocabulary))
        self._ids.append(best.indices.to("cpu", torch.int32))
        self._log_probs.append((best.values - normaliser[:, None]).cpu())

    def predictions(self, **rests_on: Any) -> Predictions:
        """All added predictions. Pass the fields of ``PredictedText`` except the vocabulary."""
        import torch

        text = PredictedText(vocabulary=self._vocabulary, **rests_on)
        return Predictions(torch.cat(self._ids), torch.cat(self._log_probs), text)

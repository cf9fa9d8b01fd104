"""How far a model's predictions are from a reference's on the same tokens, found in the pass that measures perplexity.

The measures are those of llama.cpp's ``perplexity --kl-divergence``: mean of the Kullback-Leibler divergence
KL(reference ‖ model) over tokens with its standard error, median, 99th percentile, and how often both predict the same
next token. Two things differ. llama.cpp keeps a reference's log-probabilities of the whole vocabulary in 16 bits; here
the likeliest ``TOP`` are kept exactly and the rest is one bucket, so that a divergence is a lower bound of the exact
one, and the exact one where the vocabulary is no larger. And llama.cpp scores the second half of each window; here
every token counts that counts for perplexity.
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
"""Next tokens whose log-probabilities are kept for each scored token."""

_RESOLUTION = 2**-24
"""Of float32 below 1: what is left of the bucket below it is rounding."""


@dataclass(frozen=True)
class Predictions:
    """What a reference predicts at every scored token of a text."""

    ids: torch.Tensor
    """Its likeliest next tokens, likeliest first: int32 [tokens, top]."""
    log_probs: torch.Tensor
    """Their log-probabilities: float32 [tokens, top]."""
    text: PredictedText
    """What it rests on."""

    def write(self, path: str | os.PathLike[str]) -> None:
        """Keep it as a safetensors file with what it rests on in its header."""
        from safetensors.torch import save_file

        tensors = {"ids": self.ids, "log_probs": self.log_probs}
        with staged_file(path) as staged:
            save_file(tensors, staged, metadata={"text": self.text.model_dump_json()})

    @classmethod
    def read(cls, path: str | os.PathLike[str], **expected: Any) -> Self:
        """Read what ``write`` kept.

        Args:
            expected: fields of ``text`` and their values.

        Raises:
            DataError: if the file is missing or damaged, or rests on something else.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).exists():
            raise DataError(f"{path}: no such file of predictions")
        try:
            with safe_open(path, framework="pt") as file:
                text = PredictedText.model_validate_json((file.metadata() or {}).get("text", ""))
                found = cls(file.get_tensor("ids"), file.get_tensor("log_probs"), text)
        except (SafetensorError, ValidationError) as error:
            raise DataError(f"{path}: no file of predictions, or damaged ({error}); delete it and run again") from None
        for key, value in expected.items():
            if getattr(text, key) != value:
                raise DataError(
                    f"{path}: made with {key} {getattr(text, key)}, and {value} is asked for; "
                    "delete it and run again to make it anew"
                )
        return found


class Divergence:
    """Compares a model with what a reference predicted; its ``add`` observes ``perplexity`` on the same tokens."""

    def __init__(self, reference: Predictions) -> None:
        self._reference = reference
        self._seen = 0
        self._kl: list[torch.Tensor] = []
        self._same: list[torch.Tensor] = []

    def add(self, logits: torch.Tensor, normaliser: torch.Tensor) -> None:
        """Add the next window: logits [scored, vocabulary], and the logarithm of their exponentials' sum [scored].

        Raises:
            DataError: if the model's vocabulary is not the reference's.
        """
        import torch

        known, vocabulary = self._reference, self._reference.text.vocabulary
        if logits.shape[1] != vocabulary:
            raise DataError(
                f"the model predicts {logits.shape[1]:,} tokens and the reference {vocabulary:,}; "
                "only models of one tokenizer can be compared"
            )
        rows = slice(self._seen, self._seen + len(logits))
        self._seen = rows.stop
        ids = known.ids[rows].to(logits.device, torch.int64)
        theirs = known.log_probs[rows].to(logits.device).double()
        found = logits.gather(1, ids)
        own = (found - normaliser[:, None]).double()
        shares = theirs.exp()
        # what a reference excludes counts nothing, though its logarithm is infinite
        kl = torch.where(shares > 0, shares * (theirs - own), 0).sum(1)
        if ids.shape[1] < vocabulary:
            rest, own_rest = ((1 - mass.sum(1)).clamp(min=_RESOLUTION) for mass in (shares, own.exp()))
            kl += rest * (rest / own_rest).log()
        self._kl.append(kl)
        # compared by value: of equally likely tokens none is the only first
        self._same.append(found[:, 0] == logits.amax(1))

    def result(self) -> DivergenceResult:
        """The measures over all windows added.

        Raises:
            CheckpointError: if a divergence is not finite.
        """
        import torch

        kl, same = torch.cat(self._kl), torch.cat(self._same).double()
        if not kl.isfinite().all():
            raise CheckpointError("the model gives no probability to what the reference holds possible")
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
    """Write what the model of a folder predicts on a token file, for other models to be compared with.

    Args:
        options: of ``perplexity``; the models that are compared must be measured with the same.
        spread: share the model out over all GPUs there are, ``device`` aside.
    """
    device = pick_device(device)
    limit_threads()
    model = load(folder, device=device, device_map="auto" if spread else None)
    predict(model, folder, tokens, options, progress=progress).write(output)


def predict(
    model: PreTrainedModel, folder: Path, tokens: Path, options: Mapping[str, Any], *, progress: bool = False
) -> Predictions:
    """What a loaded model predicts on a token file.

    Args:
        folder: the model's; its weights are named by their digest.
        options: of ``perplexity``.
    """
    recorder = _Recorder(TOP)
    perplexity(model, read_tokens(tokens), progress=progress, observe=recorder.add, **options)
    return recorder.predictions(weights=_weights_digest(folder), **text_facts(tokens, options))


def check_tokenizers(folder: Path, reference: Path) -> None:
    """Raise DataError if two model folders have not the same vocabulary: token ids would mean different words."""
    own, other = (load_tokenizer(model).get_vocab() for model in (folder, reference))
    if own != other:
        raise DataError(
            f"{folder} and {reference} have different tokenizers ({len(own):,} and {len(other):,} tokens); "
            "only models of one tokenizer can be compared"
        )


def text_facts(tokens: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What two models must share to be compared: the digest of the token file, and how it is cut into windows.

    Args:
        options: of ``perplexity``.
    """
    window = options["window"]
    cut = {"window": window, "stride": options.get("stride") or window, "max_windows": options.get("max_windows")}
    return {"tokens": sha256(tokens), **cut}


def _weights_digest(folder: Path) -> str:
    files = sorted({entry.file for entry in read_headers(folder).values()})
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


class _Recorder:
    """Keeps what a model predicts; its ``add`` observes ``perplexity``."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._ids: list[torch.Tensor] = []
        self._log_probs: list[torch.Tensor] = []
        self._vocabulary = 0

    def add(self, logits: torch.Tensor, normaliser: torch.Tensor) -> None:
        """Add one window: logits [scored, vocabulary], and the logarithm of their exponentials' sum [scored]."""
        import torch

        self._vocabulary = logits.shape[1]
        best = logits.topk(min(self._top, self._vocabulary))
        self._ids.append(best.indices.to("cpu", torch.int32))
        self._log_probs.append((best.values - normaliser[:, None]).cpu())

    def predictions(self, **rests_on: Any) -> Predictions:
        """All that was added, with the fields of ``PredictedText`` but the vocabulary."""
        import torch

        text = PredictedText(vocabulary=self._vocabulary, **rests_on)
        return Predictions(torch.cat(self._ids), torch.cat(self._log_probs), text)

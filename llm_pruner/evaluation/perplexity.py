"""Perplexity by the field's convention, in a record with all settings that affect the number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_pruner.evaluation.records.perplexity import WindowLosses
from llm_pruner.system.errors import CheckpointError, DataError
from llm_pruner.system.progress import track

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def perplexity(
    model: PreTrainedModel,
    stream: torch.Tensor,
    *,
    window: int,
    stride: int | None = None,
    max_windows: int | None = None,
    batch_size: int = 16,
    progress: bool = False,
    observe: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
) -> WindowLosses:
    """Perplexity: exponential of the token-weighted mean negative log-likelihood over windows of a text.

    Windows overlap only if ``stride`` is shorter than ``window``; each window then scores only the tokens that the
    window before it has not scored. As in papers, the first token of a window is not scored. An incomplete last window
    is dropped.

    Args:
        model: a causal language model.
        stream: token ids, int64 [1, tokens], or [samples, window] for ready-made windows.
        window: tokens that the model sees at once.
        stride: tokens from one window to the next; ``window`` by default.
        max_windows: largest number of windows; all by default.
        batch_size: windows to run at once.
        progress: show a progress bar on stderr.
        observe: called for every window, in order, with the logits at the scored tokens, float32
            [scored, vocabulary], and the logarithm of the sum of their exponentials, float32 [scored]. The function
            must not keep a reference to either tensor.

    Raises:
        DataError: if the text is shorter than one window.
        CheckpointError: if the model's output is not finite.
    """
    import torch

    stride = stride or window
    windows = _windows(stream, window, stride)[:max_windows]
    device = next(model.parameters()).device
    sums: list[torch.Tensor] = []
    counts: list[int] = []
    batches = track(windows.split(batch_size), "perplexity", "batch", show=progress)
    with torch.inference_mode():
        for batch in batches:
            ids = batch.to(device)
            logits = model(input_ids=ids, use_cache=False).logits
            # one window at a time with the vocabulary last needs no copy, and sums over a large vocabulary are fast
            # and exact
            for own, tokens in zip(logits, ids, strict=True):
                # overlapping windows skip the tokens that the window before has scored; the first window scores all
                first = max(0, window - stride - 1) if sums else 0
                predicting, following = own[first:-1].float(), tokens[first + 1 :]
                losses = torch.nn.functional.cross_entropy(predicting, following, reduction="none")
                sums.append(losses.double().sum())
                counts.append(len(losses))
                if observe:
                    observe(predicting, losses + predicting.gather(1, following[:, None])[:, 0])
    totals: list[float] = torch.stack(sums).tolist()
    scored = sum(counts)
    nll = sum(totals) / scored
    if not math.isfinite(nll):
        raise CheckpointError("the model's loss is not finite; the weights overflow in this dtype or are damaged")
    return WindowLosses(
        window=window,
        stride=stride,
        windows=len(windows),
        tokens=scored,
        nll=nll,
        perplexity=math.exp(nll),
        window_nll=tuple(total / count for total, count in zip(totals, counts, strict=True)),
    )


def _windows(stream: torch.Tensor, window: int, stride: int) -> torch.Tensor:
    if stream.shape[0] == 1 and stream.shape[1] >= window:
        return stream[0].unfold(0, window, stride)
    if stream.shape[1] == window:
        return stream
    raise DataError(
        f"evaluation tokens of shape {tuple(stream.shape)} do not make windows of {window} tokens; "
        "set perplexity.window to fit"
    )

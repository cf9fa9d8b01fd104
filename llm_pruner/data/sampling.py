"""Text to tokens, once in a run: samples for calibration and training, and the stream of tokens for perplexity."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.sources import SOURCES, TOKEN_SUFFIX, is_file, load_texts
from llm_pruner.data.tokens import check_vocabulary, digest, read_tokens, write_tokens
from llm_pruner.models.checkpoint import load_tokenizer
from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    import torch

_RUN = 16
"""Length of a run of tokens. Two samples that share a run of this length share text."""


@dataclass(frozen=True)
class SampleSpec:
    """A draw of samples."""

    source: str
    """The text, as for ``load_texts``; a token file is checked and used unchanged."""
    split: str | None
    """Split of a named source."""
    samples: int
    """Number of samples. A smaller draw is the beginning of a larger draw, so every consumer uses its first n."""
    length: int
    """Tokens in a sample."""
    seed: int
    """Seed of the draw."""
    skip: int = 0
    """Number of first samples to leave out, which another call draws."""


def draw_samples(
    spec: SampleSpec,
    model: Path,
    output: Path,
    *,
    held_out: Path | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Draw samples to calibrate or train on, without padding and without overlap, and write them as a token file.

    Args:
        model: folder whose tokenizer is used.
        held_out: token file. Samples that share a run of tokens with it are left out, for any source and length.
        trust_remote_code: let the tokenizer run code of its own.

    Raises:
        DataError: if the source has too little text, or a token file the wrong shape.
    """
    tokenizer = None if spec.source.endswith(TOKEN_SUFFIX) else load_tokenizer(model, trust_remote_code)
    exclude = read_tokens(held_out) if held_out else None
    tokens = draw_windows(spec, tokenizer, exclude)
    if tokenizer is None:
        check_vocabulary(tokens, model, spec.source)
    drawn = {"source": spec.source, "split": spec.split, "seed": spec.seed, "length": spec.length}
    facts = {**drawn, "sha256": digest(tokens)}
    write_tokens(output, tokens, facts)


def draw_windows(spec: SampleSpec, tokenizer: Any, exclude: torch.Tensor | None = None) -> torch.Tensor:
    """Draw samples in memory.

    Args:
        tokenizer: encodes the text; not used for a token file.
        exclude: int64 [samples, length]. Samples that share a run of 16 tokens with it are left out.

    Returns:
        int64 [samples, length].

    Raises:
        DataError: if the source has too little text, or a token file the wrong shape.
    """
    import torch

    source, split, length = spec.source, spec.split, spec.length
    wanted = spec.skip + spec.samples
    allowed = _apart_from(exclude)
    if source.endswith(TOKEN_SUFFIX):
        tokens = read_tokens(source)
        tokens = tokens[[allowed(row) for row in tokens.tolist()]]
        if tokens.shape[0] < wanted or tokens.shape[1] != length:
            raise DataError(
                f"{source}: holds {tokens.shape[0]} samples of {tokens.shape[1]} tokens, not {wanted} of {length}; "
                "set samples, length and held_out to match the file"
            )
        return tokens[spec.skip : wanted]
    texts = load_texts(source, split)
    generator = random.Random(spec.seed)
    if is_file(source) or SOURCES[source].joined:
        windows = cut_windows(tokenizer, texts, _separator(source), length)
        generator.shuffle(windows)
        windows = [window for window in windows if allowed(window)]
    else:
        windows = _single_documents(tokenizer, texts, length, wanted, generator, allowed)
    if len(windows) < wanted:
        raise DataError(
            f"{source}{f' ({split})' if split else ''}: has text for {len(windows)} samples of {length} tokens, "
            f"not {wanted}; ask for fewer or shorter samples"
        )
    return torch.tensor(windows[spec.skip : wanted], dtype=torch.int64)


def cut_windows(tokenizer: Any, texts: Sequence[str], separator: str, length: int) -> list[Sequence[int]]:
    """Join texts and cut them into windows without overlap. Last tokens that fill no window are left out."""
    ids = _encode(tokenizer, separator.join(texts))
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


def encode_evaluation(
    source: str, split: str | None, model: Path, output: Path, *, trust_remote_code: bool = False
) -> None:
    """Encode a whole evaluation text as one stream of tokens, int64 [1, tokens].

    The file also keeps the bytes per token, for bits per byte. A token file is checked and used unchanged.
    """
    import torch

    if source.endswith(TOKEN_SUFFIX):
        tokens = read_tokens(source)
        check_vocabulary(tokens, model, source)
        write_tokens(output, tokens, {"source": source, "split": None, "sha256": digest(tokens)})
        return
    text = _separator(source).join(load_texts(source, split))
    ids = _encode(load_tokenizer(model, trust_remote_code), text)
    facts = {"source": source, "split": split, "bytes_per_token": len(text.encode()) / len(ids)}
    tokens = torch.tensor([ids], dtype=torch.int64)
    write_tokens(output, tokens, {**facts, "sha256": digest(tokens)})


def _separator(source: str) -> str:
    return "\n\n" if is_file(source) else SOURCES[source].separator


def _encode(tokenizer: Any, text: str) -> list[int]:
    # not verbose: the text may be longer than the model's context here, and the tokenizer would warn
    return tokenizer(text, verbose=False)["input_ids"]


def _apart_from(tokens: torch.Tensor | None) -> Callable[[Sequence[int]], bool]:
    """A function that tells whether a sample shares no run of tokens with ``tokens``."""
    if tokens is None:
        return lambda _: True
    run = min(_RUN, tokens.shape[1])

    def runs(ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
        return (tuple(ids[start : start + run]) for start in range(len(ids) - run + 1))

    taken = {each for row in tokens.tolist() for each in runs(row)}
    return lambda ids: taken.isdisjoint(runs(ids))


def _single_documents(
    tokenizer: Any,
    texts: Sequence[str],
    length: int,
    samples: int,
    generator: random.Random,
    allowed: Callable[[Sequence[int]], bool],
) -> list[Sequence[int]]:
    """One window from each document that is long enough, in random order, until there are enough windows."""
    windows: list[Sequence[int]] = []
    for index in generator.sample(range(len(texts)), len(texts)):
        ids = _encode(tokenizer, texts[index])
        if len(ids) > length:
            start = generator.randrange(len(ids) - length)
            window = ids[start : start + length]
            if allowed(window):
                windows.append(window)
        if len(windows) == samples:
            break
    return windows

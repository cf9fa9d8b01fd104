"""Greedy continuations of a few prompts, to compare the texts of two models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_pruner.evaluation.records.continuations import Continuation, Continuations
from llm_pruner.system.errors import DataError
from llm_pruner.system.provenance import Run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PROMPTS = (
    "The old lighthouse keeper climbed the stairs, and at the top",
    "Water freezes at zero degrees Celsius and boils at",
    "To make a good cup of tea, first",
    "Dear neighbours,\n\nI am writing to tell you that",
    "def is_even(number):\n",
)
"""A story, a fact, instructions, a letter and code. No calibration or training uses these prompts."""


def measure_continuations(
    model: PreTrainedModel, tokenizer: Any, name: str, prompts: Sequence[str], new_tokens: int
) -> Continuations:
    """Continue all prompts in one batch and return the texts as a record.

    Args:
        model: a loaded causal language model.
        tokenizer: the model's tokenizer.
        name: name of the model in tables.
        prompts: texts to continue; may be empty.
        new_tokens: tokens of each continuation, at most half of the model's context.

    Raises:
        DataError: for an empty prompt.
    """
    new_tokens = min(new_tokens, model.config.max_position_embeddings // 2)
    run = Run({"prompts": list(prompts), "new_tokens": new_tokens}, device=str(model.device))
    texts = generate(model, tokenizer, prompts, max_new_tokens=new_tokens, batch_size=len(prompts)) if prompts else []
    written = tuple(Continuation(prompt=prompt, text=text) for prompt, text in zip(prompts, texts, strict=True))
    return Continuations(model=name, new_tokens=new_tokens, continuations=written, run=run.describe())


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int = 64, batch_size: int = 8
) -> list[str]:
    """Greedy continuations of prompts, without the prompts and without special tokens.

    Prompts are padded on the left. If prompt and new tokens exceed the model's context, the prompt loses its beginning.

    Args:
        model: a loaded causal language model.
        tokenizer: the model's tokenizer.
        prompts: texts to continue.
        max_new_tokens: largest number of tokens of each continuation.
        batch_size: prompts to run at once.

    Returns:
        One text for each prompt.

    Raises:
        DataError: for an empty prompt, or if the new tokens alone fill the context.
    """
    import torch
    from transformers import GenerationConfig

    room = model.config.max_position_embeddings - max_new_tokens
    if room < 1:
        raise DataError(f"max_new_tokens {max_new_tokens} leaves no room for a prompt in the model's context")
    padding = pad_id(tokenizer)
    ends = model.generation_config.eos_token_id if model.generation_config else None
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=padding,
        eos_token_id=ends or tokenizer.eos_token_id,
    )
    encoded = [tokenizer(prompt, verbose=False)["input_ids"][-room:] for prompt in prompts]
    if not all(encoded):
        raise DataError("a prompt is empty")
    texts: list[str] = []
    for start in range(0, len(encoded), batch_size):
        batch = encoded[start : start + batch_size]
        ids, mask = pad(batch, padding, left=True)
        with torch.inference_mode():
            output = model.generate(
                ids.to(model.device), attention_mask=mask.to(model.device), generation_config=settings
            )
        texts += tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
    return texts


def pad(rows: Sequence[Sequence[int]], padding: int, *, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids padded to one length, and their mask, 0 at the padding: both int64 [rows, longest]."""
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), padding)
    mask = torch.zeros_like(ids)
    for row, own in enumerate(rows):
        place = slice(longest - len(own), None) if left else slice(len(own))
        ids[row, place] = torch.tensor(own)
        mask[row, place] = 1
    return ids, mask


def pad_id(tokenizer: Any) -> int:
    """The id for padding. Masks hide padding, so any id works for a tokenizer without a padding token."""
    return next((own for own in (tokenizer.pad_token_id, tokenizer.eos_token_id) if own is not None), 0)

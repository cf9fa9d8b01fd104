"""What quick evaluations share: prompts, greedy generation in batches, and the evaluation of several models in turn."""

from __future__ import annotations

import copy
import math
import os
import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.system.device import pick_device
from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Item = Mapping[str, Any]
    Folder = str | os.PathLike[str]

_QUESTION = "Question:"
_ANSWER = "Answer:"
_NEW_TOKENS = 64


class QuickEvaluator(ABC):
    """Evaluates a model on items as from ``load_eval_dataset``.

    Args:
        model: a loaded model, or a model folder.
        tokenizer: the folder's own by default.
        device: where a model from a folder goes; a loaded one stays where it is.
        batch_size: prompts run at once.
        max_new_tokens: of each generation; 64 by default, or half of the model's context if that is less.

    Raises:
        DataError: if a loaded model comes without a tokenizer.
    """

    def __init__(
        self,
        model: Folder | PreTrainedModel,
        tokenizer: Any = None,
        device: str = "auto",
        batch_size: int = 8,
        max_new_tokens: int | None = None,
    ) -> None:
        self.device = pick_device(device)
        self.batch_size = batch_size
        if isinstance(model, str | os.PathLike):
            self.model, self.tokenizer = load(model, device=self.device), tokenizer or load_tokenizer(Path(model))
        elif tokenizer is None:
            raise DataError("a loaded model needs its tokenizer")
        else:
            self.model, self.tokenizer = model, tokenizer
        context = self.model.config.max_position_embeddings
        self.max_new_tokens = max_new_tokens or min(_NEW_TOKENS, context // 2)

    @abstractmethod
    def evaluate(self, items: Sequence[Item]) -> dict[str, Any]:
        """Results on these items, as plain values."""

    def compare(self, models: Mapping[str, Folder], items: Sequence[Item]) -> dict[str, dict[str, Any]]:
        """``evaluate`` of each model folder in turn, by name; one is loaded at a time besides the evaluator's own."""
        return {name: self._of(folder).evaluate(items) for name, folder in models.items()}

    def generations(self, items: Sequence[Item]) -> list[str]:
        """What the model answers to each item's question."""
        prompts = [format_prompt(item) for item in items]
        texts = generate(
            self.model, self.tokenizer, prompts, max_new_tokens=self.max_new_tokens, batch_size=self.batch_size
        )
        return [clean_output(text, prompt) for text, prompt in zip(texts, prompts, strict=True)]

    def _of(self, folder: Folder) -> QuickEvaluator:
        other = copy.copy(self)
        other.model, other.tokenizer = load(folder, device=self.device), load_tokenizer(Path(folder))
        return other


def format_prompt(item: Item) -> str:
    """The question, and a place for the answer, without the choices.

    >>> format_prompt({"question": "Who?"})
    'Question: Who?\\nAnswer:'
    """
    return f"{_QUESTION} {item['question']}\n{_ANSWER}"


def clean_output(text: str, prompt: str) -> str:
    """The answer in a generation: without the prompt, and without further questions that the model goes on to ask.

    >>> clean_output("Question: Who?\\nAnswer: Me.\\nQuestion: Why?", "Question: Who?\\nAnswer:")
    'Me.'
    """
    return text.removeprefix(prompt).partition(f"\n{_QUESTION}")[0].strip().removeprefix(_ANSWER).strip()


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int = 64, batch_size: int = 8
) -> list[str]:
    """Greedy continuations of prompts, without the prompts and without special tokens.

    Prompts are padded on the left, so that each generation follows its own; the beginning of one that does not fit
    the model's context beside the new tokens is cut off.

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
    """Rows of ids made equally long, and their mask, 1 at what was there: both int64 [rows, longest]."""
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
    """An id to pad with. Masks hide it, so any will do where the tokenizer names none."""
    return next((own for own in (tokenizer.pad_token_id, tokenizer.eos_token_id) if own is not None), 0)


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent values and its standard error; None of a single one.

    >>> mean_and_error([0.0, 1.0, 1.0, 0.0])[0]
    0.5
    """
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error


def count_parameters(model: Folder | PreTrainedModel) -> int:
    """Parameters of a loaded model or a model folder, tied ones once."""
    if isinstance(model, str | os.PathLike):
        return read_architecture(model).total_parameters
    return sum(parameter.numel() for parameter in model.parameters())


def get_device(request: str = "auto") -> str:
    """See ``llm_pruner.system.device.pick_device``."""
    return pick_device(request)

"""The base of quick evaluators: prompts, answers, and the evaluation of several models in turn."""

from __future__ import annotations

import copy
import math
import os
import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.evaluation.continuations import generate
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.system.device import pick_device
from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Item = Mapping[str, Any]
    Folder = str | os.PathLike[str]

_QUESTION = "Question:"
_ANSWER = "Answer:"
_NEW_TOKENS = 64


class QuickEvaluator(ABC):
    """Evaluates a model's answers to items of ``load_eval_dataset``.

    Args:
        model: a loaded model, or a model folder.
        tokenizer: the model's tokenizer; by default the folder's.
        device: device of models loaded from folders. A loaded model stays on its device.
        batch_size: prompts to run at once.
        max_new_tokens: largest number of tokens of each answer; by default 64, or half of a shorter context.

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
            raise DataError("a loaded model needs its tokenizer; pass tokenizer")
        else:
            self.model, self.tokenizer = model, tokenizer
        context = self.model.config.max_position_embeddings
        self.max_new_tokens = max_new_tokens or min(_NEW_TOKENS, context // 2)

    @abstractmethod
    def evaluate(self, items: Sequence[Item]) -> dict[str, Any]:
        """Results on the items, as plain values."""

    def compare(self, models: Mapping[str, Folder], items: Sequence[Item]) -> dict[str, dict[str, Any]]:
        """Results of ``evaluate`` by name, for each model folder in turn. The evaluator's own model stays loaded.

        Args:
            models: model folders by name.
            items: items to answer.
        """
        return {name: self._of(folder).evaluate(items) for name, folder in models.items()}

    def generations(self, items: Sequence[Item]) -> list[str]:
        """The model's answer to each item's question."""
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
    """The prompt of an item: the question and the beginning of an answer, without choices.

    >>> format_prompt({"question": "Who?"})
    'Question: Who?\\nAnswer:'
    """
    return f"{_QUESTION} {item['question']}\n{_ANSWER}"


def clean_output(text: str, prompt: str) -> str:
    """The answer in a generation, without the prompt and without further questions of the model.

    >>> clean_output("Question: Who?\\nAnswer: Me.\\nQuestion: Why?", "Question: Who?\\nAnswer:")
    'Me.'
    """
    return text.removeprefix(prompt).partition(f"\n{_QUESTION}")[0].strip().removeprefix(_ANSWER).strip()


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent values and its standard error, which is None for a single value.

    >>> mean_and_error([0.0, 1.0, 1.0, 0.0])[0]
    0.5
    """
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error


def count_parameters(model: Folder | PreTrainedModel) -> int:
    """Number of parameters of a loaded model or a model folder. Tied parameters count once."""
    if isinstance(model, str | os.PathLike):
        return read_architecture(model).total_parameters
    return sum(parameter.numel() for parameter in model.parameters())


def get_device(request: str = "auto") -> str:
    """The device of a request, as by ``llm_pruner.system.device.pick_device``."""
    return pick_device(request)

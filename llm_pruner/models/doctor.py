"""Checks that a model folder is complete and runs, each with its finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llm_pruner.models.architecture import check_finite, check_tied, read_architecture, read_config
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.models.headers import read_headers
from llm_pruner.models.layout import HEAD
from llm_pruner.models.shapes import check_stored
from llm_pruner.models.vocabulary import check_vocabulary_size
from llm_pruner.system.device import pick_device
from llm_pruner.system.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PROMPT, NEW_TOKENS = 16, 8
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest difference of logits computed in two ways, as a share of the largest logit."""


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    name: str
    outcome: Literal["ok", "failed", "skipped"]
    reason: str
    """The finding, the problem, or the failed check that makes this check pointless."""


def examine(folder: Path, *, device: str = "auto") -> list[Check]:
    """Run all checks of a model folder. A check is skipped if it needs another check that failed."""
    patient = _Patient(folder, pick_device(device))
    needs: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
        "config": (patient.config, ()),
        "weights": (patient.weights, ("config",)),
        "finite": (patient.finite, ("weights",)),
        "tied embeddings": (patient.tied, ("weights",)),
        "loads": (patient.loads, ("weights",)),
        "forward": (patient.forward, ("loads",)),
        "generation": (patient.generation, ("forward",)),
        "tokenizer": (patient.tokenizer, ("config",)),
    }
    checks: dict[str, Check] = {}
    for name, (look, before) in needs.items():
        missing = [other for other in before if checks[other].outcome != "ok"]
        checks[name] = Check(name, "skipped", f"needs {missing[0]}") if missing else _run(name, look)
    return list(checks.values())


def _run(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except Exception as error:  # a damaged folder may raise any error of a library, which is then the finding
        text = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
        return Check(name, "failed", " ".join(text.split()))


class _Patient:
    """The checks of one folder; each returns its finding, or raises."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self.device = device

    @cached_property
    def model(self) -> PreTrainedModel:
        return load(self.folder, device=self.device, check=False)

    def config(self) -> str:
        config = read_config(self.folder)
        return f"{config['model_type']}, {config['num_hidden_layers']} layers"

    def weights(self) -> str:
        check_stored(self.folder)
        count = read_architecture(self.folder).total_parameters
        return f"{len(read_headers(self.folder))} tensors with the shapes of config.json, {count:,} parameters"

    def finite(self) -> str:
        check_finite(self.folder)
        return "no NaN, no infinity"

    def tied(self) -> str:
        if check_tied(self.folder):
            return "stored twice, and equal"
        stored = f"{HEAD}.weight" in read_headers(self.folder)
        return "the output has weights of its own" if stored else "the output uses the input embedding"

    def loads(self) -> str:
        return f"{type(self.model).__name__} in {str(self.model.dtype).removeprefix('torch.')}"

    def forward(self) -> str:
        import torch

        with torch.inference_mode():
            logits = self.model(self._prompt()).logits
        if not torch.isfinite(logits).all():
            raise CheckpointError("logits of random tokens are not finite")
        return f"finite logits, the largest {logits.abs().max().item():.3g}"

    def generation(self) -> str:
        """Generate tokens one by one with the cache, then run all tokens at once without the cache."""
        import torch

        tokens, cache, steps = self._prompt(), None, []
        with torch.inference_mode():
            for _ in range(NEW_TOKENS):
                fed = tokens if cache is None else tokens[:, -1:]
                output = self.model(fed, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                steps.append(output.logits[:, -1])
                tokens = torch.cat([tokens, steps[-1].argmax(-1, keepdim=True)], dim=1)
            at_once = self.model(tokens[:, :-1], use_cache=False).logits[:, PROMPT - 1 :]
        cached = torch.stack(steps, dim=1)
        apart = ((cached - at_once).abs().max() / at_once.abs().max()).item()
        tolerance = TOLERANCE.get(str(self.model.dtype).removeprefix("torch."), TOLERANCE["bfloat16"])
        if not apart <= tolerance:
            raise CheckpointError(f"logits with and without the cache are {apart:.1%} apart")
        return f"{NEW_TOKENS} tokens, the same with and without the cache"

    def tokenizer(self) -> str:
        # transformers makes an empty tokenizer for some families if the folder has none
        if not any(list(self.folder.glob(pattern)) for pattern in ("tokenizer.*", "vocab.*", "*.model")):
            raise CheckpointError(f"{self.folder}: has no tokenizer; copy the base model's")
        size = read_config(self.folder)["vocab_size"]
        check_vocabulary_size(self.folder, size)
        tokens: dict[str, int] = load_tokenizer(self.folder).get_vocab()
        last = max(tokens, key=tokens.__getitem__, default="")
        if tokens and tokens[last] >= size:
            raise CheckpointError(
                f"the tokenizer gives '{last}' the id {tokens[last]:,}, the model has {size:,} tokens"
            )
        return f"{len(tokens):,} tokens, the model has {size:,}"

    def _prompt(self) -> torch.Tensor:
        import torch

        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, self.model.config.vocab_size, (1, PROMPT), generator=generator).to(self.device)

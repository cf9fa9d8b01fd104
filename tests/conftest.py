"""What tests are given: tiny models on disk, tokens, and models pruned on them."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# one thread for each worker, and for the processes it starts: models this small gain nothing from two, and those
# that wait spin on a core that the other worker needs
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from llm_pruner.data.builtin import corpus, tasks
from llm_pruner.training import builtin_model
from tests.tiny import REFERENCE, ready
from tests.tiny.making import label, make
from tests.tiny.models import build_model
from tests.tiny.text import random_tokens, word_tokenizer, write_random_tokens


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a random model of a family; the same arguments give the same folder."""
    root = tmp_path_factory.mktemp("models")

    def make(family: str = "llama", **overrides: Any) -> Path:
        folder = root / label(family, overrides)
        if not folder.exists():
            build_model(family, **overrides).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def builtin_corpus() -> Iterator[Callable[[], dict[str, list[corpus.Document]]]]:
    """The built-in text, which takes seconds to collect, once for all tests of this process that read it."""
    collect = functools.cache(corpus.load_corpus)
    with pytest.MonkeyPatch.context() as patched:
        for module in (corpus, builtin_model, tasks):
            patched.setattr(module, "load_corpus", collect)
        yield collect


@pytest.fixture(scope="session")
def ready_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python that starts with torch, transformers and Snakemake imported."""
    with ready.start(tmp_path_factory.mktemp("ready")) as python:
        yield python


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token a word or sign, most of them unknown; no special tokens."""
    return word_tokenizer()


@pytest.fixture(scope="session")
def pages() -> ModuleType:
    """The program that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("pages", Path(__file__).parents[1] / "docs" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tokens() -> torch.Tensor:
    return random_tokens()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return write_random_tokens(tmp_path)


@pytest.fixture(scope="session")
def make_parent(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Prunes a model on the random tokens, for what follows pruning; the same arguments give the same folder."""
    root = tmp_path_factory.mktemp("parents")
    token_file = write_random_tokens(root)

    def make_parent(name: str, options: dict[str, Any], base: Path) -> Path:
        folder = root / base.name / label(name, options)
        if not folder.exists():
            make(name, options, base, token_file, folder)
        return folder

    return make_parent


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    return json.loads((REFERENCE / "reference.json").read_text())

"""A damaged model folder is refused by name, or means what the undamaged one means; legitimate ones are taken."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save
from typer.testing import CliRunner

import llm_pruner
from llm_pruner.analysis.structure import analyze_model
from llm_pruner.cli import app
from llm_pruner.data.tokens import write_tokens
from llm_pruner.models.architecture import FAMILIES, read_architecture, read_config
from llm_pruner.models.check import check_folder
from llm_pruner.models.doctor import examine
from llm_pruner.models.headers import TensorEntry
from llm_pruner.models.planned import planned_shapes
from llm_pruner.models.prepare import prepare_model
from llm_pruner.models.shapes import check_base, expected_shapes
from llm_pruner.system.errors import CheckpointError, PrunerError
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny.damage import (
    CONFIG,
    INDEX,
    WEIGHTS,
    config_damages,
    flipped,
    header_damages,
    index_damages,
    sharded,
    tensor_damages,
)
from tests.tiny.models import build_model, logits

SHAPE = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
"""As transformers fills it in if config.json has neither key-value heads nor a size of heads."""
TOKENS = torch.arange(3, 35)[None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    build_model("llama", **SHAPE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "in" / "model"))


def put(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def outcome(call: Callable[[], Any]) -> tuple[str | None, Any]:
    """The message of the error of ours, or the result. Any other error fails the test."""
    try:
        return None, call()
    except PrunerError as error:
        return str(error), None


KINDS: Mapping[str, tuple[str, Callable[[bytes], Iterator[Any]]]] = {
    "tensors": (WEIGHTS, tensor_damages),
    "header": (WEIGHTS, header_damages),
    "bits": (WEIGHTS, lambda content: flipped(content, 150)),
    "index": (WEIGHTS, index_damages),
    "config": (CONFIG, config_damages),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_folders_are_refused_by_name_or_mean_the_same(kind: str, whole: Path, folder: Path) -> None:
    """Each folder by the check of a base and by ``load``; what the check before any job refuses, both refuse."""
    expected, parameters = logits(llm_pruner.load(whole), TOKENS), read_architecture(whole).total_parameters
    file, damages = KINDS[kind]
    original = {path.name: path.read_bytes() for path in whole.iterdir()}
    counts: Counter[bool] = Counter()
    for name, files in damages(original[file]):
        put(folder, files)
        before = contents(folder)
        (early, shape), (base, _), (loaded, model) = (
            outcome(lambda door=door: door(folder)) for door in (check_folder, check_base, llm_pruner.load)
        )
        for message in (early, base, loaded):
            assert message is None or (f"{folder}/" in message and len(message) < 1_500), (name, message)
        assert early is None or (base and loaded), name
        assert (base is None) == (loaded is None), (name, base, loaded)
        if model:
            assert torch.equal(logits(model, TOKENS), expected) and shape.total_parameters == parameters, name
        assert contents(folder) == before, name
        counts[base is None] += 1
        for part in folder.iterdir():
            if part.name not in original:
                part.unlink()
        put(folder, {part: original[part] for part in files if part in original})
    assert counts[False] > 40, counts
    if kind in ("tensors", "index"):
        assert counts[True] == 0, counts

"""Tokens: drawn once, repeatable, refused with a clear word."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llm_pruner.data import sampling
from llm_pruner.data.sampling import SampleSpec, draw_samples, encode_evaluation
from llm_pruner.data.sources import SOURCES, load_texts
from llm_pruner.data.tokens import read_facts, read_tokens, write_tokens
from llm_pruner.system.errors import DataError


@pytest.fixture
def model(make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of 97 tokens whose tokenizer maps each character to one."""
    encode = lambda text, verbose=True: {"input_ids": [3 + ord(character) % 90 for character in text]}  # noqa: E731
    monkeypatch.setattr(sampling, "load_tokenizer", lambda *_: encode)
    return make_model("llama")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + index % 26) for index in range(1000)))
    return path


def calibrate(
    source: Path | str, model: Path, output: Path, held_out: Path | None = None, **options: Any
) -> torch.Tensor:
    defaults = {"samples": 8, "length": 50, "seed": 0, "split": None}
    draw_samples(SampleSpec(str(source), **{**defaults, **options}), model, output, held_out=held_out)
    return read_tokens(output)


def test_samples_are_windows_of_the_text_without_overlap(model: Path, text: Path, tmp_path: Path) -> None:
    tokens = calibrate(text, model, tmp_path / "out.safetensors", samples=20)
    assert tokens.shape == (20, 50) and tokens.dtype == torch.int64
    whole = [3 + ord(character) % 90 for character in text.read_text()]
    windows = {tuple(whole[start : start + 50]) for start in range(0, 1000, 50)}
    assert {tuple(row) for row in tokens.tolist()} == windows


def test_seed_decides_and_first_samples_do_not_depend_on_how_many(model: Path, text: Path, tmp_path: Path) -> None:
    first, again, more, other = (
        calibrate(text, model, tmp_path / f"{index}.safetensors", **options)
        for index, options in enumerate([{}, {}, {"samples": 12}, {"seed": 1}])
    )
    assert torch.equal(first, again) and torch.equal(first, more[:8])
    assert not torch.equal(first, other)
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


def test_skipped_samples_are_others_and_the_rest_is_the_same(model: Path, text: Path, tmp_path: Path) -> None:
    both = calibrate(text, model, tmp_path / "both.safetensors", samples=12)
    held_out = calibrate(text, model, tmp_path / "held_out.safetensors", samples=4, skip=8)
    assert torch.equal(held_out, both[8:])
    with pytest.raises(DataError, match="text for 20 samples of 50 tokens, not 21"):
        calibrate(text, model, tmp_path / "out.safetensors", samples=13, skip=8)


@pytest.mark.parametrize("length", [50, 30])
def test_training_text_shares_nothing_with_what_is_held_out(
    length: int, model: Path, text: Path, tmp_path: Path
) -> None:
    """Also where samples of another length are cut from the same text elsewhere."""
    generator = random.Random(0)
    text.write_text("".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=1000)))
    held_out = calibrate(text, model, tmp_path / "held_out.safetensors", samples=3)
    drawn = calibrate(
        text,
        model,
        tmp_path / "train.safetensors",
        samples=10,
        length=length,
        held_out=tmp_path / "held_out.safetensors",
    )
    runs = {tuple(row[start : start + 16]) for row in held_out.tolist() for start in range(35)}
    assert not [row for row in drawn.tolist() for start in range(length - 15) if tuple(row[start : start + 16]) in runs]
    plain = calibrate(text, model, tmp_path / "plain.safetensors", samples=17 if length == 50 else 25, length=length)
    assert any(tuple(row[start : start + 16]) in runs for row in plain.tolist() for start in range(length - 15))


def test_too_little_text(model: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="text for 20 samples of 50 tokens, not 21"):
        calibrate(text, model, tmp_path / "out.safetensors", samples=21)
    assert not (tmp_path / "out.safetensors").exists()


def test_one_window_a_document_where_documents_are_not_joined(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [letter * size for letter, size in zip("abcdef", [10, 60, 80, 70, 50, 90], strict=True)]
    source = SimpleNamespace(joined=False, separator=" ", load=lambda split: documents)
    monkeypatch.setattr(sampling, "SOURCES", {"c4": source})
    monkeypatch.setattr("llm_pruner.data.sources.SOURCES", {"c4": source})
    tokens = calibrate("c4", model, tmp_path / "out.safetensors", samples=4, split="train")
    # only documents longer than a window, each used once, none mixed with another
    assert sorted({chr(row[0] - 3 + 90) for row in tokens.tolist()}) == ["b", "c", "d", "f"]
    assert all(len(set(row)) == 1 for row in tokens.tolist())


def test_token_file_is_taken_as_it_is(model: Path, tokens: torch.Tensor, tmp_path: Path) -> None:
    write_tokens(tmp_path / "mine.safetensors", tokens, {})
    taken = calibrate(tmp_path / "mine.safetensors", model, tmp_path / "out.safetensors", samples=4, length=20)
    assert torch.equal(taken, tokens[:4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"input_ids": torch.zeros(4, 20)}, "must be int64"),
        ({"input_ids": torch.zeros(20, dtype=torch.int64)}, "must be int64 .samples, length."),
        ({"ids": torch.zeros(4, 20, dtype=torch.int64)}, "has no 'input_ids' .found: ids."),
        ({"input_ids": torch.zeros(2, 20, dtype=torch.int64)}, "holds 2 samples of 20 tokens, not 4 of 20"),
        ({"input_ids": torch.full((4, 20), 97)}, "token ids 97 … 97 do not fit a vocabulary of 97"),
    ],
)
def test_token_files_that_do_not_fit(content: dict, message: str, model: Path, tmp_path: Path) -> None:
    save_file(content, tmp_path / "mine.safetensors")
    with pytest.raises(DataError, match=message):
        calibrate(tmp_path / "mine.safetensors", model, tmp_path / "out.safetensors", samples=4, length=20)


def test_truncated_and_missing_token_files(token_file: Path) -> None:
    token_file.write_bytes(token_file.read_bytes()[:-8])
    with pytest.raises(DataError, match="truncated"):
        read_tokens(token_file)
    with pytest.raises(DataError, match="no such token file"):
        read_tokens(token_file.with_name("other.safetensors"))


def test_evaluation_stream_keeps_bytes_a_token(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("äb" * 30, encoding="utf-8")
    encode_evaluation(str(tmp_path / "text.txt"), None, model, tmp_path / "out.safetensors")
    assert read_tokens(tmp_path / "out.safetensors").shape == (1, 60)
    assert read_facts(tmp_path / "out.safetensors")["bytes_per_token"] == 1.5


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text('{"text": "one"}\n\n{"text": "two", "meta": 1}\n')
    assert load_texts(str(file), None) == ["one", "two"]
    file.write_text('{"text": "one"}\n{"txt": "two"}\n')
    with pytest.raises(DataError, match=r"text\.jsonl, line 2: no column 'text'; did you mean 'txt'\?"):
        load_texts(str(file), None)
    file.write_text("\n")
    with pytest.raises(DataError, match="holds no text"):
        load_texts(str(file), None)


@pytest.mark.parametrize(
    ("source", "split", "place", "texts"),
    [
        ("wikitext2", "train", ("Salesforce/wikitext", "wikitext-2-raw-v1"), ["a", "b"]),
        ("ptb", "test", ("ptb-text-only/ptb_text_only",), ["a", "b"]),
        ("c4", "validation", ("allenai/c4",), ["a"] * 1100),
    ],
)
def test_data_sets_of_the_hub(
    source: str, split: str, place: tuple[str, ...], texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which data set, configuration and split are asked for; the hub itself is not reached in tests."""
    calls = []

    def load_dataset(*names: str, split: str, **options: Any) -> dict[str, list[str]]:
        calls.append((names, split))
        content = ["a"] * 2000 if source == "c4" else ["a", "b"]
        return {"text": content, "sentence": content}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert SOURCES[source].load(split) == texts
    assert calls == [(place, split)]


def test_facts_are_readable_json(token_file: Path, tokens: torch.Tensor) -> None:
    write_tokens(token_file, tokens, {"source": "here"})
    assert read_facts(token_file) == {"source": "here"}
    assert json.loads(json.dumps(read_facts(token_file))) == {"source": "here"}

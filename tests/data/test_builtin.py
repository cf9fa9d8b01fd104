"""The built-in corpus, base model and tasks: everything that makes the default run need no download."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_pruner.data.builtin import tasks
from llm_pruner.data.builtin.corpus import SPLITS, Document, load_split
from llm_pruner.data.builtin.options import BuiltinModel
from llm_pruner.data.builtin.tasks import write_tasks
from llm_pruner.report.figures import FIGURES
from llm_pruner.system.errors import CheckpointError, DataError
from llm_pruner.training import builtin_model as training
from llm_pruner.training.builtin_model import train_builtin
from llm_pruner.training.records import BuiltinTraining

TINY = BuiltinModel(
    vocab_size=400,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=64,
    max_position_embeddings=64,
    steps=20,
    batch_size=3,
    sequence_length=32,
)


@pytest.fixture(scope="module")
def corpus(builtin_corpus: Callable[[], dict[str, list[Document]]]) -> dict[str, list[Document]]:
    return builtin_corpus()


@pytest.fixture
def small_corpus(corpus: dict[str, list[Document]], monkeypatch: pytest.MonkeyPatch) -> None:
    small = {split: documents[:12] for split, documents in corpus.items()}
    monkeypatch.setattr(training, "load_corpus", lambda: small)


@pytest.fixture
def write(corpus: dict[str, list[Document]], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "load_corpus", lambda: corpus)
    return write_tasks


def digest(corpus: dict[str, list[Document]]) -> str:
    return hashlib.sha256(repr(corpus).encode()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Corpus


def test_corpus_is_the_same_in_every_process(corpus: dict[str, list[Document]]) -> None:
    code = (
        "import hashlib; from llm_pruner.data.builtin.corpus import load_corpus;"
        "import sys; sys.stdout.write(hashlib.sha256(repr(load_corpus()).encode()).hexdigest());"
        "assert not {'torch', 'antigravity', 'this', 'idlelib'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == (digest(corpus), "")


def test_splits_have_useful_sizes(corpus: dict[str, list[Document]]) -> None:
    characters = {split: sum(len(document.text) for document in corpus[split]) for split in SPLITS}
    total = sum(characters.values())
    assert total > 1_500_000
    assert characters["train"] > 0.7 * total
    assert all(characters[split] > 0.02 * total for split in SPLITS)
    assert all(document.text.strip() for documents in corpus.values() for document in documents)


def test_no_text_is_shared(corpus: dict[str, list[Document]]) -> None:
    names = [document.name for split in SPLITS for document in corpus[split]]
    assert len(names) == len(set(names))
    paragraphs = {
        split: {text.lower() for document in corpus[split] for text in document.paragraphs} for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not paragraphs[one] & paragraphs[other]


def test_held_out_text_is_not_a_variation_of_the_training_text(corpus: dict[str, list[Document]]) -> None:
    def ngrams(text: str) -> list[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return [tuple(words[start : start + 8]) for start in range(len(words) - 7)]

    known = {ngram for doc in corpus["train"] for text in doc.paragraphs for ngram in ngrams(text)}
    for paragraph in (text for doc in corpus["test"] for text in doc.paragraphs):
        found = [ngram in known for ngram in ngrams(paragraph)]
        assert sum(found) <= len(found) / 2, paragraph


def test_text_is_prose_without_licences(corpus: dict[str, list[Document]]) -> None:
    text = "\n\n".join(document.text for split in SPLITS for document in corpus[split])
    assert not re.search(r"all rights reserved|copyright|licen[cs]ed? (under|to)|warranty", text, re.IGNORECASE)
    assert not any(paragraph.startswith(">>>") for paragraph in text.split("\n\n"))
    letters = sum(character.isalpha() or character == " " for character in text)
    assert letters > 0.9 * len(text)
    longest_line = max(map(len, text.splitlines()))
    assert longest_line > 200, "hard-wrapped lines were not joined"


def test_load_split_names_the_known_splits() -> None:
    with pytest.raises(DataError, match="did you mean 'validation'"):
        load_split("validate")
    with pytest.raises(DataError, match="known: calibration, test, train, validation"):
        load_split("xyz")


# Training


@pytest.fixture
def two_threads() -> Iterator[None]:
    """What a caller may have given torch."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("small_corpus", "two_threads")
def test_trained_model_is_an_ordinary_folder(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, record = tmp_path / "model", tmp_path / "loss.json"
    state = torch.get_rng_state()
    result = train_builtin(folder, TINY, seed=0, record=record)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)

    assert {path.name for path in tmp_path.iterdir()} == {"model", "loss.json"}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(contents(folder))
    FIGURES["training"].draw(result, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert BuiltinTraining.read(record) == result
    assert len(result.history.train) == TINY.steps
    assert result.history.validation[-1].loss < result.history.validation[0].loss
    assert result.validation.perplexity < TINY.vocab_size
    assert result.run.seed == 0
    assert result.run.options["hidden_size"] == TINY.hidden_size

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.num_parameters() == result.parameters
    assert model.config.num_key_value_heads == TINY.num_key_value_heads
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "  def f(x):\n\n\treturn x  # naïve – 日本 🐍 </s\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert max(ids) < len(tokenizer) == model.config.vocab_size
    assert model.config.eos_token_id == tokenizer.eos_token_id
    prompt = tokenizer("Return the", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=4, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.usefixtures("small_corpus", "two_threads")
def test_seed_decides_the_weights(tmp_path: Path) -> None:
    import torch

    for name, seed, count in (("a", 1, 2), ("b", 1, 1), ("c", 2, 2)):
        torch.manual_seed(seed * 100 + count)  # the caller's own generator must not matter
        torch.set_num_threads(count)
        train_builtin(tmp_path / name, TINY, seed=seed)
    one, again, other = (contents(tmp_path / name) for name in "abc")
    assert one == again
    assert one["tokenizer.json"] == other["tokenizer.json"]
    assert one["model.safetensors"] != other["model.safetensors"]


@pytest.mark.usefixtures("small_corpus")
def test_interrupted_training_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedTokenizerFast

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_builtin(tmp_path / "model", TINY, seed=0, record=tmp_path / "loss.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_corpus")
def test_diverging_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lower the learning rates"):
        train_builtin(tmp_path / "model", TINY.model_copy(update={"adamw_learning_rate": 1e30}), seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"vocab_size": 100}, "greater than or equal to 259"),
        ({"num_key_value_heads": 3}, "num_attention_heads must be a multiple of num_key_value_heads"),
        ({"sequence_length": 100}, "sequence_length must not exceed max_position_embeddings"),
        ({"num_hidden_layers": 0}, "greater than or equal to 1"),
        ({"clip": "tight"}, "valid number"),
    ],
)
def test_misfitting_sizes_are_refused(sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BuiltinModel(**{**TINY.model_dump(), **sizes})


# Tasks


def test_tasks_run_in_lm_eval(write, corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = write(tmp_path / "tasks", items=40)
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    monkeypatch.chdir(tmp_path / "tasks")  # lm-eval looks there for what a definition names
    items = {
        name: list(map(json.loads, (tmp_path / "tasks" / f"{name}.jsonl").read_text().splitlines())) for name in names
    }
    texts = {" ".join(document.text.split()) for document in corpus["test"]}
    own = []
    for name in names:
        assert len(items[name]) == 40
        if name == "builtin_last_word":
            own += [(item["text"], item["word"]) for item in items[name]]
        else:
            assert {item["label"] for item in items[name]} == set(range(tasks.CHOICES))
            assert all(len(set(item["choices"])) == tasks.CHOICES for item in items[name])
            own += [(item["text"], item["choices"][item["label"]]) for item in items[name]]
    assert all(any(f"{first} {second}" in text for text in texts) for first, second in own)
    right = {(first, f" {second}") for first, second in own}

    class Oracle(LM):
        def loglikelihood(self, requests, disable_tqdm=False):
            return [(0.0, True) if request.args in right else (-100.0, False) for request in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

        def generate_until(self, requests, disable_tqdm=False):
            raise NotImplementedError

    results = lm_eval.simple_evaluate(Oracle(), tasks=names, task_manager=manager, bootstrap_iters=0)["results"]
    assert {name: results[name]["acc,none"] for name in names} == dict.fromkeys(names, 1.0)
    assert results["builtin_last_word"]["perplexity,none"] == 1.0


def read_items(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_a_choice_gains_nothing_by_being_common(write, corpus, tmp_path: Path) -> None:
    write(tmp_path / "tasks", items=400)
    right = Counter(item["choices"][item["label"]] for item in read_items(tmp_path / "tasks", "builtin_preposition"))
    assert len(right) == 10 and set(right.values()) == {40}
    texts = [" ".join(document.text.split()) for document in corpus["test"]]
    for item in read_items(tmp_path / "tasks", "builtin_word"):
        own = [text for text in texts if f"{item['text']} {item['choices'][item['label']]}" in text]
        for choice in item["choices"]:
            assert any(f" {choice} " in text for text in own)
            assert choice not in item["text"].lower().split()
            assert sum(choice in text.split() for text in texts) >= 4


def test_last_words_stand_earlier_in_a_long_passage(write, tmp_path: Path) -> None:
    write(tmp_path / "tasks", items=400)
    items = read_items(tmp_path / "tasks", "builtin_last_word")
    assert len({(item["text"], item["word"]) for item in items}) == 400
    for item in items:
        assert item["word"].isalpha() and len(item["word"]) >= 4
        assert item["word"].lower() in re.findall(r"\w+", item["text"].lower())
        assert 23 <= len(item["text"].split()) <= 59


def test_tasks_depend_on_the_seed_alone(write, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / folder / "tasks", items=40, seed=seed)
    one, again, other = (
        {name: data for name, data in contents(tmp_path / folder / "tasks").items() if name.endswith("jsonl")}
        for folder in "abc"
    )
    assert one == again
    assert all(one[name] != other[name] for name in one)


def test_too_many_items_are_refused(write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not 100000"):
        write(tmp_path / "tasks", items=100_000)
    assert list(tmp_path.iterdir()) == []

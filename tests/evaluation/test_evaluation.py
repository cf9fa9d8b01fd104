"""Numbers people compare: perplexity by hand, zero-shot through lm-eval, timings with nothing missing."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.data.builtin.corpus import Document
from llm_pruner.evaluation import efficiency
from llm_pruner.evaluation.continuations import measure_continuations
from llm_pruner.evaluation.efficiency import measure_efficiency
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.evaluation.zero_shot import language_model, similar_lengths, zero_shot
from llm_pruner.system.errors import CheckpointError, DataError


class Fixed(torch.nn.Module):
    """Predicts the next token to be the current one plus one, with a fixed probability."""

    def __init__(self, probability: float, vocabulary: int = 50) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.vocabulary = vocabulary
        self.probability = probability

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        rest = (1 - self.probability) / (self.vocabulary - 1)
        probabilities = torch.full((*input_ids.shape, self.vocabulary), rest)
        following = (input_ids + 1) % self.vocabulary
        probabilities.scatter_(2, following.unsqueeze(-1), self.probability)
        return SimpleNamespace(logits=probabilities.log())


def counting(length: int) -> torch.Tensor:
    return (torch.arange(length) % 50).unsqueeze(0)


def test_perplexity_by_hand() -> None:
    result = perplexity(Fixed(0.25), counting(105), window=10)
    assert result.perplexity == pytest.approx(4.0)
    assert result.nll == pytest.approx(math.log(4))
    # ten whole windows; the first token of each has no prediction, the five left over are dropped
    assert (result.windows, result.tokens, result.stride) == (10, 90, 10)


def test_every_token_counts_once_when_windows_overlap() -> None:
    result = perplexity(Fixed(0.25), counting(100), window=20, stride=5, batch_size=3)
    assert result.windows == 17
    assert result.tokens == 19 + 16 * 5
    assert result.perplexity == pytest.approx(4.0)


def test_mean_is_weighted_by_tokens_and_batches_do_not_matter(make_model: Callable[..., Path]) -> None:
    model = llm_pruner.load(make_model("llama"))
    stream = torch.randint(3, 97, (1, 200), generator=torch.Generator().manual_seed(0))
    losses = []
    for window in stream[0].unfold(0, 16, 16):
        losses.append(model(input_ids=window[None], labels=window[None]).loss.item())
    expected = math.exp(sum(losses) / len(losses))
    for batch_size in (1, 5, 100):
        result = perplexity(model, stream, window=16, batch_size=batch_size)
        assert result.perplexity == pytest.approx(expected, rel=1e-5)
        assert result.window_nll == pytest.approx(losses, rel=1e-5)


def test_overlap_scores_the_new_tokens_with_their_context(make_model: Callable[..., Path]) -> None:
    model = llm_pruner.load(make_model("qwen3"))
    stream = torch.randint(3, 97, (1, 24), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        total = 0.0
        for start, first in ((0, 1), (4, 12), (8, 12)):
            window = stream[:, start : start + 16]
            log = model(input_ids=window).logits.log_softmax(-1)
            total -= sum(log[0, index - 1, window[0, index]].item() for index in range(first, 16))
    result = perplexity(model, stream, window=16, stride=4)
    assert result.tokens == 15 + 4 + 4
    assert result.nll == pytest.approx(total / 23, rel=1e-5)


def test_continuations_are_the_likeliest_tokens_one_after_the_other(
    make_model: Callable[..., Path], tokenizer: Any
) -> None:
    model = llm_pruner.load(make_model("llama"))
    prompts = ["the of a", "w1 w2 w3 w4 w5"]
    result = measure_continuations(model, tokenizer, "Dense", prompts, 4)
    for prompt, written in zip(prompts, result.continuations, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        for _ in range(4):
            with torch.inference_mode():
                ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == model.config.eos_token_id:
                break
        assert written.to_dict() == {
            "prompt": prompt,
            "text": tokenizer.decode(ids[0, start:], skip_special_tokens=True),
        }
    assert measure_continuations(model, tokenizer, "Dense", [], 4).continuations == ()
    assert measure_continuations(model, tokenizer, "Dense", prompts, 1000).new_tokens == 32


def test_limits_and_bad_streams() -> None:
    assert perplexity(Fixed(0.5), counting(100), window=10, max_windows=3).windows == 3
    assert perplexity(Fixed(0.5), counting(40).view(4, 10), window=10).windows == 4
    with pytest.raises(DataError, match=r"set perplexity\.window to fit"):
        perplexity(Fixed(0.5), counting(9), window=10)
    with pytest.raises(CheckpointError, match="not finite"):
        perplexity(Fixed(0.0), counting(100), window=10)


@pytest.fixture
def ended(tokenizer: Any) -> Any:
    """The tokenizer with an end of text, which lm-eval asks for."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = "<unk>"
    return tokenizer


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_likelihoods_are_those_of_lm_eval(make_model: Callable[..., Path], ended: Any, batch_size: int) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = llm_pruner.load(make_model("qwen3"))
    words = [f"w{number}" for number in range(80)]
    long = " ".join(words * 2)  # longer than the model sees
    pairs = [("the of", " w1"), ("the of", " w2"), ("the of", " w1 w3"), ("a", " is to and in"), (long, " w5 w6")]
    pairs += [(" ".join(words[:length]), f" {words[length]} that") for length in range(2, 30, 3)]
    pairs.append(pairs[0])
    said = model(input_ids=torch.arange(3, 91)[:, None]).logits[:, -1].argmax(-1)  # by the model, after each word
    answers = [(ended.decode(3 + place), f" {ended.decode(token)}") for place, token in enumerate(said) if token > 2]
    pairs += [(word, answer) for word, answer in answers if answer.strip()][:3]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    plain = HFLM(pretrained=model, tokenizer=ended, batch_size=batch_size)
    own = language_model(model, ended, batch_size)
    expected, found = (lm.loglikelihood(requests, disable_tqdm=True) for lm in (plain, own))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], rel=1e-5)
    assert {greedy for _, greedy in found} == {True, False}
    rolling = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in (long, "the of")]
    expected, found = (lm.loglikelihood_rolling(rolling, disable_tqdm=True) for lm in (plain, own))
    assert found == pytest.approx(expected, rel=1e-5)


def test_tokens_are_run_once_and_their_logits_only_where_scored(make_model: Callable[..., Path], ended: Any) -> None:
    """Four answers of a token to each of eight questions: a row each, and one logit of it but for its padding."""
    from lm_eval.api.instance import Instance

    model = llm_pruner.load(make_model("llama"))
    run: list[tuple[int, ...]] = []
    computed: list[tuple[int, ...]] = []
    model.model.register_forward_hook(lambda *arguments: run.append(arguments[2].last_hidden_state.shape[:2]))
    model.lm_head.register_forward_hook(lambda *arguments: computed.append(arguments[2].shape[:2]))
    questions = [" ".join(f"w{number}" for number in range(length)) for length in (31, 3, 30, 3, 29, 4, 31, 16)]
    questions[3] = questions[3].replace("w0", "w9")
    questions[6] = questions[6].replace("w0", "w9")
    pairs = [(question, f" w{number}") for number in range(40, 44) for question in questions]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    scores = language_model(model, ended, 32).loglikelihood(requests, disable_tqdm=True)
    assert run == [(3, 31), (1, 29), (1, 16), (1, 4), (2, 3)]
    assert computed == [(3, 2), (1, 1), (1, 1), (1, 1), (2, 1)]
    for (question, answer), (score, _) in zip(pairs, scores, strict=True):
        ids = torch.tensor([ended(question + answer)["input_ids"]])
        with torch.inference_mode():
            log = model(input_ids=ids[:, :-1]).logits[0, -1].log_softmax(-1)
        assert score == pytest.approx(log[ids[0, -1]].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("lengths", "batch_size", "expected"),
    [
        ([16, 15, 14, 15, 16], 32, [[0, 4, 1, 3], [2]]),
        ([16, 15, 14, 15, 16], 3, [[0, 4, 1], [3], [2]]),
        ([1, 2, 1], 2, [[1], [0, 2]]),
        ([], 4, []),
    ],
)
def test_rows_of_about_one_length_run_together(lengths: list[int], batch_size: int, expected: list[list[int]]) -> None:
    assert similar_lengths(lengths, batch_size) == expected


def test_only_a_task_of_one_word_has_a_perplexity(
    make_model: Callable[..., Path], ended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_pruner.data.builtin import tasks

    filler = "The w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12"
    prose = f"{filler} as w2 at w3 by w4 for w5 from w6 in w7 of w8 on w9 to w10 with w11. "
    text = "\n\n".join(
        f"w{number} {prose}Then the w9 of w10 is to the table{'s' * number} and a w11 of the "
        f"w12 in that table{'s' * number}."
        for number in range(30)
    )
    documents = [Document("x", text)]
    monkeypatch.setattr(tasks, "load_corpus", lambda: {"test": documents})
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        tasks, "TASKS", {name: tasks.TASKS[name] for name in ("builtin_preposition", "builtin_last_word")}
    )
    names = tasks.write_tasks(tmp_path / "tasks", items=10)
    # the folder may be moved, and have any name
    moved = (tmp_path / "tasks").rename(tmp_path / "x[a] é")
    model = llm_pruner.load(make_model("llama"))
    scores = zero_shot(model, ended, names, task_folder=moved)
    preposition, word = (scores.tasks[name] for name in names)
    assert (preposition.perplexity, preposition.perplexity_stderr) == (None, None)
    assert (word.acc_norm, word.acc_norm_stderr, word.items) == (None, None, 10)
    assert word.perplexity > 1 and word.perplexity_stderr > 0
    assert scores.mean.acc_norm == pytest.approx((preposition.acc + word.acc) / 2)


def test_efficiency_measures_everything(make_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_model("llama")
    result = measure_efficiency(
        folder, tmp_path / "efficiency.json", name="x", prompt_length=12, new_tokens=4, repeats=2, device="cpu"
    )
    assert json.loads((tmp_path / "efficiency.json").read_text()) == result.to_dict()
    assert result.bytes_on_disk == (folder / "model.safetensors").stat().st_size
    assert result.load_seconds > 0 and result.threads >= 1
    assert [batch.batch_size for batch in result.batches] == [1, 4, 8]
    for batch in result.batches:
        assert batch.prefill_tokens_per_second == pytest.approx(12 * batch.batch_size / batch.prefill_seconds)
        assert batch.decode_tokens_per_second == pytest.approx(batch.batch_size / batch.decode_seconds_per_token)


def test_the_base_is_timed_in_turn(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, base = make_model("llama"), make_model("llama", vocab_size=400_000)
    ran: list[int] = []
    timed = efficiency.timed

    def noted(device: str, work: Any) -> Any:
        ran.append(work.args[0].config.vocab_size)
        return timed(device, work)

    monkeypatch.setattr(efficiency, "timed", noted)
    options = {"prompt_length": 2, "new_tokens": 2, "batch_sizes": (1, 2), "repeats": 2, "device": "cpu"}
    beside = measure_efficiency(model, tmp_path / "beside.json", name="x", base=base, **options)
    assert [batch.batch_size for batch in beside.base_batches] == [1, 2]
    # prefill of the one and of the other, then each token of the one and of the other; two batch sizes, twice
    own = llm_pruner.load(model).config.vocab_size
    assert ran == [own, 400_000] * (1 + 2) * 4
    # the memory is the model's alone
    assert beside.peak_memory_bytes < (base / "model.safetensors").stat().st_size / 2
    assert measure_efficiency(model, tmp_path / "alone.json", name="x", **options).base_batches == ()


def test_peak_memory_sees_the_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_model("llama", vocab_size=400_000)
    size = (folder / "model.safetensors").stat().st_size
    assert size > 100e6
    result = measure_efficiency(
        folder,
        tmp_path / "out.json",
        name="x",
        prompt_length=2,
        new_tokens=2,
        batch_sizes=(1,),
        repeats=1,
        device="cpu",
    )
    # the output embedding is read whole, of the input embedding only the rows in use
    assert size * 0.5 < result.peak_memory_bytes < size * 4

"""How far predictions are apart: against the whole softmax, by hand where the rest is one bucket; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.data.tokens import read_tokens, write_tokens
from llm_pruner.evaluation import divergence as module
from llm_pruner.evaluation.divergence import Divergence, Predictions, check_tokenizers, predict, write_predictions
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.evaluation.quality import evaluate_quality, measure_perplexity
from llm_pruner.evaluation.records.perplexity import DivergenceResult
from llm_pruner.system.errors import CheckpointError, DataError

OPTIONS = {"window": 16, "stride": None, "max_windows": 8, "batch_size": 3}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.safetensors"
    write_tokens(path, torch.randint(3, 97, (1, 200), generator=torch.Generator().manual_seed(0)), {})
    return path


@pytest.fixture
def folders(make_model: Callable[..., Path]) -> tuple[Path, Path]:
    """A reference, and another model of the same vocabulary."""
    return make_model("llama"), make_model("qwen3")


def compared(folders: tuple[Path, Path], text: Path, options: dict[str, Any]) -> DivergenceResult:
    reference, other = map(llm_pruner.load, folders)
    known = predict(reference, folders[0], text, options)
    found = measure_perplexity(other, text, "M", options, reference=known).divergence
    assert found
    return found


def whole(folders: tuple[Path, Path], text: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the whole vocabulary of both models, float64 [windows, scored, vocabulary]."""
    windows = read_tokens(text)[0].unfold(0, 16, 16)[:8]
    with torch.inference_mode():
        one, other = (llm_pruner.load(folder)(windows).logits[:, :-1].double().log_softmax(-1) for folder in folders)
    return one, other


def test_a_small_vocabulary_is_compared_exactly(folders: tuple[Path, Path], text: Path) -> None:
    theirs, own = whole(folders, text)
    by_window = (theirs.exp() * (theirs - own)).sum(-1)
    kl, same = by_window.flatten(), (theirs.argmax(-1) == own.argmax(-1)).double().flatten()
    share, count = same.mean().item(), len(kl)
    found = compared(folders, text, OPTIONS)
    assert count == 8 * 15 and found.top == theirs.shape[-1]
    assert found.mean_kl == pytest.approx(kl.mean().item(), rel=1e-4)
    assert found.mean_kl_stderr == pytest.approx(kl.std().item() / count**0.5, rel=1e-4)
    assert found.median_kl == pytest.approx(kl.quantile(0.5).item(), rel=1e-4)
    assert found.p99_kl == pytest.approx(kl.quantile(0.99).item(), rel=1e-4)
    assert found.window_kl == pytest.approx(by_window.mean(1).tolist(), rel=1e-4)
    assert found.same_top == pytest.approx(share)
    assert found.same_top_stderr == pytest.approx((share * (1 - share) / (count - 1)) ** 0.5)


def test_of_a_large_vocabulary_the_rest_is_one_bucket(
    folders: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOP", 5)
    theirs, own = (logs.flatten(0, 1) for logs in whole(folders, text))
    total = 0.0
    for p, q in zip(theirs.exp(), own.exp(), strict=True):
        kept = p.argsort(descending=True)[:5].tolist()
        pairs = [(p[token].item(), q[token].item()) for token in kept]
        pairs.append((1 - sum(pair[0] for pair in pairs), 1 - sum(pair[1] for pair in pairs)))
        total += sum(left * math.log(left / right) for left, right in pairs)
    found = compared(folders, text, OPTIONS)
    assert found.top == 5
    assert found.mean_kl == pytest.approx(total / len(theirs), rel=1e-4)
    assert 0 < found.mean_kl < (theirs.exp() * (theirs - own)).sum(-1).mean().item()


@pytest.mark.parametrize("top", [5, 1024])
def test_a_model_does_not_diverge_from_itself(
    folders: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch, top: int
) -> None:
    monkeypatch.setattr(module, "TOP", top)
    found = compared((folders[0], folders[0]), text, OPTIONS)
    assert [found.mean_kl, found.median_kl, found.p99_kl] == pytest.approx([0, 0, 0], abs=1e-6)
    assert (found.same_top, found.same_top_stderr) == (1, 0)


def test_overlapping_windows_compare_each_token_once(folders: tuple[Path, Path], text: Path) -> None:
    options = {"window": 16, "stride": 4, "max_windows": 3}
    reference, other = map(llm_pruner.load, folders)
    known = predict(reference, folders[0], text, options)
    measured = measure_perplexity(other, text, "M", options, reference=known)
    assert len(known.ids) == measured.tokens == 15 + 4 + 4
    assert measured.divergence and len(measured.divergence.window_kl) == 3


def test_perplexity_is_the_same_with_and_without(folders: tuple[Path, Path], text: Path) -> None:
    reference, other = map(llm_pruner.load, folders)
    known = predict(reference, folders[0], text, OPTIONS)
    alone, beside = (measure_perplexity(other, text, "M", OPTIONS, reference=one) for one in (None, known))
    assert "divergence" not in alone.to_dict() and beside.divergence
    assert alone == beside.model_copy(update={"divergence": None, "run": alone.run})


def test_a_file_of_other_predictions_is_refused(folders: tuple[Path, Path], text: Path, tmp_path: Path) -> None:
    file = tmp_path / "predictions.safetensors"
    write_predictions(folders[0], text, file, options=OPTIONS)

    def evaluate(**options: Any) -> None:
        evaluate_quality(
            folders[1],
            text,
            name="M",
            perplexity_output=tmp_path / "perplexity.json",
            zero_shot_output=tmp_path / "zero_shot.json",
            tasks=[],
            task_folder=None,
            perplexity_options={**OPTIONS, **options},
            zero_shot_options={},
            continuations_output=tmp_path / "continuations.json",
            continuations_options={},
            predictions=file,
        )

    with pytest.raises(DataError, match=r"predictions\.safetensors: made with window 16, but 12 is needed; delete"):
        evaluate(window=12)
    with pytest.raises(DataError, match="made with stride 16, but 8 is needed"):
        evaluate(stride=8)
    write_tokens(text, torch.full((1, 200), 5), {})
    with pytest.raises(DataError, match="made with tokens"):
        evaluate()
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"predictions\.safetensors: not a file of predictions, or damaged"):
        evaluate()
    with pytest.raises(DataError, match="no such file of predictions"):
        Predictions.read(tmp_path / "nothing")


def test_models_of_different_vocabularies_are_not_compared(make_model: Callable[..., Path], text: Path) -> None:
    folder, larger = make_model("llama"), make_model("llama", vocab_size=120)
    known = predict(llm_pruner.load(folder), folder, text, OPTIONS)
    with pytest.raises(DataError, match="compare models with the same tokenizer"):
        measure_perplexity(llm_pruner.load(larger), text, "M", OPTIONS, reference=known)


def test_models_of_different_tokenizers_are_not_compared(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {word: number + 1 for word, number in tokenizer.get_vocab().items()}

    held = {"one": tokenizer, "same": tokenizer, "other": Other()}
    monkeypatch.setattr(module, "load_tokenizer", lambda folder: held[str(folder)])
    check_tokenizers(Path("one"), Path("same"))
    with pytest.raises(DataError, match="one and other have different tokenizers"):
        check_tokenizers(Path("one"), Path("other"))


def test_what_the_reference_excludes_may_be_excluded_and_nothing_else() -> None:
    def add(observer: Any, *logits: float) -> None:
        row = torch.tensor([logits])
        observer.add(row, row.logsumexp(1))

    rests_on = {"weights": "", "tokens": "", "window": 2, "stride": 2, "max_windows": None}
    recorder = module._Recorder(8)
    add(recorder, 0.0, 0.0, -math.inf)
    same, wrong = (Divergence(recorder.predictions(**rests_on)) for _ in range(2))
    add(same, 1.0, 1.0, -math.inf)
    assert same.result().mean_kl == pytest.approx(0, abs=1e-6)
    assert (same.result().mean_kl_stderr, same.result().same_top_stderr) == (None, None)
    add(wrong, 0.0, -math.inf, 0.0)
    with pytest.raises(CheckpointError, match="excludes tokens that the reference predicts"):
        wrong.result()


def test_an_observer_sees_what_perplexity_scores(folders: tuple[Path, Path], text: Path) -> None:
    seen: list[tuple[int, ...]] = []
    stream = read_tokens(text)
    perplexity(
        llm_pruner.load(folders[0]),
        stream,
        window=16,
        stride=8,
        max_windows=2,
        observe=lambda *both: seen.extend(tuple(one.shape) for one in both),
    )
    assert [shape[0] for shape in seen] == [15, 15, 8, 8]

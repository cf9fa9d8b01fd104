"""Healing: what is trained is what is saved, on every shape of model, and nothing else changes."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import llm_pruner
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.models.checkpoint import WeightReader
from llm_pruner.models.layout import component
from llm_pruner.report.figures import FIGURES
from llm_pruner.report.figures.loss_curve import plot_loss_curve, running_mean
from llm_pruner.steps.records import HealingFile
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError
from llm_pruner.system.files import read_json
from llm_pruner.system.provenance import Run
from llm_pruner.training import adapters, masked
from llm_pruner.training.distillation import distillation_loss
from llm_pruner.training.heal import heal
from llm_pruner.training.healed import Healed
from llm_pruner.training.objective import HealingTask, next_token_loss
from llm_pruner.training.options import TARGETS, HealByDistillationOptions, HealingOptions, LoraOptions
from llm_pruner.training.schedule import rate
from tests.tiny.commands import killed_and_whole
from tests.tiny.families import VOCABULARY, in_turn
from tests.tiny.models import build_model

QUICK: dict[str, Any] = {"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "checks": 3}
PARENTS: dict[str, tuple[dict[str, Any], bool]] = {
    "Magnitude_2of4": ({}, True),
    "Dense": ({}, False),
    "FLAP_2000": ({}, False),
    "GQA_uniform_2000": ({"uniform": True}, False),
    "ShortGPT_remove_1": ({}, False),
    "ShortGPT_attention_remove_2": ({"drop": "attention"}, False),
    "Wanda_unstructured_5000": ({}, True),
    "SliceGPT_2500": ({}, False),
}
"""Names, their options, and whether zeros are to be kept; the first is healed on every family."""


@pytest.fixture
def run(tokens: torch.Tensor, tmp_path: Path) -> Callable[..., Healed]:
    """Heals into ``tmp_path/healed`` on the random tokens."""

    def run(parent: Path, options: HealingOptions | None = None, **arguments: Any) -> Healed:
        defaults = {"keep_zeros": False, "output": tmp_path / "healed", "train": tokens, "held_out": tokens}
        return heal(parent, options=options or LoraOptions(**QUICK), **(defaults | arguments))

    return run


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    weights = WeightReader(folder)
    return {name: weights.tensor(name) for name in weights.names()}


def is_target(name: str, targets: tuple[str, ...] = TARGETS) -> bool:
    return component(name)[0] is not None and name.endswith(".weight") and name.split(".")[-2] in targets


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def repetitive() -> torch.Tensor:
    """int64 [12, 20]: one phrase of five tokens, again and again."""
    return torch.tensor([5, 9, 13, 8, 21]).repeat(12, 4)


@pytest.mark.parametrize(("name", "family"), in_turn([*PARENTS]))
def test_healed_folder_is_the_parents_with_other_weights(
    name: str,
    family: str,
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    tokens: torch.Tensor,
    run: Callable[..., Healed],
    tmp_path: Path,
) -> None:
    options, keep_zeros = PARENTS[name]
    parent, output = make_parent(name, options, make_model(family)) / "model", tmp_path / "healed"
    result = run(parent, keep_zeros=keep_zeros)

    measured = perplexity(llm_pruner.load(output), tokens, window=tokens.shape[1])
    assert result.history.held_out[-1].loss == pytest.approx(measured.nll, rel=1e-6)
    assert result.perplexity.after == pytest.approx(measured.perplexity, rel=1e-6)
    before = perplexity(llm_pruner.load(parent), tokens, window=tokens.shape[1])
    assert result.perplexity.before == pytest.approx(before.perplexity, rel=1e-6)

    assert {path.name for path in output.iterdir()} == {path.name for path in parent.iterdir()}
    assert read_json(output / "config.json") == read_json(parent / "config.json")
    old, new = weights_of(parent), weights_of(output)
    assert list(old) == list(new)
    for key, weight in old.items():
        assert (weight.dtype, weight.shape) == (new[key].dtype, new[key].shape)
        assert same(weight, new[key]) is not is_target(key), key
        if keep_zeros and is_target(key):
            assert torch.equal(new[key] == 0, weight == 0), key
    zeros = sum(int((weight == 0).sum()) for key, weight in old.items() if is_target(key))
    assert result.zeros == (zeros if keep_zeros else None)


@pytest.mark.parametrize("keep_zeros", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_learns_and_saves_what_it_learned(
    dtype: torch.dtype, keep_zeros: bool, run: Callable[..., Healed], tmp_path: Path
) -> None:
    model = build_model("qwen3")
    for name, parameter in model.named_parameters():
        if keep_zeros and is_target(name):
            parameter.data[:, ::2] = 0
    model.to(dtype).save_pretrained(tmp_path / "parent")
    options = LoraOptions(steps=40, batch_size=4, learning_rate=1e-2)
    held_out = repetitive()[:3]
    result = run(tmp_path / "parent", options, train=repetitive(), held_out=held_out, keep_zeros=keep_zeros)
    assert result.perplexity.after < result.perplexity.before / 3
    assert result.history.train[-1] < result.history.train[0] - 1
    healed = llm_pruner.load(tmp_path / "healed")
    assert {parameter.dtype for parameter in healed.parameters()} == {dtype}
    measured = perplexity(healed, held_out, window=20).perplexity
    assert measured == pytest.approx(result.perplexity.after, rel=1e-6)


@pytest.mark.parametrize("change", [adapters, masked])
def test_only_adapters_are_trained_and_in_float32(change: Any) -> None:
    model = build_model("llama").to(torch.bfloat16)
    names = {name for name, _ in model.named_parameters()}
    shapes = [weight.shape for name, weight in model.named_parameters() if is_target(name)]
    adapted = change.attach(model, LoraOptions(rank=3))
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    assert sum(parameter.numel() for parameter in trained) == sum(3 * (rows + columns) for rows, columns in shapes)
    assert {name for name, _ in change.merge(adapted).named_parameters()} == names


@pytest.mark.parametrize("change", [adapters, masked])
def test_adapters_start_at_nothing_and_merge_as_trained(change: Any, tokens: torch.Tensor) -> None:
    model, plain = build_model("llama"), build_model("llama")
    adapted = change.attach(model, LoraOptions(dropout=0.5)).eval()
    with torch.no_grad():
        assert torch.equal(adapted(tokens).logits, plain(tokens).logits)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
        trained = adapted(tokens).logits
        merged = change.merge(adapted.train()).eval()(tokens).logits
    assert (trained - plain(tokens).logits).abs().max() > 0.1
    torch.testing.assert_close(merged, trained, rtol=1e-4, atol=1e-4)
    assert change is adapters or torch.equal(merged, trained)


def test_masked_and_ordinary_adapters_agree_without_zeros(tokens: torch.Tensor) -> None:
    """Two implementations of the same change: the same values give the same gradients."""
    trained = []
    for change in (adapters, masked):
        adapted = change.attach(build_model("llama"), LoraOptions(alpha=5))
        trained.append([parameter for parameter in adapted.parameters() if parameter.requires_grad])
        generator = torch.Generator().manual_seed(0)
        for parameter in trained[-1]:
            parameter.data.normal_(0, 0.1, generator=generator)
        next_token_loss(adapted(tokens).logits, tokens).backward()
    for ours, theirs in zip(*trained, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("keep_zeros", [False, True])
def test_dropout_is_for_training_alone(
    keep_zeros: bool, make_model: Callable[..., Path], run: Callable[..., Healed]
) -> None:
    histories = [
        run(make_model("llama"), LoraOptions(**QUICK, dropout=dropout), keep_zeros=keep_zeros).history
        for dropout in (0.0, 0.5)
    ]
    assert histories[0].held_out[0] == histories[1].held_out[0]
    assert histories[0].train[-1] != histories[1].train[-1]


def test_lost_zeros_are_noticed(
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    run: Callable[..., Healed],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    parent = make_parent("Magnitude_2of4", {}, make_model("llama"))
    for function in ("attach", "merge"):
        monkeypatch.setattr(masked, function, getattr(adapters, function))
    with pytest.raises(CheckpointError, match=r"zeros of 'model\.layers"):
        run(parent / "model", keep_zeros=True)
    assert not list(tmp_path.glob("*healed*"))


def test_targets_alone_change(make_model: Callable[..., Path], run: Callable[..., Healed], tmp_path: Path) -> None:
    targets = ("q_proj", "down_proj")
    for keep_zeros in (False, True):
        run(make_model("llama"), LoraOptions(**QUICK, targets=targets), keep_zeros=keep_zeros)
        healed = weights_of(tmp_path / "healed")
        for name, weight in weights_of(make_model("llama")).items():
            assert same(weight, healed[name]) is not is_target(name, targets), name


# Losses


def test_divergence_agrees_with_its_formula() -> None:
    student = [[0.3, -1.2, 2.0], [1.0, 0.0, -0.5]]
    teacher = [[1.1, 0.4, -0.7], [0.2, 0.1, 3.0]]
    for temperature in (1.0, 2.5):

        def softmax(logits: list[float], temperature: float = temperature) -> list[float]:
            powers = [math.exp(value / temperature) for value in logits]
            return [power / sum(powers) for power in powers]

        expected = 0.0
        for ours, theirs in zip(student, teacher, strict=True):
            pairs = zip(softmax(theirs), softmax(ours), strict=True)
            expected += sum(p * math.log(p / q) for p, q in pairs) / len(student)
        found = distillation_loss(torch.tensor([student]), torch.tensor([teacher]), temperature)
        assert found.item() == pytest.approx(expected * temperature**2, rel=1e-5)


def test_distillation_follows_the_teacher(
    make_model: Callable[..., Path], make_parent: Callable[..., Path], run: Callable[..., Healed]
) -> None:
    teacher = make_model("llama")
    parent = make_parent("ShortGPT_remove_1", {}, teacher)
    before = weights_of(teacher)
    options = HealByDistillationOptions(steps=30, batch_size=3, learning_rate=1e-2, temperature=2.0)
    points = run(parent / "model", options, teacher=teacher).history.held_out
    assert points[-1].loss < 0.8 * points[0].loss
    assert all(same(weight, before[name]) for name, weight in weights_of(teacher).items())


def test_the_teacher_itself_has_nothing_to_learn(make_model: Callable[..., Path], run: Callable[..., Healed]) -> None:
    teacher = make_model("qwen2")
    alone = run(teacher, HealByDistillationOptions(**QUICK), teacher=teacher).history.held_out[0]
    assert alone.loss == pytest.approx(0, abs=1e-6)
    mixed = run(teacher, HealByDistillationOptions(**QUICK, ce_weight=0.5), teacher=teacher).history.held_out
    for point in mixed[:1]:
        assert point.loss == pytest.approx(0.5 * math.log(point.perplexity), rel=1e-5)
    assert mixed[-1].perplexity < mixed[0].perplexity


def test_distillation_wants_a_fitting_teacher(make_model: Callable[..., Path], run: Callable[..., Healed]) -> None:
    with pytest.raises(ConfigError, match="needs a teacher"):
        run(make_model("llama"), HealByDistillationOptions(**QUICK))
    with pytest.raises(CheckpointError, match="vocabulary of 120 differs from"):
        run(make_model("llama"), HealByDistillationOptions(**QUICK), teacher=make_model("llama", vocab_size=120))


# The loop


@pytest.mark.parametrize("keep_zeros", [False, True])
def test_seed_decides_the_bytes(
    keep_zeros: bool, make_model: Callable[..., Path], run: Callable[..., Healed], tmp_path: Path
) -> None:
    contents, results = [], []
    for seed in (3, 3, 4):
        torch.manual_seed(len(contents))  # the caller's own generator must not matter
        state = torch.get_rng_state()
        results.append(run(make_model("qwen3"), LoraOptions(**QUICK, seed=seed, dropout=0.1), keep_zeros=keep_zeros))
        assert torch.equal(torch.get_rng_state(), state)
        contents.append((tmp_path / "healed" / "model.safetensors").read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert results[0] == results[1]


def test_accumulated_batches_equal_a_large_one(make_model: Callable[..., Path], run: Callable[..., Healed]) -> None:
    sizes = ({"batch_size": 4}, {"batch_size": 2, "gradient_accumulation": 2})
    histories = [run(make_model("llama"), LoraOptions(**(QUICK | size))).history.train for size in sizes]
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_samples_are_gone_through_again(
    make_model: Callable[..., Path], run: Callable[..., Healed], tokens: torch.Tensor
) -> None:
    """Ten steps of four from six samples: every step is full, and the curve is where it was asked for."""
    history = run(make_model("llama"), LoraOptions(steps=10, batch_size=4, checks=3)).history
    assert len(history.train) == 10
    assert [point.step for point in history.held_out] == [0, 5, 10]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_every_update_counts(
    schedule: str, make_model: Callable[..., Path], run: Callable[..., Healed], tmp_path: Path
) -> None:
    """Also the first of a warm-up: a training of one update alone changes weights."""
    parent = make_model("llama")
    options = LoraOptions(**(QUICK | {"steps": 1, "warmup": 0.9, "checks": 2, "schedule": schedule}))
    points = run(parent, options).history.held_out
    assert points[1].loss != points[0].loss


def test_rate_rises_to_the_peak_and_falls_towards_zero() -> None:
    assert [rate(step, 6, 0.5) for step in range(6)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3])
    cosine = [rate(step, 6, 0.5, "cosine") for step in range(6)]
    assert cosine == pytest.approx([1 / 3, 2 / 3, 1, 1, 3 / 4, 1 / 4])
    assert [rate(step, 2, 0.0) for step in range(2)] == [1, 0.5]
    assert [rate(step, 2, 1.0) for step in range(2)] == [0.5, 1]


def test_divergence_leaves_nothing_behind(
    make_model: Callable[..., Path], run: Callable[..., Healed], tmp_path: Path
) -> None:
    wild = LoraOptions(**(QUICK | {"warmup": 0.0})).model_copy(update={"learning_rate": 1e30})
    for steps in (1, 4):
        with pytest.raises(CheckpointError, match=r"diverged.*lower healing's learning_rate, now 1e\+30"):
            run(make_model("llama"), wild.model_copy(update={"steps": steps}))
    assert not list(tmp_path.iterdir())


def test_damaged_parent_is_not_blamed_on_the_learning_rate(run: Callable[..., Healed], tmp_path: Path) -> None:
    model = build_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "parent")
    with pytest.raises(CheckpointError, match="holds NaN or infinite values"):
        run(tmp_path / "parent")
    assert not list(tmp_path.glob("*healed*"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.ones(20, dtype=torch.int64), r"not torch\.int64 \(20,\)"),
        (torch.ones(2, 20, dtype=torch.int32), r"not torch\.int32"),
        (torch.ones(0, 20, dtype=torch.int64), r"\(0, 20\)"),
        (torch.ones(2, 1, dtype=torch.int64), r"\(2, 1\)"),
        (torch.full((2, 20), VOCABULARY), "do not fit a vocabulary"),
    ],
)
@pytest.mark.parametrize("role", ["train", "held_out"])
def test_wrong_tokens_are_refused(
    role: str, wrong: torch.Tensor, message: str, make_model: Callable[..., Path], run: Callable[..., Healed]
) -> None:
    with pytest.raises(DataError, match=message):
        run(make_model("llama"), **{role: wrong})


# Going on after a kill


class Killed(BaseException):
    pass


HEALED: dict[str, tuple[str, type[HealingOptions]]] = {
    "lora": ("Dense", LoraOptions),
    "lora of zeros": ("Magnitude_2of4", LoraOptions),
    "kd": ("Dense", HealByDistillationOptions),
    "kd of zeros": ("Magnitude_2of4", HealByDistillationOptions),
}
LONG: dict[str, Any] = {"steps": 6, "batch_size": 2, "learning_rate": 1e-2, "checks": 4, "dropout": 0.1}


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int, heal: Callable[[], Any]) -> None:
    """Start a healing that ends before an update."""
    begin = HealingTask.begin

    def die(task: HealingTask, at: int) -> None:
        if at == step:
            raise Killed
        begin(task, at)

    with monkeypatch.context() as patched:
        patched.setattr(HealingTask, "begin", die)
        with pytest.raises(Killed):
            heal()


@pytest.mark.parametrize("case", HEALED)
def test_interrupted_healing_ends_as_if_nothing_had_been(
    case: str,
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    run: Callable[..., Healed],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    name, kind = HEALED[case]
    base = make_model("qwen3")
    parent = make_parent(name, {}, base) / "model"
    arguments = {"keep_zeros": PARENTS[name][1], "teacher": base, "resume_point": tmp_path / "at"}
    whole = run(parent, kind(**LONG), **arguments | {"resume_point": None})
    expected = (tmp_path / "healed" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "healed")
    killed_at(monkeypatch, 5, lambda: run(parent, kind(**LONG), **arguments))
    assert not (tmp_path / "healed").exists()
    assert read_json(tmp_path / "at" / "state.json")["history"]["step"] == 4
    updates: list[int] = []
    monkeypatch.setattr(HealingTask, "begin", lambda task, step: (updates.append(step), task.model.train()))
    assert run(parent, kind(**LONG), **arguments) == whole
    assert updates == [4, 5]
    assert (tmp_path / "healed" / "model.safetensors").read_bytes() == expected


@pytest.mark.parametrize("other", ["options", "tokens", "held-out tokens", "zeros", "parent", "teacher"])
def test_the_resume_point_of_another_healing_is_not_taken_up(
    other: str,
    make_model: Callable[..., Path],
    run: Callable[..., Healed],
    tokens: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    base, changed = make_model("llama"), tmp_path / "changed"
    model = build_model("llama")
    model.lm_head.weight.data[0, 0] += 1
    model.save_pretrained(changed)
    first = {"parent": base, "options": HealByDistillationOptions(**LONG), "teacher": base}
    second = {
        "options": {"options": HealByDistillationOptions(**LONG, seed=1)},
        "tokens": {"train": tokens.flip(0)},
        "held-out tokens": {"held_out": tokens.flip(0)},
        "zeros": {"keep_zeros": True},
        "parent": {"parent": changed},
        "teacher": {"teacher": changed},
    }[other]
    killed_at(monkeypatch, 5, lambda: run(**first, resume_point=tmp_path / "at"))
    updates: list[int] = []
    monkeypatch.setattr(HealingTask, "begin", lambda task, step: (updates.append(step), task.model.train()))
    run(**first | second, resume_point=tmp_path / "at")
    assert updates == [0, 1, 2, 3, 4, 5]


def test_killed_job_goes_on(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, ended by SIGKILL in the middle of the step that needs most: teacher, adapters, dropout."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    base = str(make_model("llama"))
    arguments = ["heal", "--model", base, "--step", "kd", "--teacher", base, "--device", "cpu", "--no-progress"]
    arguments += ["--tokens", str(token_file), "--held-out", str(token_file)]
    for option in ("steps=60", "checks=20", "batch_size=2", "learning_rate=0.01", "dropout=0.1"):
        arguments += ["--option", option]
    killed, whole = killed_and_whole(arguments, tmp_path)
    assert {path.name for path in killed.iterdir()} == {"model", "step.json", "pruning.json", "healing.png"}
    assert (killed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    steps = [read_json(folder / "step.json") for folder in (killed, whole)]
    assert all(step.pop("run") for step in steps) and steps[0] == steps[1]


# Options, figure, imports


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ValidationError, match=r"unknown linear layer 'q_prj'; did you mean 'q_proj'\?"):
        LoraOptions(targets=("q_prj", "up_proj"))
    with pytest.raises(ValidationError, match="at least 1 item"):
        LoraOptions(targets=())


def test_options_survive_json() -> None:
    options = HealByDistillationOptions(targets=("q_proj",), temperature=3.0)
    assert HealByDistillationOptions(**options.model_dump(mode="json")) == options
    for model in (LoraOptions, HealByDistillationOptions):
        assert all(field.description for field in model.model_fields.values())


def test_curve_is_drawn(
    make_model: Callable[..., Path],
    run: Callable[..., Healed],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
    result = run(make_model("llama"))
    told = {"variant": "GQA_2000+lora", "name": "lora", "options": {}, "run": Run({}).describe(), **dict(result)}
    FIGURES["healing"].draw(HealingFile.model_validate(told), tmp_path / "figure.png")
    before, after = result.perplexity.before, result.perplexity.after
    axes = figures[0].axes[0]
    assert axes.get_title() == f"GQA_2000+lora: held-out perplexity {before:.1f} → {after:.1f}"
    curves = {str(line.get_label()): list(line.get_ydata()) for line in axes.lines}
    assert curves["train, every batch"] == list(result.history.train)
    assert curves["held out"] == [point.loss for point in result.history.held_out]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_running_mean_starts_at_the_first_value(tmp_path: Path) -> None:
    assert running_mean([4.0, 4.0, 4.0], 0.9) == pytest.approx([4.0] * 3)
    assert running_mean([1.0, 3.0], 0.5) == pytest.approx([1.0, (1 * 0.25 + 3 * 0.5) / 0.75])
    plot_loss_curve(tmp_path / "one.png", [1.0], [], title="one step", label="none")
    assert (tmp_path / "one.png").exists()


def test_importing_is_cheap() -> None:
    code = (
        "import sys, llm_pruner.training.heal, llm_pruner.training.options, llm_pruner.training.adapters;"
        "assert not {'torch', 'transformers', 'peft', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

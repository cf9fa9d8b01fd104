"""Blocks trained towards the dense model: the errors that are told, by brute force, and going on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.data.tokens import read_tokens
from llm_pruner.planning.plan import Plan
from llm_pruner.repairs import reconstruction
from llm_pruner.repairs.finished import FinishedBlocks
from llm_pruner.repairs.local import LocalOptions
from llm_pruner.repairs.records import BlockRepairRecord
from llm_pruner.system.errors import CheckpointError, PlanError, PrunerError
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.make import prune
from llm_pruner.variants.records import PruningRecord
from tests.mechanisms.cases.base import with_weights_of, zero_planned
from tests.tiny.making import make
from tests.tiny.models import build_model

QUICK = {"held_out": 0.34, "epochs": 3, "learning_rate": 0.05, "batch_size": 4}
"""Four of the six samples are fitted."""


def streams(model: Any, tokens: torch.Tensor) -> dict[tuple[int, str], torch.Tensor]:
    """The residual stream behind every block of a whole model, [samples, length, hidden]."""
    seen: dict[tuple[int, str], torch.Tensor] = {}
    for index, layer in enumerate(model.model.layers):
        layer.post_attention_layernorm.register_forward_pre_hook(
            lambda _module, states, key=(index, "attention"): seen.update({key: states[0].double()})
        )
        layer.register_forward_hook(
            lambda _module, _states, output, key=(index, "mlp"): seen.update({key: output.double()})
        )
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    return seen


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Squared distance by squared norm, the mean over tokens."""
    return float(((found - wanted).square().sum(-1) / wanted.square().sum(-1)).mean())


def whole_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Squared distance by squared norm, of all tokens together."""
    return float((found - wanted).square().sum() / wanted.square().sum())


@pytest.mark.parametrize(
    ("name", "take_out", "weigh", "error"),
    [
        ("Magnitude_2000", zero_planned, "stream", error),
        ("Wanda_2of4", with_weights_of, "equal", whole_error),
    ],
    ids=["width", "zeros"],
)
def test_told_errors_are_those_of_the_stream_on_held_out_samples(
    name: str,
    take_out: Callable[..., Any],
    weigh: str,
    error: Callable[..., float],
    make_model: Callable[..., Path],
    token_file: Path,
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    make(name, {}, make_model(), token_file, tmp_path / "cut")
    repair = {"local": {**QUICK, "weigh": weigh}}
    record = make(name, {"repair": repair}, make_model(), token_file, tmp_path / "repaired")
    held_out = tokens[4:]
    dense = streams(build_model("llama"), held_out)
    cut = streams(take_out(build_model("llama"), tmp_path / "cut"), held_out)
    repaired = streams(llm_pruner.load(tmp_path / "repaired" / "model"), held_out)
    assert record.repair and not record.repair.linears
    first, *_ = blocks = record.repair.blocks
    # nothing is repaired in front of the first
    key = (first.layer, first.block)
    assert first.before == pytest.approx(error(cut[key], dense[key]), rel=1e-3)
    for told in blocks:
        key = (told.layer, told.block)
        # and what is repaired later does not change what is in front of it
        written = error(repaired[key], dense[key])
        assert written == pytest.approx(told.after if told.kept else told.before, rel=1e-3)
        assert told.kept is (told.after < told.before)
    assert any(told.kept for told in blocks)
    last = max(dense)
    assert error(repaired[last], dense[last]) < error(cut[last], dense[last])
    (note,) = (note for note in record.notes if note.startswith("local"))
    assert f"of {len(blocks)} blocks" in note


def test_all_linear_layers_of_a_block_learn_and_nothing_else(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    base = make_model()
    # of a model of width alone whose MLP is cut, attention stays as it is to the bit
    options = {"split": "0:1", "repair": {"local": {**QUICK, "inputs": "dense"}}}
    record = make("Magnitude_2000", options, base, token_file, tmp_path)
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    assert record.repair
    kept = {told.layer for told in record.repair.blocks if told.kept}
    assert kept and {told.block for told in record.repair.blocks} == {"mlp"}
    for layer in Plan.read(tmp_path / "plan.json").layers:
        channels = list(layer.channels)
        for name in (name for name in before if name.startswith(f"model.layers.{layer.index}.")):
            was = before[name]
            if ".gate_proj." in name or ".up_proj." in name:
                was = was[channels]
            elif name.endswith("down_proj.weight"):
                was = was[:, channels]
            learnt = ".mlp." in name and layer.index in kept
            assert torch.equal(was, after[name]) is not learnt, name


def test_a_repair_that_makes_it_worse_is_not_kept(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    base = make_model(num_hidden_layers=2)
    make("Wanda_2of4", {}, base, token_file, tmp_path / "cut")
    wild = {"local": {**QUICK, "learning_rate": 1e4, "epochs": 1}}
    record = make("Wanda_2of4", {"repair": wild}, base, token_file, tmp_path / "repaired")
    assert record.repair and not any(told.kept for told in record.repair.blocks)
    assert len(record.repair.blocks) == 4
    cut, repaired = (tmp_path / run / "model" / "model.safetensors" for run in ("cut", "repaired"))
    assert cut.read_bytes() == repaired.read_bytes()


def test_a_diverging_block_is_named_with_the_way_out(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    wild = {"local": {**QUICK, "learning_rate": 1e12}}
    with pytest.raises(CheckpointError, match=r"layer 0, attention: training diverged.*learning_rate, which is 1e\+12"):
        make("Wanda_2of4", {"repair": wild}, make_model(), token_file, tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_model_in_bfloat16_stays_in_it(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base = tmp_path / "base"
    build_model("qwen3", num_hidden_layers=2).bfloat16().save_pretrained(base)
    record = make("Wanda_2of4", {"repair": {"local": QUICK}}, base, token_file, tmp_path / "out")
    assert record.repair and any(told.kept for told in record.repair.blocks)
    weights = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    for name, weight in weights.items():
        if "_proj." in name:
            assert ((weight == 0).view(-1, 4).sum(1) == 2).all()


def test_what_is_on_the_device_at_once_changes_nothing(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    variant = resolve("Wanda_2of4", {"repair": {"local": QUICK}})
    base, weights = make_model(num_hidden_layers=2), []
    for size in (1, 3):
        place = tmp_path / str(size)
        prune(variant, base, place, calibration=token_file, device="cpu", batch_size=size)
        weights.append(load_file(place / "model" / "model.safetensors"))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-3, atol=1e-3)


class Killed(BaseException):
    """As by an interrupt."""


@contextmanager
def killed_in_block(number: int | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The blocks that are trained; with a number, a kill in the middle of that one."""
    trained: list[str] = []
    gradients = reconstruction._BlockTask.gradients

    def train(task: Any, step: int) -> float:
        if step == 0:
            trained.append(f"{task.layer} {task.block}")
        if len(trained) == number and step == 2:
            raise Killed
        return gradients(task, step)

    with monkeypatch.context() as patched:
        patched.setattr(reconstruction._BlockTask, "gradients", train)
        yield trained


@pytest.mark.parametrize(("name", "inputs"), [("Wanda_2of4", "sequential"), ("Magnitude_3000", "dense")])
def test_a_killed_repair_goes_on_behind_its_last_block(
    name: str,
    inputs: str,
    make_model: Callable[..., Path],
    token_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"repair": {"local": {**QUICK, "inputs": inputs}}}
    base = make_model("qwen3", num_hidden_layers=2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with killed_in_block(None, monkeypatch) as all_blocks:
        expected = make(name, options, base, token_file, whole)
    with killed_in_block(3, monkeypatch), pytest.raises(Killed):
        make(name, options, base, token_file, killed)
    assert not (killed / "model").exists()
    assert len(list((killed / "resume_point").glob("*.safetensors"))) == 2
    with killed_in_block(None, monkeypatch) as rest:
        record = make(name, options, base, token_file, killed)
    assert rest == all_blocks[2:] != []
    assert (record.repair, record.notes) == (expected.repair, expected.notes)
    first, second = (folder / "model" / "model.safetensors" for folder in (whole, killed))
    assert first.read_bytes() == second.read_bytes()
    assert not (killed / "resume_point").exists()
    assert PruningRecord.read(killed / "pruning.json").repair == expected.repair


MASK = {"mlp.down_proj": torch.tensor([True, False, False])}
OTHER_MASK = {"mlp.down_proj": torch.tensor([False, True, False])}
RECORD = BlockRepairRecord(layer=1, block="mlp", before=2.0, after=1.0, step=3, kept=True)


def test_a_finished_block_is_given_back_as_it_was(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    tokens = read_tokens(token_file)
    weights = {"mlp.down_proj.weight": torch.rand(2, 3).bfloat16(), "mlp.up_proj.weight": torch.rand(3, 2)}

    def blocks(options: LocalOptions, base: Path, samples: torch.Tensor) -> FinishedBlocks:
        return FinishedBlocks.of(tmp_path / "at", base, samples, options)

    own = LocalOptions(), make_model(), tokens
    writing = blocks(*own)
    assert writing.take(0, "mlp", MASK) is None
    assert writing.take(1, "mlp", MASK) is None
    writing.keep(weights, RECORD)
    reading = blocks(*own)
    reading.take(0, "mlp", MASK)
    found = reading.take(1, "mlp", MASK)
    assert found
    assert found[1] == RECORD
    assert all(torch.equal(found[0][name], weight) for name, weight in weights.items())

    # another seed, other samples, another base: another repair
    others = (LocalOptions(seed=1), *own[1:]), (*own[:2], tokens.flip(0)), (own[0], make_model("qwen3"), tokens)
    for other in others:
        theirs = blocks(*other)
        theirs.take(0, "mlp", MASK)
        assert theirs.take(1, "mlp", MASK) is None
    # so is what another mask was cut by, in this block or in one before
    for first, second in ((MASK, OTHER_MASK), (OTHER_MASK, MASK)):
        theirs = blocks(*own)
        theirs.take(0, "mlp", first)
        assert theirs.take(1, "mlp", second) is None


def test_nothing_is_written_into_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "at").mkdir()
    (tmp_path / "at" / "diary.txt").write_text("mine")
    blocks = FinishedBlocks(tmp_path / "at", "")
    blocks.take(1, "mlp", MASK)
    with pytest.raises(PrunerError, match="not made by this tool"):
        blocks.keep({}, RECORD)


def test_a_sliced_model_is_refused(
    make_model: Callable[..., Path], make_parent: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    folder = make_parent("SliceGPT_2500", {}, make_model()) / "model"
    with pytest.raises(PlanError, match="sliced already"):
        make("Magnitude_2of4", {"repair": {"local": QUICK}}, folder, token_file, tmp_path)

"""Amounts that count parameters really gone, for mechanisms whose usual amount counts something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.slice_widths import sliced_parameters
from llm_pruner.system.errors import ConfigError, PlanError
from llm_pruner.system.files import read_json
from llm_pruner.variants.grammar import resolve
from tests.tiny.families import FAMILIES
from tests.tiny.making import make

MakeModel = Callable[..., Path]


def removed(base: Path, output: Path) -> float:
    """Share of the base's parameters that went, counted in the two checkpoints."""
    before, after = (read_architecture(folder).total_parameters for folder in (base, output / "model"))
    return 1 - after / before


@pytest.mark.parametrize("schedule", ["constant", "variance"])
@pytest.mark.parametrize("family", FAMILIES)
def test_slices_really_remove_the_share_and_wider_ones_would_not(
    family: str, schedule: str, make_model: MakeModel, token_file: Path, tmp_path: Path
) -> None:
    base = make_model(family)
    options = {"of": "parameters", "multiple_of": 2, "schedule": schedule}
    record = make("SliceGPT_slim_2000", options, base, token_file, tmp_path)
    assert removed(base, tmp_path) >= 0.2
    assert (record.reached.amount, record.reached.of) == (pytest.approx(removed(base, tmp_path)), "parameters")
    architecture = read_architecture(base)
    *widths, _ = read_json(tmp_path / "model" / "config.json")["sliced"]["widths"]
    parameters = sliced_parameters(architecture)
    assert parameters(widths) == read_architecture(tmp_path / "model").total_parameters
    if schedule == "constant":
        assert parameters([width + 2 for width in widths]) > 0.8 * architecture.total_parameters


def test_slices_of_the_hidden_width_may_grow_the_model(make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    """A tied embedding is untied, and the record says what came of it."""
    base = make_model("qwen3")
    record = make("SliceGPT_0500", {"multiple_of": 2}, base, token_file, tmp_path)
    assert removed(base, tmp_path) < 0
    assert any("more than the base" in note and "of: parameters" in note for note in record.notes)


def test_a_share_that_no_slices_remove(make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"slicing cannot remove 99\.00% of the parameters: a width of 8, the smallest"):
        make("SliceGPT_9900", {"of": "parameters"}, make_model("llama"), token_file, tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("drop", ["layer", "attention", "mlp"])
@pytest.mark.parametrize("ratio", [0.02, 0.15, 0.3])
def test_the_nearest_number_of_layers_goes(
    drop: str, ratio: float, make_model: MakeModel, token_file: Path, tmp_path: Path
) -> None:
    """Against the models with one, two and three of them gone."""
    base = make_model("llama")
    shares = []
    for count in (1, 2, 3):
        make(f"ShortGPT_remove_{count}", {"drop": drop}, base, token_file, tmp_path / str(count))
        shares.append(removed(base, tmp_path / str(count)))
    ratio = min(ratio, shares[-1])
    suffix = f"{round(10_000 * ratio):04d}"
    record = make(f"ShortGPT_{suffix}", {"drop": drop}, base, token_file, tmp_path / "share")
    nearest = min(shares, key=lambda share: abs(share - ratio))
    assert removed(base, tmp_path / "share") == nearest
    assert (record.asked.amount, record.asked.of) == (int(suffix) / 10_000, "parameters")
    assert (record.reached.amount, record.reached.of) == (pytest.approx(nearest), "parameters")
    assert record.notes[0].endswith("the nearest number.")


def test_a_share_that_the_layers_do_not_hold(make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    base = make_model("llama")
    with pytest.raises(
        PlanError, match=r"ShortGPT_9500: 95\.00% of the parameters cannot be removed; the 3 removable layers hold"
    ):
        make("ShortGPT_9500", {}, base, token_file, tmp_path)
    with pytest.raises(PlanError, match="4 of them protected by protect_first and protect_last, none can be removed"):
        make("ShortGPT_1000", {"protect_first": 4}, base, token_file, tmp_path)


def test_a_share_of_more_layers_than_a_method_ranks(make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="SLEB ranks 1 of the model's 4 layers; set the option steps to"):
        make("SLEB_4000", {"steps": 1}, make_model("llama"), token_file, tmp_path)


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("ShortGPT_remove_2", "parameters", "an amount written _remove_2 counts layers, not parameters"),
        ("ShortGPT_2000", "layers", "an amount written _2000 counts parameters, not layers; write Method_remove_2 or"),
        ("Wanda_2of4", "parameters", "an amount by sparse always counts weights; leave 'of' out"),
        ("Wanda_2000", "hidden", "an amount by width always counts parameters; leave 'of' out"),
        ("SliceGPT_2000", "layers", "of: "),
    ],
)
def test_of_where_it_makes_no_sense(name: str, of: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(name, {"of": of})


@pytest.mark.parametrize(
    ("name", "options"),
    [("Wanda_2000", {"of": "parameters"}), ("Wanda_2of4", {"of": "weights"}), ("ShortGPT_remove_2", {"of": "layers"})],
)
def test_of_may_say_what_is_so_anyway(name: str, options: dict[str, Any]) -> None:
    assert resolve(name, options) == resolve(name)


def test_amounts_for_people() -> None:
    depth, slices = get_mechanism("depth"), get_mechanism("slice")
    assert (depth.describe(2, "layers"), depth.describe(0.2, "parameters")) == ("2 layers", "20.00 %")
    assert (slices.describe(0.2, "hidden"), slices.describe(0.2, "parameters")) == ("20.00 % hidden", "20.00 %")
    assert depth.write("depth", 0.2) == "_2000"

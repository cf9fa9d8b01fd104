"""Tables, workbook and figures of a small run whose numbers are known."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from openpyxl import load_workbook

from llm_pruner.analysis.comparison import compare
from llm_pruner.analysis.records import ModelStructure
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.report.figures import FIGURES, RUN, layer_reduction, quality_against_size
from llm_pruner.report.figures import divergence as divergence_figure
from llm_pruner.report.figures.layer_scores import layer_series
from llm_pruner.report.figures.quality_against_size import draw_quality, pareto_front
from llm_pruner.report.style import ceiling, method_styles, run_styles
from llm_pruner.report.table import (
    Model,
    Results,
    collect,
    efficiency_table,
    layers_table,
    markdown,
    paired,
    provenance_table,
    read_results,
    summary_table,
    write_csv,
    zero_shot_table,
)
from llm_pruner.report.workbook import write_workbook
from llm_pruner.system.errors import DataError
from tests.tiny import ROOT

OF_RUN = [name for name, figure in FIGURES.items() if figure.shows == RUN]
ORDER = ["Magnitude_2000", "Dense", "ShortGPT_remove_1", "Wanda_2of4", "Random_5000"]


def run(seconds: float, device: str = "cpu") -> dict[str, Any]:
    return {
        "started": f"2026-01-0{1 + int(seconds) % 9}T10:00:00+00:00",
        "seconds": seconds,
        "seed": 0,
        "device": device,
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
        "options": {},
        "versions": {"python": "3.12.3", "torch": "2.13.0"},
    }


def analysis(name: str, layers: list[tuple[int, int, int, int]]) -> ModelStructure:
    """An analysis of layers given as (attention, its non-zeros, MLP, its non-zeros); nothing lies outside them."""
    attention, mlp = sum(layer[0] for layer in layers), sum(layer[2] for layer in layers)
    attention_nonzero, mlp_nonzero = sum(layer[1] for layer in layers), sum(layer[3] for layer in layers)
    total, nonzero = attention + mlp, attention_nonzero + mlp_nonzero
    held = {
        "name": name,
        "model_type": "llama",
        "hidden_size": 8,
        "num_layers": sum(layer[0] > 0 for layer in layers),
        "totals": {
            "parameters": total,
            "nonzero": nonzero,
            "sparsity": 1 - nonzero / total,
            "bytes_on_disk": 2 * total,
            "parts": {
                "attention": {"parameters": attention, "nonzero": attention_nonzero},
                "mlp": {"parameters": mlp, "nonzero": mlp_nonzero},
            },
        },
        "layers": [
            {
                "layer_idx": index,
                "position": index if a else None,
                "attention": {"parameters": a, "nonzero": a0, "heads": 2, "key_value_groups": 1, "head_dim": 4},
                "mlp": {"parameters": m, "nonzero": m0, "channels": 4},
                "parameters": a + m,
                "nonzero": a0 + m0,
                "sparsity": 0.0,
            }
            for index, (a, a0, m, m0) in enumerate(layers)
        ],
    }
    return ModelStructure.model_validate(held)


BASE = [(100, 100, 300, 300)] * 2
LAYERS = {
    "Dense": BASE,
    "Magnitude_2000": [(80, 80, 240, 240)] * 2,
    "ShortGPT_remove_1": [(100, 100, 300, 300), (0, 0, 0, 0)],
    "Wanda_2of4": [(100, 50, 300, 150)] * 2,
    "Random_5000": [(50, 50, 150, 150)] * 2,
}
KINDS: dict[str, tuple[str, str, str, Any, Any]] = {
    "Dense": ("Dense", "dense", "dense", None, None),
    "Magnitude_2000": (
        "Magnitude",
        "width",
        "width",
        {"amount": 0.2, "of": "parameters"},
        {"amount": 0.2003, "of": "parameters"},
    ),
    "ShortGPT_remove_1": ("ShortGPT", "depth", "depth", {"amount": 1, "of": "layers"}, {"amount": 1, "of": "layers"}),
    "Wanda_2of4": ("Wanda", "sparse", "2:4", {"amount": 0.5, "of": "weights"}, {"amount": 0.5, "of": "weights"}),
    "Random_5000": ("Random", "width", "width", {"amount": 0.5, "of": "parameters"}, None),
}
PERPLEXITY = {"Dense": 10.0, "Magnitude_2000": 15.0, "ShortGPT_remove_1": 20.0, "Wanda_2of4": 12.0}
DIVERGENCE = {"Dense": 0.0, "Magnitude_2000": 0.5, "Wanda_2of4": 0.25}
ACCURACY = {"Dense": 0.5, "Magnitude_2000": 0.45, "Wanda_2of4": 0.48, "Random_5000": 0.25}
DECODE_SECONDS = {"Dense": 0.004, "Magnitude_2000": 0.002, "ShortGPT_remove_1": 0.0025}


def divergence(mean: float) -> dict[str, Any]:
    text = {"weights": "w", "tokens": "t", "window": 256, "stride": 256, "max_windows": None, "vocabulary": 49152}
    return {
        "mean_kl": mean,
        "mean_kl_stderr": mean / 10,
        "median_kl": mean / 2,
        "p99_kl": 5 * mean,
        "same_top": 1 - mean,
        "same_top_stderr": 0.01,
        "top": 1024,
        "window_kl": [mean] * 4,
        "reference": text,
    }


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Five models; Random has no perplexity, ShortGPT no zero-shot, Wanda and Random no efficiency results."""
    dense = analysis("Dense", BASE)
    for name, (method, mechanism, structure, asked, reached) in KINDS.items():
        folder = tmp_path / "baselines" / name
        compare(dense, analysis(name, LAYERS[name])).write(folder / "analysis" / "model_comparison.json")
        write(
            folder / "pruning.json",
            {
                "variant": name,
                "method": method,
                "mechanism": mechanism,
                "structure": structure,
                "parent": None if name == "Dense" else "Dense",
                "asked": asked,
                "reached": reached,
                "options": {} if name == "Dense" else {"allocation": "uniform", "samples": 8},
                "notes": ["=not a formula"] if name == "Wanda_2of4" else [],
                "scores": [],
                "seconds": {"scoring": 1.2, "pruning": 3.1, "total": 4.3},
                "run": run(4.3),
            },
        )
        evaluation = folder / "evaluation"
        if name in PERPLEXITY:
            write(
                evaluation / "perplexity.json",
                {
                    "model": name,
                    "dataset": "builtin",
                    "split": "test",
                    "window": 256,
                    "stride": 256,
                    "windows": 4,
                    "tokens": 1020,
                    "nll": 2.3,
                    "perplexity": PERPLEXITY[name],
                    "bits_per_byte": None,
                    **({"divergence": divergence(DIVERGENCE[name])} if name in DIVERGENCE else {}),
                    "run": run(2.0, "cuda:0" if name == "Dense" else "cpu"),
                },
            )
        if name in ACCURACY:
            acc = ACCURACY[name]
            write(
                evaluation / "zero_shot.json",
                {
                    "model": name,
                    "tasks": {
                        "arc": {"acc": acc + 0.1, "acc_stderr": 0.02, "acc_norm": acc, "acc_norm_stderr": 0.03}
                        | {"items": 400, "num_fewshot": 0, "perplexity": None, "perplexity_stderr": None},
                        "boolq": {"acc": acc - 0.1, "acc_stderr": 0.01, "acc_norm": None, "acc_norm_stderr": None}
                        | {"items": 90, "num_fewshot": 5, "perplexity": 10 / acc, "perplexity_stderr": 1.5},
                    },
                    "mean": {"acc": acc, "acc_stderr": 0.015, "acc_norm": acc - 0.05},
                    "run": run(8.0),
                },
            )
        if name in DECODE_SECONDS:
            seconds = DECODE_SECONDS[name]
            write(
                evaluation / "efficiency.json",
                {
                    "model": name,
                    "load_seconds": 0.5,
                    "bytes_on_disk": 1600,
                    "peak_memory_bytes": 5_000_000,
                    "device": "cpu",
                    "threads": 2,
                    "prompt_length": 128,
                    "new_tokens": 32,
                    "batches": [
                        {
                            "batch_size": size,
                            "prefill_seconds": 10 * seconds,
                            "prefill_tokens_per_second": 128 * size / (10 * seconds),
                            "decode_seconds_per_token": seconds,
                            "decode_tokens_per_second": size / seconds,
                        }
                        for size in (1, 4)
                    ],
                    "run": run(6.0),
                },
            )
    return [tmp_path / "baselines" / name for name in ORDER]


@pytest.fixture
def results(folders: list[Path]) -> Results:
    return read_results(folders)


def taken(step: str, **told: Any) -> dict[str, Any]:
    """What pruning.json says of a step."""
    return {"name": step, "options": {}, "run": run(1.0), **told}


def row(frame: pd.DataFrame, variant: str) -> dict[str, Any]:
    (found,) = frame[frame["variant"] == variant].to_dict("records")
    return found


def test_the_base_comes_first_and_the_rest_keep_their_order(folders: list[Path]) -> None:
    assert collect(folders)["variant"].tolist() == [
        "Dense",
        "Magnitude_2000",
        "ShortGPT_remove_1",
        "Wanda_2of4",
        "Random_5000",
    ]


def test_a_row_holds_what_was_measured_and_its_relation_to_the_base(folders: list[Path]) -> None:
    magnitude = row(collect(folders), "Magnitude_2000")
    assert (magnitude["asked"], magnitude["reached"]) == ("20.00 %", "20.03 %")
    assert (magnitude["asked_amount"], magnitude["reached_amount"]) == (0.2, 0.2003)
    assert (magnitude["parameters"], magnitude["nonzero"], magnitude["bytes_on_disk"]) == (640, 640, 1280)
    assert magnitude["parameter_reduction"] == pytest.approx(0.2)
    assert magnitude["perplexity_ratio"] == 1.5
    keys = ("kl", "kl_stderr", "kl_median", "kl_p99", "same_top", "same_top_stderr")
    assert [magnitude[key] for key in keys] == [0.5, 0.05, 0.25, 2.5, 0.5, 0.01]
    assert magnitude["zero_shot_retention"] == pytest.approx(0.9)
    assert (magnitude["acc_arc"], magnitude["acc_boolq"]) == (pytest.approx(0.55), pytest.approx(0.35))
    assert (magnitude["decode_ms"], magnitude["decode_speedup"], magnitude["prefill_ms"]) == (2.0, 2.0, 20.0)
    assert (magnitude["throughput_1"], magnitude["throughput_4"]) == (500, 2000)
    assert magnitude["pruning_seconds"] == 4.3


def test_depth_and_sparse_models_say_what_they_took(folders: list[Path]) -> None:
    frame = collect(folders)
    short, sparse = row(frame, "ShortGPT_remove_1"), row(frame, "Wanda_2of4")
    assert (short["asked"], short["layers"], short["parameter_reduction"]) == ("1 layer", 1, 0.5)
    assert (sparse["parameters"], sparse["nonzero"], sparse["parameter_reduction"]) == (800, 400, 0)
    assert (sparse["reached"], row(frame, "Random_5000")["asked"]) == ("50.00 % zeros", "50.00 %")
    assert pd.isna(row(frame, "Dense")["asked"]) and pd.isna(row(frame, "Random_5000")["reached"])


def test_what_was_not_measured_is_empty_and_never_zero(folders: list[Path], tmp_path: Path) -> None:
    frame = collect([*folders, tmp_path / "baselines" / "Later_2000"])
    missing = {
        "Random_5000": ["perplexity", "perplexity_ratio", "reached", "decode_ms", "decode_speedup", "throughput_4"],
        "ShortGPT_remove_1": [
            "zero_shot_acc",
            "zero_shot_acc_norm",
            "zero_shot_retention",
            "acc_arc",
            "kl",
            "same_top",
        ],
        "Dense": ["asked", "reached", "bits_per_byte"],
        "Later_2000": [key for key in frame.columns if key != "variant"],
    }
    for variant, keys in missing.items():
        assert all(pd.isna(row(frame, variant)[key]) for key in keys), variant


def test_without_the_base_relative_numbers_are_empty(folders: list[Path]) -> None:
    frame = collect([folder for folder in folders if folder.name != "Dense"])
    assert frame[["perplexity_ratio", "zero_shot_retention", "decode_speedup"]].isna().all(axis=None)
    assert row(frame, "Magnitude_2000")["perplexity"] == 15


@pytest.mark.parametrize("content", ['{"perplexity": 1', "[1]"])
def test_a_damaged_file_is_named(folders: list[Path], content: str) -> None:
    (folders[0] / "evaluation" / "perplexity.json").write_text(content)
    with pytest.raises(DataError, match=r"Magnitude_2000/evaluation/perplexity\.json"):
        collect(folders)


def test_layers_show_removed_and_zeroed_alike(results: Results) -> None:
    frame = layers_table(results).frame
    assert frame["block"].unique().tolist() == ["Attention", "MLP", "Layer"]
    attention = frame[frame["block"] == "Attention"].set_index("variant")
    assert attention.loc["ShortGPT_remove_1", ["layer_0", "layer_1"]].tolist() == [0, 1]
    assert attention.loc["Wanda_2of4", ["layer_0", "layer_1"]].tolist() == [0.5, 0.5]
    assert attention.loc["Magnitude_2000", "layer_1"] == pytest.approx(0.2)


def test_zero_shot_leaves_out_a_metric_that_no_model_has(results: Results) -> None:
    frame = zero_shot_table(results).frame
    assert {"arc_acc", "arc_acc_stderr", "arc_acc_norm", "arc_acc_norm_stderr", "boolq_acc"} <= set(frame.columns)
    assert not {"boolq_acc_norm", "arc_perplexity", "arc_perplexity_stderr"} & set(frame.columns)
    assert row(frame, "Dense")["boolq_perplexity"] == 10 / ACCURACY["Dense"]
    assert row(frame, "Dense")["boolq_perplexity_stderr"] == 1.5
    assert row(frame, "Dense")["arc_acc_norm_stderr"] == 0.03


def test_efficiency_has_columns_for_every_batch_size(results: Results) -> None:
    dense = row(efficiency_table(results).frame, "Dense")
    assert (dense["prefill_ms_1"], dense["decode_ms_4"], dense["decode_tokens_per_second_4"]) == (40, 4, 1000)
    assert (dense["threads"], dense["prompt_length"]) == (2, 128)


def test_speed_up_compares_what_was_timed_in_turn(folders: list[Path]) -> None:
    """A base that was measured while the machine was twice as fast does not make the others slow."""
    file = folders[ORDER.index("Magnitude_2000")] / "evaluation" / "efficiency.json"
    record = json.loads(file.read_text())
    own = record["batches"][0]["decode_seconds_per_token"]
    beside = {"decode_seconds_per_token": 9 * own, "decode_seconds_per_token_median": 1.25 * own}
    record["base_batches"] = [{**record["batches"][0], **beside}]
    write(file, record)
    pruned = row(summary_table(read_results(folders)).frame, "Magnitude_2000")
    assert (pruned["decode_speedup"], pruned["decode_time_share"]) == (pytest.approx(1.25), pytest.approx(0.8))
    assert pruned["decode_ms"] == pytest.approx(1000 * own)
    alone = row(summary_table(read_results(folders)).frame, "ShortGPT_remove_1")
    assert alone["decode_speedup"] == pytest.approx(DECODE_SECONDS["Dense"] / DECODE_SECONDS["ShortGPT_remove_1"])


def test_provenance_names_every_value_where_jobs_differ(results: Results) -> None:
    frame = provenance_table(results).frame
    dense, wanda = row(frame, "Dense"), row(frame, "Wanda_2of4")
    assert (dense["device"], dense["seed"], dense["version_torch"]) == ("cpu / cuda:0", "0", "2.13.0")
    assert dense["started"] == "2026-01-03T10:00:00+00:00"
    assert dense["tasks"] == "arc (400 items, 0-shot), boolq (90 items, 5-shot)"
    assert (dense["dataset"], dense["window"], dense["perplexity_seconds"]) == ("builtin", 256, 2.0)
    assert wanda["options"] == 'allocation="uniform", samples=8'


def test_csv_holds_unrounded_numbers_and_empty_cells(results: Results, tmp_path: Path) -> None:
    write_csv(summary_table(results), tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as handle:
        rows = {record["variant"]: record for record in csv.DictReader(handle)}
    assert rows["Magnitude_2000"]["parameters"] == "640"
    assert rows["Magnitude_2000"]["reached_amount"] == "0.2003"
    assert rows["Random_5000"]["perplexity"] == ""


def test_markdown_is_compact_and_readable(results: Results) -> None:
    lines = markdown(summary_table(results)).splitlines()
    cells = {(line := [cell.strip() for cell in text.strip("|").split("|")])[0]: line for text in lines}
    assert cells["Variant"] == [
        *("Variant", "Asked", "Parameters", "Parameters removed", "Non-zero"),
        *(
            "Perplexity",
            "nll − Dense",
            "± s.e.",
            "KL to Dense",
            "Same next token",
            "Zero-shot acc",
            "± s.e.",
            "Accuracy kept",
        ),
        *("Decode ms per token", "Decode speed-up", "Tokens/s at batch 4"),
    ]
    assert cells["Magnitude_2000"] == [
        *("Magnitude_2000", "20.00 %", "640", "20.00 %", "640"),
        *("15.00", "", "", "0.500", "50.00 %", "45.00 %", "1.50 %", "90.00 %", "2.00", "2.00 ×", "2,000.0"),
    ]
    assert cells["Random_5000"][5] == cells["Random_5000"][13] == ""


def test_the_workbook_holds_every_sheet_with_formats_filters_and_charts(results: Results, tmp_path: Path) -> None:
    write_workbook(results, tmp_path / "summary.xlsx")
    book = load_workbook(tmp_path / "summary.xlsx")
    assert book.sheetnames == ["Summary", "Best by size", "Layers", "Zero-shot", "Efficiency", "Provenance"]
    for sheet in book:
        assert sheet.freeze_panes is not None and sheet.auto_filter.ref.startswith("A1:")
        assert sheet.page_setup.orientation == "landscape" and sheet.sheet_properties.pageSetUpPr.fitToPage
    assert {name: len(book[name]._charts) for name in book.sheetnames} == {
        "Summary": 1,
        "Best by size": 0,
        "Layers": 0,
        "Zero-shot": 1,
        "Efficiency": 2,
        "Provenance": 0,
    }
    for sheet in book:
        for chart in sheet._charts:
            assert chart.x_axis.delete is False and chart.y_axis.delete is False

    summary = book["Summary"]
    place = {cell.value: cell.column for cell in summary[1]}
    assert "Asked amount" not in place
    magnitude, random_row = 3, 6
    assert summary.cell(magnitude, place["Asked"]).value == "20.00 %"
    removed = summary.cell(magnitude, place["Parameters removed"])
    assert (removed.value, removed.number_format) == (pytest.approx(0.2), "0.00 %")
    assert summary.cell(random_row, place["Perplexity"]).value is None
    assert summary.cell(magnitude, place["Parameters"]).number_format == "#,##0"

    (area, *_) = book["Layers"].conditional_formatting
    assert str(area.sqref) == "D2:E16"
    provenance = book["Provenance"]
    notes = next(cell.column for cell in provenance[1] if cell.value == "Notes")
    assert provenance.cell(5, notes).value == "=not a formula"
    assert provenance.cell(5, notes).data_type != "f"


def test_the_same_results_make_the_same_cells(results: Results, tmp_path: Path) -> None:
    write_workbook(results, tmp_path / "one.xlsx")
    write_workbook(results, tmp_path / "two.xlsx")
    one, two = (
        [[[cell.value for cell in line] for line in sheet] for sheet in load_workbook(tmp_path / name)]
        for name in ("one.xlsx", "two.xlsx")
    )
    assert one == two


def test_a_workbook_of_nothing_measured_has_no_charts(tmp_path: Path) -> None:
    write_workbook(read_results([tmp_path / "Dense", tmp_path / "Wanda_2000"]), tmp_path / "summary.xlsx")
    assert all(not sheet._charts for sheet in load_workbook(tmp_path / "summary.xlsx"))


@pytest.mark.parametrize("larger_is_better", [False, True])
def test_the_pareto_front_agrees_with_brute_force(larger_is_better: bool) -> None:
    sign = -1 if larger_is_better else 1
    numbers = random.Random(0)
    for _ in range(200):
        points = [(numbers.randint(0, 5), numbers.randint(0, 5)) for _ in range(numbers.randint(0, 9))]
        beaten = [
            any(other[0] <= point[0] and sign * other[1] <= sign * point[1] and other != point for other in points)
            for point in points
        ]
        front = pareto_front([p[0] for p in points], [p[1] for p in points], larger_is_better)
        assert front == [not lost for lost in beaten], points


def test_a_few_stray_zeros_make_no_smaller_model() -> None:
    assert pareto_front([81_138_712, 81_139_203, 134_189_880], [74.3, 28.5, 17.3]) == [False, True, True]


def test_divergence_shows_the_closest_first_and_not_the_base(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(divergence_figure, "save", lambda figure, _path: drawn.append(figure))
    divergence_figure.draw(results, tmp_path / "divergence.png")
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Wanda_2of4", "Magnitude_2000"]
    assert axes.yaxis_inverted() and axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["75%", "50%"]


def test_one_far_perplexity_does_not_flatten_the_axis() -> None:
    assert ceiling([10, 12, 15, 20, 5000]) == pytest.approx(22)
    assert ceiling([10, 12, 30]) == float("inf")
    assert ceiling([10, 10, 10, 10]) == float("inf")
    assert ceiling([10, 900, 950, 1000]) >= 900
    assert ceiling([]) == float("inf")


def test_styles_are_distinct_and_depend_on_order_alone(results: Results) -> None:
    methods = [f"method {number}" for number in range(40)]
    assert len(set(method_styles(methods).values())) == 40
    assert method_styles(methods[:5]) == {name: method_styles(methods)[name] for name in methods[:5]}
    assert run_styles(results)["Dense"] not in method_styles(methods).values()


def scored(mechanism: str, layers: list[dict[str, Any]]) -> ScoresFile:
    """Scores by a mechanism, of the method that usually gives them."""
    method = {"depth": "ShortGPT", "width": "GQA"}[mechanism]
    held = {"id": method, "method": method, "mechanism": mechanism, "options": {}, "layers": layers, "run": run(1.0)}
    if mechanism == "depth":
        held["layer_evaluations"] = {"run": 1, "naive": 1}
    model = get_mechanism(mechanism).Scores
    assert model
    return model.model_validate(held)


def test_scores_are_normalised_to_their_largest_magnitude() -> None:
    depth = scored("depth", [{"index": 0, "score": -4.0}, {"index": 1, "score": 2.0}])
    assert layer_series(depth) == {"score": [-1.0, 0.5]}
    width = scored(
        "width",
        [
            {"index": 0, "attention": [1.0, 3.0], "mlp": [0.0, 0.0]},
            {"index": 1, "attention": [8.0, 0.0], "mlp": [0.0, 0.0]},
        ],
    )
    assert layer_series(width) == {"attention": [0.5, 1.0], "MLP": [0.0, 0.0]}


@pytest.fixture
def healed(folders: list[Path]) -> Results:
    """With a model made of Magnitude's by healing, at a perplexity of 11."""
    folder = folders[0].parent / "Magnitude_2000+lora"
    shutil.copytree(folders[0], folder)
    for file, changes in (
        ("pruning.json", {"variant": folder.name, "parent": "Magnitude_2000", "steps": [taken("lora")]}),
        ("evaluation/perplexity.json", {"perplexity": 11.0}),
    ):
        write(folder / file, {**json.loads((folder / file).read_text()), **changes})
    return read_results([*folders, folder])


def test_a_healed_model_stands_beside_what_it_was(healed: Results) -> None:
    frame = summary_table(healed).frame
    own = row(frame, "Magnitude_2000+lora")
    assert own["perplexity_before"] == 15.0
    assert own["recovered"] == pytest.approx((15 - 11) / (15 - 10))
    assert pd.isna(row(frame, "Magnitude_2000")["perplexity_before"]) and pd.isna(row(frame, "Dense")["recovered"])


def test_few_bits_are_smaller_on_disk_and_no_sparsity(
    folders: list[Path], healed: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders[0].parent / "Magnitude_2000+nf4"
    shutil.copytree(folders[0], folder)
    pruning = json.loads((folder / "pruning.json").read_text())
    write(
        folder / "pruning.json",
        {
            **pruning,
            "variant": folder.name,
            "parent": "Magnitude_2000",
            "steps": [taken("nf4", bytes={"before": 1280, "after": 640})],
        },
    )
    quantized = read_results([*folders, folder])
    drawn: list[Figure] = []
    monkeypatch.setattr(quality_against_size, "save", lambda figure, _path: drawn.append(figure))
    quality_against_size.draw(quantized, tmp_path / "quality.png")
    disk, nonzero = ({text.get_text() for text in panel.texts} - {""} for panel in drawn[0].axes)
    assert "Magnitude_2000, Magnitude_2000+nf4" in disk - nonzero
    positions = {tuple(line.get_xdata()) for line in drawn[0].axes[0].lines if line.get_marker() not in (None, "None")}
    assert (1280,) in positions  # bytes of Magnitude_2000, not its 640 parameters
    # nothing is won back by storing a model in few bits
    assert pd.isna(row(summary_table(quantized).frame, "Magnitude_2000+nf4")["recovered"])


def test_what_is_far_worse_stands_at_the_edge_with_its_value(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = summary_table(results)
    frame = pd.concat([table.frame.iloc[:1]] * 6, ignore_index=True)
    frame["variant"] = [f"V{number}" for number in range(6)]
    frame["perplexity"] = [10.0, 11.0, 12.0, 11.0, 10.0, 5000.0]
    frame["zero_shot_acc"] = [0.80, 0.79, 0.78, 0.80, 0.79, 0.25]
    monkeypatch.setattr(quality_against_size, "summary_table", lambda _: replace(table, frame=frame))
    drawn: list[Figure] = []
    monkeypatch.setattr(quality_against_size, "save", lambda figure, _path: drawn.append(figure))
    for quality in ("perplexity", "zero_shot_acc"):
        draw_quality(results, tmp_path / "quality.png", quality)
    for figure, label, edge in zip(drawn, ("V5 ↑ 5,000", "V5 ↓ 25%"), (1.1 * 12, 1 - 1.1 * 0.22), strict=True):
        panel = figure.axes[0]
        assert {"V0, V4" if label.startswith("V5 ↑") else "V0, V3", label} <= {text.get_text() for text in panel.texts}
        assert edge in [pytest.approx(float(line.get_ydata()[0])) for line in panel.lines if len(line.get_ydata()) == 1]


def test_of_very_many_models_few_are_named(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty far worse by chance, and a hundred of sizes of their own, the larger the better, the best twice."""
    table = summary_table(results)
    frame = pd.concat([table.frame.iloc[:1]] * 132, ignore_index=True)
    frame["variant"] = ["Dense", *(f"Chance{n}" for n in range(30)), *(f"V{n}" for n in range(100)), "V99 again"]
    frame["method"] = ["Dense"] + ["Random"] * 30 + ["Wanda"] * 101
    frame["bytes_on_disk"] = [20_000, *[8000] * 30, *range(1000, 11_000, 100), 10_900]
    frame["perplexity"] = [10.0, *range(500, 530), *np.linspace(60, 20, 100), 20.0]
    monkeypatch.setattr(quality_against_size, "summary_table", lambda _: replace(table, frame=frame))
    drawn: list[Figure] = []
    monkeypatch.setattr(quality_against_size, "save", lambda figure, _path: drawn.append(figure))
    quality_against_size.draw(results, tmp_path / "quality.png")
    names = {text.get_text() for text in drawn[0].axes[0].texts} - {""}
    assert len(names) == 16
    assert {"Chance29 ↑ 529", "Chance0 ↑ 500", "Dense", "V99, V99 again", "V98"} <= names
    # all outliers stand close above the others
    heights = [float(line.get_ydata()[0]) for line in drawn[0].axes[0].lines if len(line.get_ydata()) == 1]
    assert 60 < max(heights) < 2.5 * 60


def test_figures_of_healed_models(healed: Results, results: Results, tmp_path: Path) -> None:
    quality_against_size.draw(healed, tmp_path / "quality.png")
    # nothing new went from any layer, so the figure of that is the same
    for name, run_results in (("with", healed), ("without", results)):
        layer_reduction.draw(run_results, tmp_path / f"{name}.png")
    assert (tmp_path / "with.png").read_bytes() == (tmp_path / "without.png").read_bytes()


def test_every_figure_is_drawn(results: Results, tmp_path: Path) -> None:
    scores = (
        scored("depth", [{"index": 0, "score": 0.4}]),
        scored("width", [{"index": 0, "attention": [1.0], "mlp": [2.0]}]),
    )
    for name in OF_RUN:
        FIGURES[name].draw(replace(results, scores=scores), tmp_path / f"{name}.png")
        image = imread(tmp_path / f"{name}.png")
        assert image.shape[0] > 300 and image.shape[1] > 500 and image[..., :3].std() > 0.02


def test_figures_of_a_run_without_measurements_are_empty_not_errors(tmp_path: Path) -> None:
    nothing = read_results([tmp_path / "Dense", tmp_path / "Wanda_2000"])
    for name in OF_RUN:
        FIGURES[name].draw(nothing, tmp_path / f"{name}.png")
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == sorted(OF_RUN)


def test_every_figure_has_a_caption() -> None:
    captions = {path.stem for path in (ROOT / "report").glob("*.rst")}
    assert {figure.caption for figure in FIGURES.values()} <= captions


def test_captions_and_labels_need_no_plotting() -> None:
    """Snakemake reads them whenever it reads the workflow."""
    code = "import sys, llm_pruner.report.figures; assert not {'matplotlib', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_equal_results_make_equal_figures(results: Results, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        quality_against_size.draw(results, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_models_are_compared_window_by_window() -> None:
    def measured(*nll: float, **other: Any) -> Model:
        text = {
            "dataset": "text",
            "split": "test",
            "window": 8,
            "stride": 8,
            "windows": len(nll),
            "tokens": 7 * len(nll),
        }
        found = {"nll": sum(nll) / len(nll), "perplexity": 1.0, "window_nll": list(nll), "bits_per_byte": None}
        held = {"model": "M", **text, **found, "run": run(1.0), **other}
        return Model("M", perplexity=PerplexityResult.model_validate(held))

    base = measured(1.0, 3.0, 2.0)
    # losses 0.1, 0.3, 0.2: their standard deviation is 0.1, however far the windows lie apart
    difference, error = paired(measured(1.1, 3.3, 2.2), base)
    assert difference == pytest.approx(0.2) and error == pytest.approx(0.1 / 3**0.5)
    assert paired(base, base) == (0.0, None)
    for other in (
        measured(1.0, 3.0),
        measured(1.0, 3.0, 2.0, split="train"),
        measured(1.0, 3.0, 2.0, window_nll=None),
        measured(1.0, 3.0, 2.0, stride=4),
        Model("N"),
    ):
        assert paired(other, base) == (None, None)

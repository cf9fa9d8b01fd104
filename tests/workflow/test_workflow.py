"""The DAG, run for real on a tiny model: what is made, what reruns, what survives a kill."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest
from safetensors.torch import load_file

from llm_pruner.report.figures import FIGURES, RUN
from tests.tiny.workflows import VARIANTS, Workflow, kill_in_the_middle

pytestmark = pytest.mark.workflow
# xdist starts with its groups: one worker makes the finished run and does what takes longest, the others come to the
# rest of this file last
first = pytest.mark.xdist_group("workflow")

SUMMARY = {"summary", "page", "all", *(f"figure_{name}" for name, figure in FIGURES.items() if figure.shows == RUN)}


def remade(*jobs: str) -> set[str]:
    """These jobs, and those that measure and draw what they make."""
    models = {job.split()[1] for job in jobs if job.startswith(("prune", "step"))}
    measured = {f"{rule} {model}" for model in models for rule in ("analyze", "evaluate", "efficiency")}
    drawn = {f"figure_healing {model}" for model in models if model.endswith("+lora")}
    drawn |= {f"figure_split_search {job.split()[1]}" for job in jobs if job.startswith("search")}
    return {*jobs, *measured, *drawn}


def row(finished: Workflow, variant: str) -> dict[str, str]:
    with (finished.run_folder / "results" / "summary.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row["variant"] == variant)


@first
def test_table_has_every_model_measured(finished: Workflow) -> None:
    results = finished.run_folder / "results"
    book = openpyxl.load_workbook(results / "summary.xlsx")
    assert book.sheetnames == ["Summary", "Best by size", "Layers", "Zero-shot", "Efficiency", "Provenance"]
    assert [cell.value for cell in book["Summary"]["A"] if cell.value in VARIANTS] == VARIANTS
    for variant in VARIANTS:
        values = row(finished, variant)
        for key in ("parameters", "perplexity", "zero_shot_acc", "peak_memory_bytes", "decode_ms", "load_seconds"):
            assert float(values[key]) > 0, (variant, key, values)
    assert float(row(finished, "GQA_2000")["reached_amount"]) == pytest.approx(0.2, abs=0.005)
    assert row(finished, "ShortGPT_remove_1")["layers"] == "2"
    assert row(finished, "GQA_2000+lora")["perplexity_before"] == row(finished, "GQA_2000")["perplexity"]
    assert row(finished, "GQA_2000")["perplexity_before"] == ""
    assert float(row(finished, "Dense")["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(row(finished, "GQA_2000")["kl"]) > 0 and 0 < float(row(finished, "GQA_2000")["same_top"]) < 1
    figures = "quality_against_size accuracy_against_size divergence layer_reduction layer_scores layer_rates training"
    for figure in [*figures.split(), "healing_GQA_2000+lora", "split_search_GQA_found_3000"]:
        assert (results / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


@first
def test_structures_and_analyses(finished: Workflow) -> None:
    summary = json.loads((finished.run_folder / "results" / "models_structure_summary.json").read_text())
    assert summary["total_models"] == len(VARIANTS) and summary["timestamp"]
    by_name = {model["name"]: model for model in summary["models"]}
    removed = [layer["layer_idx"] for layer in by_name["ShortGPT_remove_1"]["layer_pruning"] if layer["is_zero"]]
    plan = json.loads((finished.run_folder / "baselines/ShortGPT_remove_1/plan.json").read_text())
    assert removed == sorted({0, 1, 2} - set(plan["kept_layers"]))
    assert by_name["GQA_2000"]["pruning"]["reduction_ratio"] == pytest.approx(0.2, abs=0.005)
    for variant in VARIANTS:
        names = {path.name for path in (finished.run_folder / "baselines" / variant / "analysis").iterdir()}
        assert names == {
            "model_structure.json",
            "model_comparison.json",
            "original_model_analysis.json",
            "pruned_model_analysis.json",
            "pruning_summary_by_layer.txt",
        }


@first
def test_healed_models_keep_shapes_and_zeros(finished: Workflow) -> None:
    baselines = finished.run_folder / "baselines"
    for variant in ("GQA_2000", "Wanda_2of4"):
        before, after = (
            json.loads((baselines / name / "analysis" / "model_comparison.json").read_text())
            for name in (variant, f"{variant}+lora")
        )
        assert after["totals"] == before["totals"] and after["layers"] == before["layers"]
        record = json.loads((baselines / f"{variant}+lora" / "pruning.json").read_text())
        assert record["parent"] == variant and record["steps"][0]["options"]["steps"] == 6


@first
def test_models_in_four_bits_are_told_in_bytes(finished: Workflow) -> None:
    before, after = row(finished, "GQA_2000+lora"), row(finished, "GQA_2000+lora+nf4")
    assert after["parameters"] == before["parameters"] and after["layers"] == before["layers"]
    assert float(after["bytes_on_disk"]) < float(before["bytes_on_disk"])
    assert after["perplexity_before"] == before["perplexity"] != after["perplexity"]


@first
def test_search_is_judged_on_samples_of_its_own(finished: Workflow) -> None:
    folder = finished.run_folder / "resources"
    rows = {
        name: load_file(folder / f"{name}.safetensors")["input_ids"].tolist() for name in ("calibration", "held_out")
    }
    assert len(rows["held_out"]) == 64 and not [row for row in rows["held_out"] if row in rows["calibration"]]
    search = json.loads((folder / "search" / "GQA_found_3000.json").read_text())
    assert search["held_out"] == {"samples": 64, "length": 32}
    assert search["best"]["perplexity"] <= search["trials"][0]["perplexity"]


def test_perplexity_says_what_it_was_measured_on(finished: Workflow) -> None:
    content = json.loads((finished.run_folder / "baselines/Dense/evaluation/perplexity.json").read_text())
    assert (content["dataset"], content["split"], content["window"], content["stride"]) == ("test.txt", None, 32, 32)
    assert content["windows"] == 16
    assert content["run"]["versions"]["torch"].startswith("2.13.0")


def test_second_run_does_nothing(workflow: Workflow) -> None:
    """Also where all sources have other time stamps."""
    for file in [*(workflow.root / "llm_pruner").rglob("*.py"), *(workflow.root / "workflow_scripts").glob("*.py")]:
        file.touch()
    said = workflow.run().stdout
    assert "Nothing to do: all results are there" in said and "results/summary.xlsx" in said
    assert workflow.run("--quiet", "all").stdout.count("\n") <= 2


def test_a_log_file_says_what_ran_and_ends_with_the_table(workflow: Workflow) -> None:
    for gone in ("baselines/Dense/analysis/model_comparison.json", "results/summary.xlsx"):
        (workflow.run_folder / gone).unlink()
    said = workflow.run("results/summary.xlsx").stdout
    line = r"^\[ *0/\d+\] analyze Dense: started\n\[ *1/\d+\] analyze Dense: done in \d+ s$"
    assert re.search(line, said, re.MULTILINE)
    assert not re.search(r"[\x1b\r\x08]", said) and "Select jobs" not in said
    table = said.rpartition("Variant ")[2]
    assert [line.split()[0] for line in table.splitlines()[1:] if line][: len(VARIANTS)] == VARIANTS
    assert "results/summary.xlsx" in table and "≤ 90 %" in table
    assert "Variant" not in workflow.run("resources/scores/GQA.json").stdout
    (log,) = re.findall(r"Snakemake's log: (\S+)", said)
    assert "rule analyze:" in (workflow.run_folder / log).read_text()


def test_removing_a_variant_runs_the_tables(workflow: Workflow) -> None:
    workflow.config["variants"].remove("Wanda_2of4")
    assert set(workflow.to_do()) == {*SUMMARY}


def test_changing_zero_shot_reruns_no_pruning(workflow: Workflow) -> None:
    workflow.config["zero_shot"]["limit"] = 5
    assert set(workflow.to_do()) == {*(f"evaluate {variant}" for variant in VARIANTS), *SUMMARY}


def test_changing_some_variants_reruns_those(workflow: Workflow) -> None:
    """A further ratio, another option, another way to heal and another search, none of which another waits for."""
    variants = workflow.config["variants"]
    variants[0] = {"Magnitude_2000": {"uniform": True}}
    variants.remove("Wanda_2of4+lora")
    variants += [{"Wanda_2of4+lora": {"rank": 2}}, "GQA_3000"]
    workflow.config["search"] = {"coarse": 20}
    jobs = remade(
        "prune GQA_3000",
        "prune Magnitude_2000",
        "step Wanda_2of4+lora",
        "search GQA_found_3000",
        "prune GQA_found_3000",
    )
    assert set(workflow.to_do()) == {*jobs, *SUMMARY}


@pytest.mark.parametrize(
    "edited",
    [
        {
            "methods/gqa.py": {
                "score GQA",
                "prune GQA_2000",
                "step GQA_2000+lora",
                "step GQA_2000+lora+nf4",
                "search GQA_found_3000",
                "prune GQA_found_3000",
            },
            "mechanisms/slice/prune.py": {"prune_directly SliceGPT_2500"},
        },
        {
            "methods/wanda.py": {"prune_directly Wanda_2of4", "step Wanda_2of4+lora"},
            "methods/ablation.py": {"score Ablation", "search GQA_found_3000", "prune GQA_found_3000"},
            "steps/nf4.py": {"step GQA_2000+lora+nf4"},
        },
        {
            "training/masked.py": {"step GQA_2000+lora", "step GQA_2000+lora+nf4", "step Wanda_2of4+lora"},
            "search/split.py": {"search GQA_found_3000", "prune GQA_found_3000"},
        },
    ],
    ids=lambda edited: "+".join(Path(file).stem for file in edited),
)
def test_editing_sources_reruns_who_uses_them(edited: dict[str, set[str]], workflow: Workflow) -> None:
    """Files with no job in common; test_fingerprint.py and test_reruns.py hold each file's jobs by their digests."""
    for file in edited:
        with (workflow.root / "llm_pruner" / file).open("a") as source:
            source.write("\nEDITED = True\n")
    assert set(workflow.to_do()) == {*remade(*set().union(*edited.values())), *SUMMARY}


def test_editing_figures_and_tables_reruns_those_alone(workflow: Workflow) -> None:
    for file in ("figures/layer_reduction.py", "figures/healing.py", "workbook.py"):
        with (workflow.root / "llm_pruner" / "report" / file).open("a") as source:
            source.write("\nEDITED = True\n")
    drawn = {"figure_layer_reduction", "figure_healing GQA_2000+lora", "figure_healing Wanda_2of4+lora"}
    assert set(workflow.to_do()) == {*drawn, "summary", "all"}


PRUNER = """
from llm_pruner import BasePruner

class LastTokenPruner(BasePruner):
    \"\"\"Layers that move the last token least.\"\"\"

    def compute_layer_scores(self, eval_data):
        scores = []
        for layer in self.stream(eval_data):
            moves = [(after[:, -1] - before[:, -1]).norm(dim=-1).sum().item() for before, after in layer.run()]
            scores.append({"index": layer.index, "score": sum(moves)})
        return scores
"""


@first
def test_a_pruner_of_ones_own_runs_without_touching_the_package(workflow: Workflow) -> None:
    (workflow.root / "my_pruners.py").write_text(PRUNER)
    workflow.config["variants"].append({"Mine_remove_1": {"method": "my_pruners:LastTokenPruner", "samples": 4}})
    workflow.run("baselines/Mine_remove_1/evaluation/perplexity.json")
    scores = json.loads((workflow.run_folder / "resources" / "scores" / "Mine-samples=4.json").read_text())
    lowest = min(scores["layers"], key=lambda layer: layer["score"])["index"]
    plan = json.loads((workflow.run_folder / "baselines" / "Mine_remove_1" / "plan.json").read_text())
    assert plan["kept_layers"] == [index for index in range(3) if index != lowest]
    with (workflow.root / "my_pruners.py").open("a") as source:
        source.write("\nEDITED = True\n")
    assert "score Mine-samples=4" in workflow.to_do()


@first
@pytest.mark.parametrize(
    ("killed", "target"),
    [
        pytest.param(
            {
                "search/GQA_found_3000": "resources/search/GQA_found_3000.json",
                "scores/GQA": "resources/scores/GQA.json",
                "model": "resources/model",
            },
            "resources/search/GQA_found_3000.json",
            id="before any model is pruned",
        ),
        pytest.param(
            {
                "summary": "results/summary.xlsx",
                "evaluate/Magnitude_2000": "baselines/Magnitude_2000/evaluation/zero_shot.json",
                "prune/Magnitude_2000": "baselines/Magnitude_2000/model",
                "step/GQA_2000+lora": "baselines/GQA_2000+lora/model",
            },
            None,
            id="after",
        ),
    ],
)
def test_killed_again_and_again(killed: dict[str, str], target: str | None, workflow: Workflow) -> None:
    """Each run is killed in the middle of another job; the next one ends as if nothing had been.

    From the last job back to the first, so that each alone is to be done again.
    """
    models, quality = workflow.digests(), workflow.measured()
    for job, made in killed.items():
        kill_in_the_middle(workflow, job, made)
    if target:
        workflow.run(target)  # behind the base model everything is to be done again
    else:
        workflow.run()
        assert workflow.measured() == quality
        assert not workflow.to_do()
    assert workflow.digests() == models
    assert not list(workflow.run_folder.rglob(".*.staged-*"))


def test_failed_job_says_why_and_keeps_what_is_there(workflow: Workflow) -> None:
    models = workflow.digests()
    file = workflow.run_folder / "resources" / "scores" / "GQA.json"
    scores = json.loads(file.read_text())
    scores["layers"][1]["mlp"] = scores["layers"][1]["mlp"][:-1]
    file.write_text(json.dumps(scores))
    result = workflow.run(check=False)
    assert result.returncode != 0
    assert "4 key-value groups and 64 channels, but scores for 4 and 63" in result.stdout
    assert "prune GQA_2000 failed after" in result.stdout and "logs/prune/GQA_2000.log" in result.stdout
    assert "Traceback" not in result.stdout and "CalledProcessError" not in result.stdout
    after = workflow.digests()
    assert {name: after[name] for name in models if "GQA_2000" not in name} == {
        name: digest for name, digest in models.items() if "GQA_2000" not in name
    }


def test_bad_config_stops_before_any_job(ready_python: Path, tmp_path: Path) -> None:
    workflow = Workflow.create(tmp_path / "bad", ready_python)
    workflow.config["variants"] += ["Magnitde_2000", "GQA_9900"]
    workflow.config["calibration"]["sampels"] = 3
    result = workflow.run(check=False)
    assert result.returncode != 0
    assert "config.yaml: 2 problems" in result.stdout
    assert "calibration.sampels: unknown key; did you mean 'samples'?" in result.stdout
    assert "unknown method 'Magnitde'; did you mean 'Magnitude'?" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (workflow.run_folder / "resources").exists()


def test_profile_sums_the_run_by_rule(finished: Workflow) -> None:
    script = finished.root / "workflow_scripts" / "profile.py"
    command = [sys.executable, str(script), str(finished.run_folder / "logs" / "benchmarks")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    jobs = {cells[0]: int(cells[1]) for line in output.splitlines()[2:] if (cells := line.strip("| ").split("|"))}
    jobs = {rule.strip(): count for rule, count in jobs.items()}
    made = jobs["prune"] + jobs["step"]
    assert jobs["evaluate"] == jobs["efficiency"] == made == len(VARIANTS)
    assert jobs["train_builtin"] == 1 and jobs["total"] == sum(jobs.values()) - jobs["total"]


def test_report(workflow: Workflow) -> None:
    workflow.run("--report", "report.html")
    report = (workflow.run_folder / "report.html").read_text()
    assert "Perplexity against size" in report and "Summary workbook" in report


def test_lint(workflow: Workflow) -> None:
    assert "in a good condition" in workflow.run("--lint").stdout

"""The folder of a run: where it may go, what it holds, and what comes of files that were deleted or changed."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_pruner.analysis.comparison import write_analysis
from llm_pruner.analysis.records import ModelComparison, ModelStructure, TensorList
from llm_pruner.data.builtin.task_files import TaskFiles, read_questions
from llm_pruner.data.tokens import read_tokens_of
from llm_pruner.evaluation.divergence import Predictions
from llm_pruner.evaluation.records.continuations import Continuations
from llm_pruner.evaluation.records.efficiency import EfficiencyResult
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.evaluation.records.zero_shot import ZeroShotResult
from llm_pruner.mechanisms.records import read_scores, read_scores_of
from llm_pruner.mechanisms.width.split import SplitSearch
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import Plan, read_made_plan
from llm_pruner.report.table import read_results
from llm_pruner.steps.records import HealingFile, StepFile
from llm_pruner.system.errors import PrunerError
from llm_pruner.training.records import BuiltinTraining
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.step import take_step
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.folders import refuse_hollow
from tests.tiny.workflows import CONFIG, Workflow

pytestmark = pytest.mark.workflow
BUILTIN_TEXTS = {key: {**CONFIG[key], "source": "builtin"} for key in ("calibration", "perplexity", "healing")}
"""In place of files that lie in the folder of a run."""


@pytest.fixture
def run(finished: Workflow, tmp_path: Path) -> Path:
    """A copy of the finished run's files that may be changed, without Snakemake's."""
    shutil.copytree(finished.run_folder, tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns(".snakemake"))
    return tmp_path / "run"


def files_of(folder: Path) -> list[Path]:
    """Files that jobs made."""
    skipped = (".snakemake", "logs", "config.yaml")
    return [
        path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and path.relative_to(folder).parts[0] not in skipped
    ]


# Where it may go


def test_no_file_of_a_run_names_its_folder(finished: Workflow) -> None:
    folder = finished.run_folder
    found = files_of(folder)
    assert len(found) > 100
    for path in found:
        if path.is_symlink():
            assert not path.readlink().is_absolute() and path.resolve().is_relative_to(folder), path
        else:
            assert str(folder).encode() not in path.read_bytes(), path


def asked_for(output: str) -> list[str]:
    """Inputs of the rule ``all`` in the output of a dry run."""
    inputs = re.search(r"rule all:\n    input: (.*)", output)
    assert inputs, output[-3000:]
    return inputs[1].split(", ")


def test_a_deleted_piece_is_made_again(workflow: Workflow) -> None:
    """A plain run asks for each file that it made, and none that it does not make."""
    found = [str(path.relative_to(workflow.run_folder)) for path in files_of(workflow.run_folder)]
    found = [name for name in found if name not in ("train.txt", "test.txt")]
    (workflow.run_folder / "baselines" / "Magnitude_2000" / "pruning.json").unlink()
    output = workflow.run("--dry-run").stdout
    wanted = asked_for(output)
    below = tuple(f"{name}/" for name in wanted)
    assert [name for name in found if name not in wanted and not name.startswith(below)] == []
    assert [name for name in wanted if not (workflow.run_folder / name).exists()] == [
        "baselines/Magnitude_2000/pruning.json"
    ]
    assert "rule prune:" in output and "variant=Magnitude_2000" in output


def test_a_run_mounted_read_only_can_be_looked_at(workflow: Workflow) -> None:
    folder = workflow.run_folder
    mount = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"']
    if subprocess.run([*mount, str(folder), "true"], check=False, capture_output=True).returncode:
        pytest.skip("no folder can be mounted here")
    command = [*mount, str(folder), "env", f"--chdir={folder}", *workflow.command("--dry-run")]
    done = subprocess.run(command, env=workflow.environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


# What is checked when it is read


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Places of all values in nested JSON, but those of free form."""
    if place and place[-1] in ("options", "versions", "details"):
        return
    if isinstance(value, dict | list) and value:
        for key, held in value.items() if isinstance(value, dict) else list(enumerate(value))[:2]:
            yield from leaves(held, (*place, key))
    else:
        yield place


def changed(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    copied = json.loads(json.dumps(value))
    held = copied
    for key in place[:-1]:
        held = held[key]
    held[place[-1]] = new
    return copied


READERS: dict[str, Callable[[Path], Any]] = {
    "resources/model.json": BuiltinTraining.read,
    "resources/model_analysis.json": ModelStructure.read,
    "resources/scores/GQA.json": read_scores,
    "resources/scores/ShortGPT.json": read_scores,
    "resources/search/GQA_found_3000.json": SplitSearch.read,
    "resources/tasks/tasks.json": TaskFiles.read,
    "baselines/GQA_2000/plan.json": Plan.read,
    "baselines/GQA_2000/pruning.json": PruningRecord.read,
    "baselines/GQA_2000+lora/pruning.json": PruningRecord.read,
    "baselines/GQA_2000+lora/step.json": HealingFile.read,
    "baselines/GQA_2000+lora+nf4/step.json": StepFile.read,
    "baselines/GQA_2000/analysis/model_comparison.json": ModelComparison.read,
    "baselines/GQA_2000/analysis/model_structure.json": TensorList.read,
    "baselines/GQA_2000/evaluation/perplexity.json": PerplexityResult.read,
    "baselines/GQA_2000/evaluation/zero_shot.json": ZeroShotResult.read,
    "baselines/GQA_2000/evaluation/efficiency.json": EfficiencyResult.read,
    "baselines/GQA_2000/evaluation/continuations.json": Continuations.read,
}
"""Files of a run, and what reads each."""


@pytest.mark.parametrize("name", READERS)
def test_a_value_of_the_wrong_kind_is_one_error(name: str, finished: Workflow, tmp_path: Path) -> None:
    """Wherever a value is replaced, or is no number, the error names file and key; or the result is the same."""
    read = READERS[name]
    value = json.loads((finished.run_folder / name).read_text())
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(value))
    before = read(path)
    told = 0
    for place in leaves(value):
        for new in ({"not": "this"}, math.nan):
            path.write_text(json.dumps(changed(value, place, new)))
            try:
                after = read(path)
            except PrunerError as error:
                keys = [key for key in place if isinstance(key, str)]
                assert str(path) in str(error) and keys[-1] in str(error), (place, str(error))
                assert "delete" in str(error) and "Traceback" not in str(error)
                told += 1
            else:
                assert after == before or name.endswith("step.json"), (place, new)
    assert told > 5
    for broken in ("", "{", "[" * 100_000, "[]", "null", '"x"', "{}", "1", "\udcff"):
        path.write_text(broken, errors="surrogateescape")
        with pytest.raises(PrunerError, match=r"changed\.json"):
            read(path)


@pytest.mark.parametrize(
    ("place", "new", "told"),
    [
        (("base", "num_layers"), 7, "this plan is for 7 layers, Dense has 3"),
        (("kept_layers",), [0, 5], "kept_layers: .0, 5., but layers has"),
        (("layers", 2, "index"), 5, "kept_layers: .0, 1, 2., but layers has .0, 1, 5."),
        (("layers", 0, "groups"), [0, 9], "layer 0: kept key-value groups must be ascending and within 0 … 3"),
        (("layers", 0, "channels"), [3, 1], "channels must be ascending and distinct"),
        (("layers", 0, "groups"), [0], "changed since its model was made"),
        (("layers", 0, "index"), "0", "whole number, not '0'"),
    ],
)
def test_a_plan_edited_by_hand_is_not_believed(
    place: tuple[str | int, ...], new: Any, told: str, run: Path, tmp_path: Path
) -> None:
    plan = run / "baselines" / "GQA_2000" / "plan.json"
    plan.write_text(json.dumps(changed(json.loads(plan.read_text()), place, new)))
    if "changed" not in told:  # as if the record said nothing, so that the plan alone is judged
        (plan.with_name("pruning.json")).unlink()
    with pytest.raises(PrunerError, match=f"(?s){plan}.*{told}") as error:
        write_analysis(
            run / "resources" / "model",
            plan.with_name("model"),
            plan,
            tmp_path / "out",
            "GQA_2000",
            original=ModelStructure.read(run / "resources" / "model_analysis.json"),
        )
    assert "delete" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_plan_laid_out_in_another_way_is_the_same_plan(run: Path) -> None:
    plan = run / "baselines" / "GQA_2000" / "plan.json"
    before = read_made_plan(plan)
    plan.write_text(json.dumps(json.loads(plan.read_text()), indent=4))
    assert read_made_plan(plan) == before


def swap(run: Path, one: str, other: str) -> None:
    shutil.copyfile(run / one, run / other)


@pytest.mark.parametrize(
    "part",
    [
        "pruning.json",
        "analysis/model_comparison.json",
        "evaluation/perplexity.json",
        "evaluation/zero_shot.json",
        "evaluation/efficiency.json",
        "evaluation/continuations.json",
    ],
)
def test_the_record_of_another_model_is_no_row(part: str, run: Path) -> None:
    swap(run, f"baselines/Magnitude_2000/{part}", f"baselines/GQA_2000/{part}")
    models = [run / "baselines" / name for name in ("Dense", "GQA_2000", "Magnitude_2000")]
    with pytest.raises(PrunerError, match=rf"GQA_2000/{part}: \w+: 'Magnitude_2000', in the folder of 'GQA_2000'"):
        read_results(models, of_run=True)
    assert read_results(models)  # folders of one's own may have any name


def test_a_step_is_not_taken_by_the_record_of_another_model(run: Path, tmp_path: Path) -> None:
    _, variants = load_config({**CONFIG, **BUILTIN_TEXTS, "variants": ["GQA_2000+nf4"]})
    record = PruningRecord.read(run / "baselines" / "Magnitude_2000" / "pruning.json")
    with pytest.raises(PrunerError, match=r"pruning.json: variant: 'Magnitude_2000', but GQA_2000\+nf4 is made from"):
        take_step(
            variants["GQA_2000+nf4"], run / "baselines" / "GQA_2000" / "model", record, tmp_path / "out", files={}
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "new", "told"),
    [
        (("id",), "Magnitude", "id: 'Magnitude', but 'GQA' is asked for"),
        (("options", "taylor"), "other", "options: "),
        (("layers",), [], "layers: numbers none, but .+ has the layers 0 … 2"),
        (("layers", 1, "index"), 0, "layers: numbers 0, 0, 2, but"),
        (("layers", 1, "mlp"), [1.0], r"layers\[1\]: 4 key-value groups and 64 channels, but scores for 4 and 1"),
    ],
)
def test_scores_of_something_else_are_refused(place: tuple[str | int, ...], new: Any, told: str, run: Path) -> None:
    file, score = run / "resources" / "scores" / "GQA.json", resolve("GQA_2000").score
    assert score
    architecture = read_architecture(run / "resources" / "model")
    assert read_scores_of(score, architecture, file)
    file.write_text(json.dumps(changed(json.loads(file.read_text()), place, new)))
    with pytest.raises(PrunerError, match=told) as error:
        read_scores_of(score, architecture, file)
    assert str(file) in str(error.value) and "delete it and run again" in str(error.value)


def test_scores_of_another_mechanism_and_another_search_are_refused(run: Path) -> None:
    scores, score = run / "resources" / "scores", resolve("GQA_2000").score
    assert score
    swap(run, "resources/scores/ShortGPT.json", "resources/scores/GQA.json")
    with pytest.raises(PrunerError, match=r"GQA.json(.|\n)*mechanism: 'depth', but 'width' is asked for"):
        read_scores_of(score, read_architecture(run / "resources" / "model"), scores / "GQA.json")
    search = run / "resources" / "search" / "GQA_found_3000.json"
    with pytest.raises(PrunerError, match="variant: the search of 'GQA_found_3000', not of 'GQA_other_3000'"):
        SplitSearch.of_variant(search, "GQA_other_3000")
    found = json.loads(search.read_text())
    worst = max(found["trials"], key=lambda trial: trial["perplexity"])
    search.write_text(json.dumps({**found, "best": worst}))
    with pytest.raises(PrunerError, match=r"best: .* is not the trial with the lowest perplexity"):
        SplitSearch.of_variant(search, "GQA_found_3000")


@pytest.mark.parametrize("name", ["calibration", "held_out", "healing", "evaluation"])
def test_tokens_of_something_else_are_refused(name: str, run: Path) -> None:
    file, model = run / "resources" / f"{name}.safetensors", run / "resources" / "model"
    tokens = read_tokens_of(file, model)
    from safetensors import safe_open

    with safe_open(file, framework="pt") as handle:
        facts = handle.metadata()
    other = tokens.clone()
    other[0, 0] = (other[0, 0] + 1) % 512
    save_file({"input_ids": other}, file, metadata=facts)
    with pytest.raises(PrunerError, match=f"{name}.safetensors: not the tokens that were drawn; delete it"):
        read_tokens_of(file, model)
    for wrong in (-1, 512):
        other[0, 0] = wrong
        save_file({"input_ids": other}, file)
        with pytest.raises(PrunerError, match=rf"{name}.safetensors: token ids .* do not fit a"):
            read_tokens_of(file, model)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda held: {**held, "ids": held["ids"][:, :5].contiguous()}, r"must be \[tokens, 512\]"),
        (lambda held: {**held, "ids": held["ids"].long()}, "int64"),
        (lambda held: {**held, "ids": held["ids"] + 512}, "ids outside a vocabulary of 512"),
        (lambda held: {"ids": held["ids"]}, "not a file of predictions, or damaged"),
    ],
)
def test_predictions_of_another_shape_are_refused(change: Any, told: str, run: Path) -> None:
    from safetensors import safe_open

    file = run / "resources" / "predictions.safetensors"
    assert Predictions.read(file)
    with safe_open(file, framework="pt") as handle:
        facts = handle.metadata()
    held: dict[str, torch.Tensor] = load_file(file)
    save_file(change(held), file, metadata=facts)
    with pytest.raises(PrunerError, match=told) as error:
        Predictions.read(file)
    assert str(file) in str(error.value)


def test_a_copied_run_asks_its_own_questions(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "x[a] é" / "tasks"
    moved.parent.mkdir()
    (run / "resources" / "tasks").rename(moved)
    monkeypatch.chdir(tmp_path)
    assert len(read_questions(moved, "builtin_word")) == CONFIG["zero_shot"]["items"]
    lines = (moved / "builtin_word.jsonl").read_text().splitlines()
    (moved / "builtin_word.jsonl").write_text("\n".join(lines[:3]) + "\n")
    (moved / "builtin_last_word.jsonl").unlink()
    for name, told in (("builtin_word", "not the questions that were written"), ("builtin_last_word", "no such file")):
        with pytest.raises(PrunerError, match=told) as error:
            read_questions(moved, name)
        assert str(moved / name) in str(error.value) and f"delete {moved} and run again" in str(error.value)


# What is there by half


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("baselines/GQA_2000/model/model.safetensors", "GQA_2000/model: has no model.safetensors"),
        ("baselines/GQA_2000/model/config.json", "GQA_2000/model: has no config.json"),
        ("resources/model/model.safetensors", "resources/model: has no model.safetensors"),
        ("resources/model/tokenizer.json", "Dense/model/tokenizer.json: a link to .*, which is not there"),
        ("resources/model", None),
        ("baselines/GQA_2000/model", None),
        ("baselines/GQA_2000", None),
    ],
)
def test_a_model_that_lost_files_is_named_before_any_job(gone: str, told: str | None, run: Path) -> None:
    models = [run / "resources" / "model", *(path / "model" for path in (run / "baselines").iterdir())]
    refuse_hollow(models)
    place = run / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if told is None:  # made again as a whole
        refuse_hollow(models)
        return
    with pytest.raises(PrunerError, match=told) as error:
        refuse_hollow(models)
    assert "delete the folders and run again" in str(error.value)


def test_links_into_a_package_that_is_fetched_again_are_no_problem(tmp_path: Path) -> None:
    package, model = tmp_path / "packages" / "smollm2", tmp_path / "model"
    for folder in (package, model):
        folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (package / name).touch()
        (model / name).symlink_to(os.path.relpath(package / name, model))
    refuse_hollow([model], [package])
    (package / "config.json").unlink()
    with pytest.raises(PrunerError, match=r"model/config.json: a link to .*smollm2/config.json, which is not there"):
        refuse_hollow([model], [package])
    shutil.rmtree(package)
    refuse_hollow([model], [package])


# Names


@pytest.mark.parametrize(
    ("variants", "rows", "told"),
    [
        (["GQA_A_2000", "GQA_a_2000"], [], "variants: 'GQA_A_2000' and 'GQA_a_2000' differ in case alone"),
        (["GQA_A_2000+nf4", "GQA_a_2000"], [], "'GQA_A_2000' and 'GQA_a_2000'"),
        (["GQA_2000"], ["MSP", "msp"], "encoders.rows: 'MSP' and 'msp' differ in case alone"),
        (["GQA_2000"], ["teacher"], "encoders.rows: 'Teacher' and 'teacher' differ in case alone"),
        (["GQA_2000"], ["Teacher"], "'Teacher' is the folder of the teacher"),
    ],
)
def test_names_that_share_a_folder_on_some_disks_are_refused(variants: list[str], rows: list[str], told: str) -> None:
    with pytest.raises(PrunerError, match=told):
        load_config({**CONFIG, **BUILTIN_TEXTS, "variants": variants, "encoders": {"rows": {row: {} for row in rows}}})

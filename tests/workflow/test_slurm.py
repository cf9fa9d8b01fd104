"""The workflow through sbatch, on a real SLURM of one node: what is asked for, and what is survived."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny.workflows import CONFIG, Workflow
from tests.workflow.slurm_node import SlurmNode, missing

REASON = missing()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.workflow,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

VARIANTS = ["GQA_2000", "GQA_2000+lora"]
# scores layers, and does what first_attempt.txt says the first time it is asked to
PRUNER = """
import time
from pathlib import Path
from llm_pruner import BasePruner

class LastTokenPruner(BasePruner):
    def compute_layer_scores(self, eval_data):
        first = Path("first_attempt.txt")
        if first.exists():
            command = first.read_text()
            first.unlink()
            exec(command)
        return [{"index": layer.index, "score": float(layer.index)} for layer in self.stream(eval_data)]
"""
SCORES = "resources/scores/Mine.json"


class ClusterRun(Workflow):
    def command(self, *arguments: str) -> list[str]:
        """As the page on clusters has it: from elsewhere, with a folder and a configuration of its own."""
        super().command()
        here = ["env", f"--chdir={self.root}", sys.executable, "-m", "snakemake", "--directory", str(self.run_folder)]
        files = ["--workflow-profile", "profiles/slurm", "--configfile", str(self.run_folder / "config.yaml")]
        # what belongs to this node: its size, its one GPU, no slurmdbd, its jobs of seconds
        node = "--set-threads efficiency=2 --resources gpu=2 --latency-wait 5 --slurm-status-command squeue"
        return [*here, *files, *node.split(), "--slurm-init-seconds-before-status-checks", "2", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A run in the background, in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.run_folder,
            env=self.environment,
            start_new_session=True,
            stdout=(self.root / "output.txt").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmNode]:
    with SlurmNode(tmp_path_factory.mktemp("slurm")) as node:
        yield node


@pytest.fixture(scope="module")
def finished(node: SlurmNode, tmp_path_factory: pytest.TempPathFactory) -> ClusterRun:
    run = ClusterRun.create(tmp_path_factory.mktemp("cluster") / "finished")
    assert isinstance(run, ClusterRun)
    run.config = {**CONFIG, "model": {**CONFIG["model"], "device": "auto"}, "variants": VARIANTS}
    run.run()
    return run


@pytest.fixture
def run(finished: ClusterRun, tmp_path: Path) -> ClusterRun:
    """A clone with a further variant, whose scoring can be told to go wrong once."""
    clone = finished.clone(tmp_path / "clone")
    run = ClusterRun(clone.root)
    run.config = {
        **finished.config,
        "variants": [*VARIANTS, {"Mine_remove_1": {"method": "my_pruners:LastTokenPruner"}}],
    }
    (run.root / "my_pruners.py").write_text(PRUNER)
    return run


def requests(job: dict[str, str]) -> tuple[str, int, int, int, int]:
    """Rule or group, cores, MB, minutes and GPUs that a job asked for."""
    hours, minutes, _ = job["TimeLimit"].split(":")
    gpus = re.search(r"gres:gpu:(\d+)", job.get("TresPerJob", ""))
    memory = job["MinMemoryNode"]
    mb = int(float(memory[:-1]) * 1024) if memory.endswith("G") else int(memory[:-1])
    name = job["Comment"].removeprefix("rule_").partition("_wildcards_")[0]
    return name, int(job["NumCPUs"]), mb, 60 * int(hours) + int(minutes), int(gpus[1]) if gpus else 0


def scorings(run: ClusterRun, node: SlurmNode) -> list[dict[str, str]]:
    return [job for job in node.jobs(run.run_folder) if job["Comment"] == "rule_score_wildcards_Mine"]


def start_scoring(run: ClusterRun, node: SlurmNode, command: str, *arguments: str) -> subprocess.Popen[str]:
    """A run whose scoring is in the middle of its first attempt."""
    first = run.run_folder / "first_attempt.txt"
    first.write_text(command)
    process = run.start(*arguments)
    deadline = time.monotonic() + 120
    while first.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    return process


def test_every_job_asks_for_what_its_rule_says(finished: ClusterRun, node: SlurmNode) -> None:
    assert sorted(requests(job) for job in node.jobs(finished.run_folder)) == [
        ("Dense_analyze_evaluate_prune_directly", 2, 3000, 60, 1),
        ("GQA_2000+lora_analyze_evaluate_step", 2, 3000, 60, 1),
        ("GQA_2000_analyze_evaluate_prune", 2, 3000, 60, 1),
        ("base_predictions", 1, 2000, 30, 1),
        ("builtin_tasks", 1, 2000, 30, 0),
        ("efficiency", 2, 2000, 30, 1),
        ("efficiency", 2, 2000, 30, 1),
        ("efficiency", 2, 2000, 30, 1),
        ("score", 1, 2000, 30, 1),
        ("tokens_calibration_evaluation_tokens_healing_tokens_held_out", 3, 6000, 60, 0),
        ("train_builtin", 2, 2000, 30, 0),
    ]
    assert {job["JobState"] for job in node.jobs(finished.run_folder)} == {"COMPLETED"}


def test_the_table_has_every_model(finished: ClusterRun) -> None:
    lines = (finished.run_folder / "results" / "summary.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["Dense", *VARIANTS]
    assert "Nothing to be done" in finished.run("--dry-run").stdout


def test_a_failed_job_is_tried_again_with_more(run: ClusterRun, node: SlurmNode) -> None:
    (run.run_folder / "first_attempt.txt").write_text("raise RuntimeError('no luck')")
    run.run(SCORES)
    first, second = scorings(run, node)
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    assert requests(first) == ("score", 1, 2000, 30, 1)
    assert requests(second) == ("score", 1, 4000, 60, 1)


def test_a_cancelled_job_is_tried_again(run: ClusterRun, node: SlurmNode) -> None:
    process = start_scoring(run, node, "time.sleep(600)", SCORES)
    subprocess.run(["scancel", scorings(run, node)[-1]["JobId"]], check=True)
    assert process.wait(timeout=240) == 0
    assert [job["JobState"] for job in scorings(run, node)] == ["CANCELLED", "COMPLETED"]


def test_a_killed_run_is_started_again(run: ClusterRun, node: SlurmNode) -> None:
    """Its job goes on without it; the next run waits for that rather than writing the same files beside it."""
    before = run.digests()
    process = start_scoring(run, node, "time.sleep(15)")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (left,) = scorings(run, node)
    assert left["JobState"] == "RUNNING"

    output = run.run().stdout
    assert f"Waiting for SLURM jobs of an earlier run in this folder: {left['JobId']}." in output
    plan = json.loads((run.run_folder / "baselines" / "Mine_remove_1" / "plan.json").read_text())
    assert plan["kept_layers"] == [1, 2]
    after = run.digests()
    assert {name: after[name] for name in before} == before
    assert "Nothing to be done" in run.run("--dry-run").stdout
    assert len(scorings(run, node)) == 1

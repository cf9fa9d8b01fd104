"""What jobs ask for, and who may start in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_pruner.workflow import locks, resources
from llm_pruner.workflow.config import Config


@pytest.mark.parametrize(
    ("source", "jobs", "expected"),
    [
        ("builtin", {}, (2_000, 30, 1)),
        ("smollm2", {}, (6_000, 60, 1)),
        ("Qwen/Qwen3-0.6B", {}, (32_000, 240, 8)),
        ("builtin", {"memory_mb": 500}, (500, 30, 1)),
        ("Qwen/Qwen3-0.6B", {"minutes": 7, "threads": 3, "gpus": 2}, (32_000, 7, 3)),
    ],
)
def test_a_job_asks_for_what_fits_the_model_or_what_is_configured(
    source: str, jobs: dict[str, int], expected: tuple[int, int, int]
) -> None:
    config = Config.model_validate({"model": {"source": source}, "jobs": jobs, "variants": ["Dense"]})
    assert config.needs == resources.Needs(*expected)


@pytest.mark.parametrize(
    ("source", "jobs", "expected"),
    [
        ("builtin", {}, (2_000, 30, 1)),
        ("minilm", {}, (16_000, 480, 8)),
        ("minilm", {"memory_mb": 64_000, "threads": 2}, (64_000, 480, 2)),
    ],
)
def test_jobs_of_classifiers_obey_the_configuration(
    source: str, jobs: dict[str, int], expected: tuple[int, int, int]
) -> None:
    config = Config.model_validate({"encoders": {"teacher": {"source": source}}, "jobs": jobs, "variants": ["Dense"]})
    assert config.classifier_needs == resources.Needs(*expected)


@pytest.mark.parametrize(
    ("device", "limit", "cluster", "seen", "expected"),
    [
        ("auto", None, False, ["0"], True),
        ("auto", None, False, [], False),
        ("auto", 4, True, [], True),
        ("auto", 0, True, ["0"], False),
        ("cuda:1", None, False, [], True),
        ("cpu", None, True, ["0"], False),
    ],
)
def test_who_asks_for_gpus(
    device: str, limit: int | None, cluster: bool, seen: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "visible_gpus", lambda: seen)
    assert resources.uses_gpus(device, limit, cluster) is expected


def test_jobs_left_in_the_queue_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = (tmp_path / "slurm_logs").resolve()
    queues = [f"1 {logs}/a.log\n2 /elsewhere/b.log\n", f"1 {logs}/a.log\n", "2 /elsewhere/b.log\n"]
    monkeypatch.setattr("shutil.which", lambda _: "squeue")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(stdout=queues.pop(0)))
    said: list[str] = []
    locks.wait_for_left_over_jobs(said.append, tmp_path, seconds=0)
    assert not queues
    assert len(said) == 1 and " 1. " in said[0]


def test_what_is_private_to_snakemake_is_still_there(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        "from llm_pruner.workflow import snakemake_private as private\n"
        "values = (private.cores(workflow), private.on_cluster(workflow), private.gpu_limit(workflow))\n"
        "onstart:\n    private.submit_at_once(workflow)\n"
        "rule all:\n    output: 'seen'\n    params: values=str(values)\n"
        "    shell: 'echo {params.values:q} > {output}'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "3", "--resources", "gpu=2", "--quiet"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "seen").read_text() == "(3, False, 2)\n"

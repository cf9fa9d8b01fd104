"""One GPU a job, before torch is imported: on machines whose nvidia-smi is a script and whose GPUs are names."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_pruner.system.device import visible_gpus
from llm_pruner.system.runtime import Runtime
from tests.tiny import ROOT
from tests.tiny.workflows import CONFIG, Workflow

FOUR = "".join(f"GPU {index}: NVIDIA H200 (UUID: GPU-{letter * 4})\n" for index, letter in enumerate("abcd"))
DIVIDED = """\
GPU 0: NVIDIA A100 (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100 (UUID: GPU-bbbb)
"""
# holds what it claimed until its input ends
JOB = """
import os, sys
from llm_pruner.system.device import claimed_gpus
def say(line): print(line, flush=True)
with claimed_gpus(sys.argv[1], say, int(sys.argv[2])):
    assert "torch" not in sys.modules
    print("has", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts an ``nvidia-smi`` on PATH that lists these GPUs, with this much free memory by UUID."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)

    def install(listed: str, free: dict[str, int] | None = None) -> None:
        memory = "".join(f"{uuid}, {size}\n" for uuid, size in (free or {}).items())
        (tmp_path / "listed").write_text(listed)
        (tmp_path / "memory").write_text(memory)
        smi = tmp_path / "nvidia-smi"
        smi.write_text(f"#!/bin/sh\ncase $1 in -L) cat {tmp_path}/listed ;; --query*) cat {tmp_path}/memory ;; esac\n")
        smi.chmod(0o755)

    return install


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    jobs: list[subprocess.Popen[str]] = []

    def start(request: str = "auto", count: int = 1, **environment: str) -> subprocess.Popen[str]:
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", JOB, request, str(count)],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.wait()


def line(job: subprocess.Popen[str]) -> str:
    assert job.stdout
    return job.stdout.readline().strip()


def test_four_jobs_have_a_gpu_each_and_a_fifth_waits(machine: Callable, start: Callable) -> None:
    machine(FOUR)
    jobs = {line(job): job for job in [start() for _ in range(4)]}
    assert set(jobs) == {f"has GPU-{letter * 4}" for letter in "abcd"}
    fifth = start()
    assert line(fifth).startswith("waiting for 1 of 4 GPUs")
    jobs["has GPU-cccc"].kill()  # no chance to tidy up
    assert line(fifth) == "has GPU-cccc"
    sixth = start()
    assert line(sixth).startswith("waiting for 1 of ")
    jobs["has GPU-bbbb"].stdin.close()  # an end as it should be
    assert line(sixth) == "has GPU-bbbb"


def test_the_emptiest_gpu_comes_first(machine: Callable, start: Callable) -> None:
    machine(FOUR, {"GPU-aaaa": 100, "GPU-bbbb": 20_000, "GPU-cccc": 80_000, "GPU-dddd": 9_000})
    assert [line(start()) for _ in range(4)] == [f"has GPU-{letter * 4}" for letter in "cbda"]


def test_a_gpu_asked_for_by_number_is_locked_and_torch_still_counts_all(machine: Callable, start: Callable) -> None:
    machine(FOUR)
    assert line(start("cuda:1")) == "has None"
    second = start("cuda:1")
    assert line(second).startswith("waiting for 1 of 1 GPUs")
    assert {line(start("cuda")) for _ in range(3)} == {"has GPU-aaaa", "has GPU-cccc", "has GPU-dddd"}


def test_jobs_that_spread_over_gpus_never_wait_for_each_other(machine: Callable, start: Callable) -> None:
    """Whoever cannot have all it needs holds none."""
    machine(FOUR)
    first = start(count=3)
    assert line(first) == "has GPU-aaaa,GPU-bbbb,GPU-cccc"
    second = start(count=2)
    assert line(second).startswith("waiting for 2 of 4 GPUs")
    assert line(start()) == "has GPU-dddd"
    first.kill()
    assert line(second) == "has GPU-aaaa,GPU-bbbb"
    assert line(start(count=9)).startswith("waiting for 4 of 4 GPUs")


@pytest.mark.parametrize(
    ("visible", "first", "second"),
    [
        ("2,0", "has 2", "has 0"),
        ("GPU-dd,GPU-aaaa", "has GPU-dd", "has GPU-aaaa"),
        ("MIG-GPU-aaaa/1/0,3", "has MIG-GPU-aaaa/1/0", "has 3"),
    ],
)
def test_only_what_is_visible_is_shared_out(
    visible: str, first: str, second: str, machine: Callable, start: Callable
) -> None:
    machine(FOUR)
    assert line(start(CUDA_VISIBLE_DEVICES=visible)) == first
    assert line(start(CUDA_VISIBLE_DEVICES=visible)) == second
    assert line(start(CUDA_VISIBLE_DEVICES=visible)).startswith("waiting for 1 of 2 GPUs")


def test_the_same_gpu_by_another_name_is_taken(machine: Callable, start: Callable) -> None:
    machine(FOUR)
    assert line(start(CUDA_VISIBLE_DEVICES="3")) == "has 3"
    assert line(start(CUDA_VISIBLE_DEVICES="GPU-dddd")).startswith("waiting for 1 of ")


def test_in_a_slurm_job_its_allocation_is_all_there_is(machine: Callable, start: Callable) -> None:
    """Where SLURM hides other jobs' devices, each counts its own from zero."""
    assert line(start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7")) == "has 0"
    assert line(start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="8")) == "has 0"
    assert line(start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="8")).startswith("waiting for 1 of ")


def test_parts_of_a_divided_gpu_are_devices(machine: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(DIVIDED)
    assert list(visible_gpus()) == ["MIG-1111", "MIG-2222", "GPU-bbbb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2222")
    assert visible_gpus() == {"MIG-2222": "MIG-2222"}


@pytest.mark.parametrize(("visible", "names"), [("", []), ("-1", []), ("1,-1,0", ["1"]), ("9", ["9"])])
def test_visible_devices_are_read_as_cuda_does(
    visible: str, names: list[str], machine: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(visible_gpus()) == names


def test_without_a_gpu_nothing_is_claimed(machine: Callable, start: Callable) -> None:
    machine("")
    assert visible_gpus() == {}
    assert line(start()) == "has None"


def test_a_runtime_starts_on_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert Runtime(batch_size=3, progress=True).start() == Runtime("cpu", 3, progress=True)
    assert Runtime("cuda:7").start() == Runtime("cuda:7")


def test_a_claim_after_torch_is_refused() -> None:
    code = "import torch; from llm_pruner.system.device import claimed_gpus\nwith claimed_gpus('auto', print): pass"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "a GPU must be claimed before torch is imported" in result.stderr


def test_no_script_imports_torch_before_it_claims() -> None:
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "workflow_scripts").glob("*.py"))]
    nodes = [node for tree in trees for node in tree.body]
    imports = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "from llm_pruner.evaluation.quality import evaluate_quality" in imports
    future = "from __future__ import annotations"
    code = "\n".join([line for line in imports if line != future] + ["import sys; assert 'torch' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


SNAKEFILE = """
rule all:
    input: expand("{name}.txt", name=list("abcde"))

rule with_gpu:
    output: "{name}.txt"
    log: "{name}.log"
    wildcard_constraints: name="[abcd]"
    resources: gpu=1
    script: "see.py"

rule without:
    output: "e.txt"
    log: "e.log"
    script: "see.py"
"""
SCRIPT = """
import os, sys, time
from pathlib import Path
from workflow_scripts.job import job

with job(snakemake):
    assert "torch" not in sys.modules
    Path(snakemake.output[0]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    deadline = time.monotonic() + 60  # all four at once, or never
    while snakemake.rule == "with_gpu" and len(list(Path().glob("[abcd].txt"))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
"""


@pytest.mark.workflow
def test_jobs_of_a_workflow_run_side_by_side_on_gpus_of_their_own(machine: Callable, tmp_path: Path) -> None:
    machine(FOUR)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "see.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "snakemake", "--cores", "5", "--resources", "gpu=4"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    seen = {name: (tmp_path / f"{name}.txt").read_text() for name in "abcde"}
    assert {seen[name] for name in "abcd"} == {f"GPU-{letter * 4}" for letter in "abcd"}
    assert seen["e"] == ""


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("device", "listed", "options", "asks"),
    [
        ("auto", FOUR, [], True),
        ("auto", "", [], False),
        ("auto", FOUR, ["--resources", "gpu=0"], False),
        # the machine that submits has none, which says nothing
        ("auto", "", ["--jobs", "5", "--resources", "gpu=8"], True),
        ("auto", "", ["--jobs", "5", "--resources", "gpu=0"], False),
        ("cuda", "", ["--jobs", "5", "--resources", "gpu=8"], True),
        ("cpu", FOUR, [], False),
    ],
)
def test_when_jobs_ask_for_a_gpu(
    device: str, listed: str, options: list[str], asks: bool, machine: Callable, ready_python: Path, tmp_path: Path
) -> None:
    machine(listed)
    workflow = Workflow.create(tmp_path / "workflow", ready_python)
    workflow.config["model"] = {**CONFIG["model"], "device": device}
    command = workflow.command("--dry-run", "baselines/Dense/evaluation/perplexity.json", *options)
    if "--jobs" in options:
        del command[command.index("--cores") : command.index("--cores") + 2]
    output = subprocess.check_output(command, cwd=workflow.run_folder, env=workflow.environment, text=True)
    evaluate = output.partition("rule evaluate:")[2].partition("resources:")[2].splitlines()[0]
    assert ("gpu=1" in evaluate) == asks

"""Copies of the workflow on a tiny model, whose sources may be edited and whose runs may be killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import ROOT
from tests.tiny.text import WORDS

PARTS = ("Snakefile", "llm_pruner", "rules", "workflow_scripts", "envs", "profiles", "report")
CONFIG: dict[str, Any] = {
    "model": {
        "source": "builtin",
        "builtin": {
            "vocab_size": 512,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "intermediate_size": 64,
            "max_position_embeddings": 128,
            "steps": 15,
            "sequence_length": 64,
        },
        "device": "cpu",
    },
    "calibration": {"source": "train.txt", "samples": 8, "length": 32},
    "perplexity": {"source": "test.txt", "window": 32, "max_windows": 16},
    "zero_shot": {"items": 6},
    "continuations": {"new_tokens": 4},
    "efficiency": {"prompt_length": 16, "new_tokens": 4, "repeats": 1, "batch_sizes": [1, 2]},
    "healing": {"source": "train.txt", "samples": 16, "length": 32},
    "steps": {"lora": {"steps": 6, "batch_size": 4, "learning_rate": 0.005}},
    "variants": [
        "Magnitude_2000",
        "GQA_2000",
        {"GQA_found_3000": {"split": "search", "allocation": "inverse"}},
        "Wanda_2of4",
        "ShortGPT_remove_1",
        "SliceGPT_2500",
        "GQA_2000+lora",
        "Wanda_2of4+lora",
        "GQA_2000+lora+nf4",
    ],
}
VARIANTS = ["Dense", *(name for entry in CONFIG["variants"] for name in ([entry] if isinstance(entry, str) else entry))]


class Workflow:
    """A copy of the workflow whose sources may be edited, with a folder to run in.

    Attributes:
        python: what runs Snakemake, and with it every job.
    """

    def __init__(self, root: Path, python: str | Path = sys.executable) -> None:
        self.root = root
        self.python = python
        self.run_folder = root / "run"
        self.config: dict[str, Any] = json.loads(json.dumps(CONFIG))

    @classmethod
    def create(cls, root: Path, python: str | Path = sys.executable) -> Workflow:
        root.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, root / part)
        (root / "run").mkdir()
        for seed, name in enumerate(("train.txt", "test.txt")):
            # collecting the built-in text takes a job seconds
            words = random.Random(seed).choices(WORDS, k=5_000)
            (root / "run" / name).write_text(" ".join(words))
        return cls(root, python)

    def clone(self, root: Path) -> Workflow:
        """The same sources and results elsewhere, time stamps kept."""
        shutil.copytree(self.root, root, symlinks=True)
        return Workflow(root, self.python)

    def command(self, *arguments: str) -> list[str]:
        (self.run_folder / "config.yaml").write_text(yaml.safe_dump(self.config))
        snakemake = [str(self.python), "-m", "snakemake", "--snakefile", str(self.root / "Snakefile"), "--cores", "2"]
        return [*snakemake, "--workflow-profile", str(self.root / "profiles" / "default"), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """With this copy's package, which the first job compiles for all."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return {**environment, "PYTHONPATH": str(self.root)}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            self.command(*arguments),
            cwd=self.run_folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, result.stdout[-5000:]
        return result

    def to_do(self) -> Counter[str]:
        """Jobs a run would execute, by rule and variant or score."""
        output = self.run("--dry-run").stdout
        jobs: Counter[str] = Counter()
        for block in re.split(r"\n(?=(?:local)?rule )", output):
            if match := re.match(r"(?:local)?rule (\w+):", block):
                wildcard = re.search(r"wildcards: \w+=(\S+)", block)
                jobs[match[1] + (f" {wildcard[1]}" if wildcard else "")] += 1
        return jobs

    def digests(self) -> dict[str, str]:
        """Content of everything that must come out the same each time: models, plans, scores."""
        patterns = ("baselines/*/model/*", "baselines/*/plan.json", "resources/model/*", "resources/*.safetensors")
        files = sorted(file for pattern in patterns for file in self.run_folder.glob(pattern))
        return {str(file.relative_to(self.run_folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    def measured(self) -> dict[str, Any]:
        """Quality of every model, without what depends on the clock."""
        values = {}
        for file in sorted(self.run_folder.glob("baselines/*/evaluation/*.json")):
            if file.name != "efficiency.json":
                content = json.loads(file.read_text())
                content.pop("run")
                values[f"{file.parts[-3]}/{file.stem}"] = content
        return values


def kill_in_the_middle(workflow: Workflow, job: str, target: str) -> None:
    """Take away what a job made, start it again, and kill everything of that run at once; its lock is left behind.

    The run is of ordinary processes, all in one group.
    """
    made = workflow.run_folder / target
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    log = workflow.run_folder / "logs" / f"{job}.log"
    log.unlink()
    process = subprocess.Popen(
        [sys.executable, *workflow.command(target)[1:]],
        cwd=workflow.run_folder,
        env=workflow.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert log.exists() and process.poll() is None
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list((workflow.run_folder / ".snakemake" / "locks").iterdir())

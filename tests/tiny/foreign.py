"""What models compute where this package is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

PROGRAM = Path(__file__).with_name("foreign_program.py")


def foreign_logits(folders: Mapping[Path, bool], token_file: Path, room: Path) -> dict[Path, torch.Tensor]:
    """What models compute in a process that has transformers and not this package, of its own for each of them.

    Args:
        folders: models, and whether their own code may run.
        room: an empty folder to work in.
    """
    return _foreign("AutoModelForCausalLM", "logits", folders, token_file, room)


def foreign_states(folders: Iterable[Path], token_file: Path, room: Path) -> dict[Path, torch.Tensor]:
    """What models without output weights compute in such a process, which runs their own code."""
    return _foreign("AutoModel", "last_hidden_state", dict.fromkeys(folders, True), token_file, room)


def _foreign(
    loader: str, result: str, folders: Mapping[Path, bool], token_file: Path, room: Path
) -> dict[Path, torch.Tensor]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(room / "home"), "HF_HUB_OFFLINE": "1"}
    given = [str(part) for pair in folders.items() for part in pair]
    room.mkdir()
    command = [sys.executable, "-P", str(PROGRAM), str(token_file), loader, result, *given]
    subprocess.run(command, check=True, cwd=room, env=environment)
    return {folder: load_file(room / f"{number}.safetensors")[result] for number, folder in enumerate(folders)}

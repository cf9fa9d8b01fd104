"""Commands as they are typed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from llm_pruner.cli import app
from llm_pruner.system.files import read_json
from tests.tiny import ROOT


def run(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.output
    return result


def run_json(*arguments: Any, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


def killed_and_whole(arguments: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """Outputs of a command that trains: one ended by SIGKILL in the middle and given again, and one undisturbed."""
    killed, whole = folder / "killed", folder / "whole"
    command = [sys.executable, "-c", "from llm_pruner.cli import main; main()", *arguments, "--output", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    state = killed / "resume_point" / "state.json"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (state.exists() and read_json(state)["history"]["step"] > 0):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists() and not (killed / "model").exists()
    for output in (killed, whole):
        run(*arguments, "--output", output)
    return killed, whole


def heavy_imports(*arguments: Any) -> tuple[str, str, int]:
    """Standard output, the heavy packages that a command imported, and its exit code; in a process of its own."""
    program = (
        "import re, sys\n"
        "from llm_pruner.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = [m for m in sys.modules if re.fullmatch('torch|transformers|lm_eval|datasets', m)]\n"
        "    print('HEAVY', heavy, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return done.stdout, done.stderr.split("HEAVY ")[-1].strip(), done.returncode

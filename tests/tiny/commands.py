"""Commands as they are typed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from llm_pruner.cli import app
from tests.tiny import ROOT


def run(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.output
    return result


def run_json(*arguments: Any, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from llm_pruner.cli import main
from llm_pruner.system.errors import DataError
from llm_pruner.system.files import read_json

def reached(state):
    try:
        return read_json(state)["history"]["step"]
    except DataError:  # not there yet, or just replaced
        return 0

def kill_in_the_middle(state):
    while not reached(state):
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)

state = Path(sys.argv[-1], "resume_point", "state.json")
threading.Thread(target=kill_in_the_middle, args=[state], daemon=True).start()
main()
"""


def killed_and_whole(arguments: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """Outputs of a command that trains: one ended by SIGKILL in the middle and given again, and one undisturbed."""
    killed, whole = folder / "killed", folder / "whole"
    # by a thread of its own, so that a busy machine kills no later
    command = [sys.executable, "-c", KILLED, *arguments, "--output", str(killed)]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    assert (killed / "resume_point" / "state.json").exists() and not (killed / "model").exists()
    for output in (killed, whole):
        run(*arguments, "--output", output)
    return killed, whole


def heavy_imports(*commands: Sequence[Any]) -> list[tuple[str, str, int]]:
    """Standard output of each command, the heavy packages imported by its end, and its exit code.

    One after another in a process of their own, where the first heavy import shows in all that follow.
    """
    program = (
        "import json, re, sys\n"
        "from llm_pruner.cli import main\n"
        "for arguments in json.loads(sys.argv.pop()):\n"
        "    sys.argv[1:], code = arguments, 0\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        code = end.code\n"
        "    heavy = [m for m in sys.modules if re.fullmatch('torch|transformers|lm_eval|datasets', m)]\n"
        "    print('HEAVY', json.dumps([str(heavy), code or 0]), flush=True)\n"
    )
    given = json.dumps([[str(argument) for argument in arguments] for arguments in commands])
    said = subprocess.check_output([sys.executable, "-c", program, given], text=True, cwd=ROOT)
    ends = re.findall(r"(?s)(.*?)^HEAVY (.*?)$\n", said, re.MULTILINE)
    assert len(ends) == len(commands)
    return [(stdout, *json.loads(end)) for stdout, end in ends]

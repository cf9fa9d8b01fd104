"""Numbers, names and paths of every size on the command line: one message, no traceback, and nothing is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm_pruner.cli import app

PRUNE = "prune --model {model} --output {out} "
LINES = {
    "nan": (PRUNE + "--strategy magnitude --ratio nan", "nan is not between 0 and 1"),
    "inf": (PRUNE + "--strategy magnitude --ratio inf", "inf is not between 0 and 1"),
    "-inf": (PRUNE + "--strategy magnitude --ratio -inf", "-inf is not between 0 and 1"),
    "digits": (PRUNE + f"--strategy shortgpt --layers {'9' * 5000}", "exceeded maximum size"),
    "digits of a name": (PRUNE + f"--name ShortGPT_remove_{'9' * 150}", "a number of 150 digits; write at most 6"),
    "digits of a pattern": (PRUNE + f"--strategy wanda --structure {'1' * 5000}:{'2' * 5000}", "of 5,000 digits"),
    "digits of an option": (PRUNE + f"--strategy gqa --ratio 0.1 --option samples={'9' * 5000}", "a whole number"),
    "brackets": (PRUNE + f"--strategy gqa --ratio 0.1 --option samples={'[' * 100_000}", "a whole number"),
    "nan option": (PRUNE + "--strategy gqa --ratio 0.1 --option samples=NaN", "samples: Input should be"),
    "method": (PRUNE + "--strategy gqa --ratio 0.1 --option method=5", "method: 5 is not a class"),
    "strategy": (PRUNE + f"--strategy {'x' * 5000} --ratio 0.1", "at most 200 fit a folder's name"),
    "source": (PRUNE + f"--strategy wanda --structure 2:4 --calibration {'a' * 5000}", "neither a file nor a known"),
    "home": (PRUNE + "--strategy wanda --structure 2:4 --calibration ~nosuchuser", "neither a file nor a known"),
    "device": (PRUNE + "--strategy magnitude --structure 2:4 --device quantum", "no device 'quantum'; write auto, cpu"),
    "fetch": ("fetch ~nosuchuser --output {out}", "no folder '~nosuchuser'"),
    "fetch a name": ("fetch a/b/c --output {out}", "'a/b/c' is no known model, no folder"),
}


@pytest.mark.parametrize(("line", "message"), LINES.values(), ids=LINES)
def test_hostile_lines(line: str, message: str, make_model: Callable[..., Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, line.format(model=make_model(), out=tmp_path / "out").split())
    assert isinstance(result.exception, SystemExit) and result.exit_code in (1, 2)
    assert message in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists() or not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]

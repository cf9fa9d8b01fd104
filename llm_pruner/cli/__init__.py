"""The command line: thin commands over the library calls that the workflow's scripts make.

Results go to stdout, progress and problems to stderr. Exit codes: 0 success; 1 refused or failed, with one message;
2 wrong usage; 3 finished, but some inputs were damaged or missing, and stderr names them.
"""

from __future__ import annotations

import os

import typer

from llm_pruner.cli import distill, evaluate, export, fetch, methods, prune, quick, results
from llm_pruner.cli.common import Commands

app = typer.Typer(
    name="llm-pruner",
    cls=Commands,
    help="Prune language models and compare the results. Exit codes: 0 success, 1 an error with one message, "
    "2 wrong usage, 3 finished but some inputs were damaged or missing.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.callback(invoke_without_command=True)(quick.quick)
for panel, commands in (
    ("Make models", (fetch.fetch, prune.prune, prune.score, prune.step, prune.heal, prune.quantize)),
    ("Look at models", (evaluate.evaluate, results.analyze, results.analyze_batch, evaluate.doctor)),
    ("Compare", (results.compare, results.summarize, results.table, results.show, results.recommend, results.plot)),
    ("About", (methods.methods,)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(export.app, name="export", rich_help_panel="Make models")
app.add_typer(distill.app, name="distill", rich_help_panel="Make models")


def main() -> None:
    """Entry point of ``llm-pruner``."""
    # as in the workflow: spinning idle OpenMP threads make everything about ten times slower on shared cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app(prog_name="llm-pruner")

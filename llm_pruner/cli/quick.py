"""The quick way, without a command: prune one model by a method's usual amount, and print gains and losses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from llm_pruner.analysis.comparison import ANALYSIS_FILES
from llm_pruner.analysis.records import ModelComparison
from llm_pruner.cli.chain import Text, compose_name, make_variant, refuse_existing
from llm_pruner.cli.common import Device, Force, Json, Progress, emit, model_folder
from llm_pruner.cli.prune import STRATEGY, mechanisms_of
from llm_pruner.evaluation.records.efficiency import EfficiencyResult
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.records import read_scores
from llm_pruner.models.architecture import read_config
from llm_pruner.system.errors import ConfigError
from llm_pruner.system.files import write_json
from llm_pruner.system.records import Pair
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.resume import RESUME_POINT
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.variant import DENSE, Variant

SHARE = 0.2
"""Share to remove, for mechanisms that take a share."""
SPARSE = "2:4"
BEFORE = "before"
"""Folder, within the output, of the base's measurements."""
_SAMPLES, _LENGTH = 16, 64
_SAMPLES_OF_MANY_PASSES = 4
_WINDOW, _WINDOWS = 256, 8
_QUESTIONS = 48
_NEW_TOKENS, _REPEATS = 8, 3
_MEASURED = tuple(f"{place}/{part}.json" for place in (BEFORE, "evaluation") for part in ("efficiency", "perplexity"))
_SHOWN = (
    *(f"figures/{name}.png" for name in ("layer_importance", "layer_reduction", "right_answers")),
    f"{BEFORE}/answers.json",
    "evaluation/answers.json",
    "gains.json",
    "mergekit.yaml",
)


def quick(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Option("--model", exists=True, file_okay=False, help="Model folder.", show_default=False)
    ] = None,
    strategy: Annotated[str | None, STRATEGY] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", file_okay=False, help="Folder to write.", show_default=False)
    ] = None,
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Prune a model by a method's usual amount, a fifth, and print gains and losses.

    Calibration and measurements are short. OUTPUT gets model/, plan.json, pruning.json, evaluation/, before/,
    analysis/, figures/, gains.json and, if whole layers went, mergekit.yaml. The commands do each part in full.

    llm-pruner --model base --strategy smart --output pruned
    """
    given = {"--model": model, "--strategy": strategy, "--output": output}
    if context.invoked_subcommand:
        early = [name for name, value in given.items() if value is not None]
        if early:
            _refuse(context, f"{', '.join(early)}: write options behind the command, {context.invoked_subcommand}")
        return
    if model is None or strategy is None or output is None:
        missing = ", ".join(name for name, value in given.items() if value is None)
        _refuse(context, f"without a command, {missing} must be given too")
    base = model_folder(model)
    variant = usual_variant(strategy, read_config(base)["num_hidden_layers"])
    refuse_existing(
        output,
        force,
        [base],
        records=["pruning.json", "calibration.safetensors", "evaluation.safetensors", *_MEASURED],
        files=["plan.json", *(f"analysis/{name}" for name in ANALYSIS_FILES), *_SHOWN],
        reused=[output / "scores" / f"{score.name}.json" for score in variant.scores],
        continued=[RESUME_POINT] if variant.repaired else [],
    )
    runtime = Runtime(device, _SAMPLES, progress)
    with redirect_stdout(sys.stderr):
        record = _prune(variant, base, output, runtime)
        gains = _gains(base, output, runtime)
    write_json(output / "gains.json", gains)
    if as_json:
        emit(gains, "", as_json)
    else:
        _show(variant, record, gains, output)


def usual_variant(strategy: str, num_layers: int) -> Variant:
    """The variant that removes a fifth by the method's first mechanism; 2 of 4 weights if the mechanism is sparse.

    Layers are chosen as by ``BasePruner.select_layers``: the first and last layers stay.

    Raises:
        ConfigError: for an unknown method, or a method that removes nothing.
    """
    from llm_pruner.objects.pruners import USUAL_ENDS, USUAL_SHARE, share_of_layers

    mechanism = get_mechanism(mechanisms_of(strategy)[0])
    if mechanism.asks == "nothing":
        raise ConfigError(["removes nothing; `llm-pruner methods` lists the methods"], DENSE)
    if mechanism.masks:
        return resolve(compose_name(strategy, SPARSE, None, None))
    if mechanism.asks == "ratio":
        return resolve(compose_name(strategy, mechanism.name, SHARE, None))
    count = share_of_layers(USUAL_SHARE, num_layers)
    ends = USUAL_ENDS.model_dump(include={"protect_first", "protect_last"})
    named = resolve(compose_name(strategy, mechanism.name, None, count), ends)
    if "steps" in named.method_options:
        # each ranked layer costs a pass over the model for every layer left, so rank no more than can be needed
        few = {"steps": min(count + sum(ends.values()), num_layers - 1), "samples": _SAMPLES_OF_MANY_PASSES}
        return resolve(named.name, {**ends, **few})
    return named


def _refuse(context: typer.Context, message: str) -> NoReturn:
    raise typer.BadParameter(message, ctx=context)


def _prune(variant: Variant, base: Path, output: Path, runtime: Runtime) -> PruningRecord:
    """Make the pruned model, and return its record."""
    from llm_pruner.analysis.comparison import write_analysis
    from llm_pruner.exports.mergekit import base_dtype, write_mergekit_yaml
    from llm_pruner.objects.plots import plot_layer_importance
    from llm_pruner.planning.plan import Plan
    from llm_pruner.report.figures import FIGURES
    from llm_pruner.report.table import read_results

    length = min(_LENGTH, _context(base))
    text = Text("builtin", samples=_SAMPLES, length=length)
    record = make_variant(variant, base, output, text, runtime=runtime)
    written = output / "plan.json"
    plan = Plan.read(written) if written.exists() else None
    figures = output / "figures"
    (output / "mergekit.yaml").unlink(missing_ok=True)
    if get_mechanism(variant.mechanism).ranks_layers and plan and variant.score:
        config = read_config(base)
        write_mergekit_yaml(plan, output / "mergekit.yaml", str(base.absolute()), base_dtype(config))
        scores = read_scores(output / "scores" / f"{variant.score.name}.json").to_dict()["layers"]
        plot_layer_importance(scores, figures / "layer_importance.png", removed=plan.removed_layers)
    write_analysis(base, output / "model", written if plan else None, output / "analysis", output.absolute().name)
    FIGURES["layer_reduction"].draw(read_results([output]), figures / "layer_reduction.png")
    return record


def _context(base: Path) -> int:
    return int(read_config(base).get("max_position_embeddings") or _WINDOW)


def _gains(base: Path, output: Path, runtime: Runtime) -> dict[str, dict[str, Any]]:
    """Measurements of both models by name: ``before``, ``after``, and the larger ``stderr`` if there is one."""
    from llm_pruner.data.sampling import encode_evaluation
    from llm_pruner.data.sources import split_for
    from llm_pruner.objects.plots import plot_holistic_benchmark

    tokens = output / "evaluation.safetensors"
    encode_evaluation("builtin", split_for("builtin", None, "evaluation"), base, tokens)
    places = {"before": (base, output / BEFORE), "after": (output / "model", output / "evaluation")}
    before = _speed(*places["before"], "before", runtime)
    pruned = _speed(*places["after"], "after", runtime, base=base)
    # both from one process, in turn: what the machine does beside slows both
    speeds = {"before": (pruned.base_batches or before.batches)[0], "after": pruned.batches[0]}
    quality = {name: _quality(*place, name, tokens, runtime) for name, place in places.items()}
    plot_holistic_benchmark(
        {name: answers for name, (_, answers) in quality.items()}, output / "figures" / "right_answers.png"
    )
    comparison = ModelComparison.read(output / "analysis" / "model_comparison.json")
    totals = comparison.totals
    return {
        "layers": _pair(comparison.num_layers),
        "parameters": _pair(totals.parameters),
        "non-zero parameters": _pair(totals.nonzero),
        "megabytes on disk": {name: value / 1e6 for name, value in _pair(totals.bytes_on_disk).items()},
        "tokens decoded a second": {name: times.decode_tokens_per_second for name, times in speeds.items()},
        "perplexity": {name: measured.perplexity for name, (measured, _) in quality.items()},
        f"right answers of {_QUESTIONS} in %": {
            **{name: 100 * answers["mean"]["score"] for name, (_, answers) in quality.items()},
            "stderr": 100 * max(answers["mean"]["stderr"] for _, answers in quality.values()),
        },
    }


def _pair(quantity: Pair[int]) -> dict[str, int]:
    return {"before": quantity.before, "after": quantity.after}


def _speed(folder: Path, output: Path, name: str, runtime: Runtime, base: Path | None = None) -> EfficiencyResult:
    from llm_pruner.evaluation.efficiency import measure_efficiency

    prompt = min(_LENGTH, _context(folder) // 2)
    return measure_efficiency(
        folder,
        output / "efficiency.json",
        name=name,
        prompt_length=prompt,
        new_tokens=_NEW_TOKENS,
        batch_sizes=(1,),
        repeats=_REPEATS,
        device=runtime.device,
        base=base,
    )


def _quality(
    folder: Path, output: Path, name: str, tokens: Path, runtime: Runtime
) -> tuple[PerplexityResult, dict[str, Any]]:
    """Perplexity and answers to the packaged questions of a model, loaded once."""
    from llm_pruner.evaluation.quality import measure_perplexity
    from llm_pruner.objects.holistic import HolisticEvaluator
    from llm_pruner.objects.questions import PACKAGED, load_eval_dataset

    evaluator = HolisticEvaluator(folder, device=runtime.device, max_new_tokens=min(_LENGTH, _context(folder)) // 2)
    options = {"window": min(_WINDOW, _context(folder)), "max_windows": _WINDOWS}
    measured = measure_perplexity(evaluator.model, tokens, name, options, progress=runtime.progress)
    measured.write(output / "perplexity.json")
    answers = evaluator.evaluate(load_eval_dataset(_QUESTIONS, PACKAGED))
    write_json(output / "answers.json", answers)
    return measured, answers


def _show(variant: Variant, record: PruningRecord, gains: Mapping[str, Mapping[str, float]], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", title=f"{variant.name}: {output}")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for name, pair in gains.items():
        change = f"{pair['after'] / pair['before'] - 1:+.1%}" if pair["before"] else ""
        error = f" ± {pair['stderr']:.1f}" if "stderr" in pair else ""
        table.add_row(f"{name}{error}", _number(pair["before"]), _number(pair["after"]), change)
    console = Console()
    console.print(table)
    for note in record.notes:
        console.print(note, markup=False, highlight=False)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"

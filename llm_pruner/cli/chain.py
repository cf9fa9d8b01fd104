"""Make a pruned model from its base alone: the workflow's jobs one after the other, with all files in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from llm_pruner.cli.common import CALIBRATION, claim
from llm_pruner.data.sources import TOKEN_SUFFIX, split_for
from llm_pruner.data.tokens import read_facts, read_tokens
from llm_pruner.mechanisms import all_mechanisms
from llm_pruner.mechanisms.base import Mechanism
from llm_pruner.mechanisms.records import MadeFrom, ScoresFile, read_scores
from llm_pruner.mechanisms.width.options import SEARCH
from llm_pruner.methods import METHODS
from llm_pruner.models.architecture import read_architecture, read_config
from llm_pruner.models.headers import checkpoint_files
from llm_pruner.models.shapes import check_base
from llm_pruner.system.errors import ConfigError, PrunerError
from llm_pruner.system.ownership import refuse_foreign
from llm_pruner.system.paths import file_exists
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.variant import DENSE, ScoreSpec, Variant
from llm_pruner.workflow.preflight import check_variant


@dataclass(frozen=True)
class Text:
    """Source of samples, and their number, length and seed."""

    source: str
    split: str | None = None
    samples: int | None = None
    length: int | None = None
    seed: int = 0

    @property
    def files(self) -> list[Path]:
        """The file with the text or tokens; empty for a named source."""
        return [Path(self.source)] if file_exists(self.source) else []

    def places(self, *outputs: Path) -> list[Path]:
        """Those of the token files that ``draw`` may write, but not one that is the source itself."""
        return [path for path in outputs if not any(path.exists() and path.samefile(own) for own in self.files)]

    def draw(self, model: Path, output: Path, *, held_out: bool = False) -> Path:
        """Write the samples as a token file, as the workflow does.

        Args:
            held_out: draw the samples that follow the calibration samples, instead of these.

        Raises:
            ConfigError: for samples longer than the model's context.
            DataError: if the source lacks the split, has too little text or is damaged.
            PrunerError: if ``output`` is the source itself, or a file that this tool did not make.
        """
        from llm_pruner.data.sampling import SampleSpec, draw_samples

        samples, length = self.samples or CALIBRATION.samples, self.length or CALIBRATION.length
        if self.source.endswith(TOKEN_SUFFIX):
            held = read_tokens(self.source)
            samples, length = self.samples or held.shape[0], self.length or held.shape[1]
            whole = not held_out and held.shape == (samples, length)
            if whole and output.exists() and output.samefile(self.source):
                return output  # drawn before; its facts name the source
        claim(records=[output], inputs=[*self.files, model])
        split = split_for(self.source, self.split, "calibration")
        check_context(model, length)
        count, skip = (CALIBRATION.held_out, samples) if held_out else (samples, 0)
        draw_samples(SampleSpec(self.source, split, count, length, self.seed, skip), model, output)
        return output


def check_context(model: Path, length: int) -> None:
    """Raise ConfigError if ``length`` tokens do not fit the model's context."""
    context = read_config(model).get("max_position_embeddings")
    if context and length > context:
        raise ConfigError([f"{length} tokens at once, but the model's context is {context}"], str(model))


def registered(method: str) -> str:
    """A method's registered name, from its name in any case."""
    return next((name for name in METHODS if name.lower() == method.lower()), method)


def compose_name(method: str, structure: str | None, ratio: float | None, layers: int | None) -> str:
    """Compose a variant's name from method, structure and amount.

    >>> compose_name("wanda", "2:4", None, None), compose_name("GQA", "width", 0.2, None)
    ('Wanda_2of4', 'GQA_2000')

    Raises:
        typer.BadParameter: if structure, ratio and layers contradict each other or leave the amount open.
    """
    method = registered(method)
    if method == DENSE:
        return DENSE
    asks = "number" if layers else "ratio"
    mechanism = find_mechanism(structure) if structure else next(each for each in all_mechanisms() if each.asks == asks)
    structure = structure or mechanism.name
    counts = mechanism.asks == "number"
    if counts and (layers is None) == (ratio is None):
        ways = "either a number with --layers or a share of all parameters with --ratio"
        raise typer.BadParameter(f"for {structure}, give {ways}", param_hint="--structure")
    if layers is not None and not counts:
        numbered = " or ".join(each.name for each in all_mechanisms() if each.asks == "number")
        raise typer.BadParameter(f"is for {numbered}, not for {structure}", param_hint="--layers")
    try:
        return method + mechanism.write(structure, ratio if layers is None else layers)
    except ConfigError as error:
        raise typer.BadParameter("; ".join(error.problems), param_hint="--ratio") from None


def find_mechanism(structure: str) -> Mechanism:
    """The mechanism that ``--structure`` stands for.

    Raises:
        typer.BadParameter: for an unknown structure.
    """
    found = next((mechanism for mechanism in all_mechanisms() if mechanism.owns(structure)), None)
    if found is None:
        known = ", ".join(name for mechanism in all_mechanisms() for name in mechanism.structures)
        raise typer.BadParameter(f"'{structure}' is none of {known}", param_hint="--structure")
    return found


def make_variant(
    variant: Variant,
    base: Path,
    output: Path,
    text: Text,
    *,
    scores: Sequence[Path] = (),
    held_out: Path | None = None,
    runtime: Runtime,
) -> PruningRecord:
    """Draw samples, score, search if the options ask for it, and prune.

    Args:
        variant: the variant to make.
        base: folder of the base model.
        output: folder of the variant.
        text: source of the calibration samples, drawn if anything needs them.
        scores: files of ``compute_scores`` to plan from, instead of new scores.
        held_out: token file that decides a search. By default, further samples of ``text``.

    Returns:
        The record of the pruning.

    Raises:
        PrunerError: for scores of another variant, or an error of any of these jobs.
    """
    from llm_pruner.variants.make import prune

    check_base(base)
    check_variant(variant, read_architecture(base))
    given = match_scores(variant, scores)
    missing = [score for score in variant.scores if score.name not in given]
    looks = any(score.calibrated for score in missing) or variant.samples_wanted
    tokens = text.draw(base, output / "calibration.safetensors") if looks else None
    files: dict[str, Any] = {}
    for role, score in (("scores", variant.score), ("importance", variant.importance)):
        if score:
            files[role] = given.get(score.name) or make_scores(
                score, base, tokens, output / "scores" / f"{score.name}.json", runtime
            )
    if variant.options.get("split") == SEARCH:
        from llm_pruner.report.figures import FIGURES
        from llm_pruner.search.split import search_split

        found = output / "search.json"
        judged_by = held_out or text.draw(base, output / "held_out.safetensors", held_out=True)
        searched = search_split(variant, base, found, held_out=judged_by, runtime=runtime, **files)
        FIGURES["split_search"].draw(searched, output / "split_search.png")
        files["search"] = found
    if tokens and variant.samples_wanted:
        files["calibration"] = tokens
    record = prune(variant, base, output, **files, **asdict(runtime), check=False)
    if not variant.score:
        # a plan of the model that this one replaced
        (output / "plan.json").unlink(missing_ok=True)
    return record


def refuse_existing(
    output: Path,
    force: bool,
    inputs: Sequence[Path] = (),
    *,
    records: Sequence[str] = ("pruning.json",),
    files: Sequence[str] = (),
    reused: Sequence[Path] = (),
    continued: Sequence[str] = (),
) -> None:
    """Refuse to replace a variant without ``force``; otherwise name the replaced and the outdated files on stderr.

    Args:
        inputs: folders and files that the variant is made from.
        records: names, within ``output``, of the records and token files beside the model.
        files: names, within ``output``, of all other files beside the model.
        reused: records that may be used as they are.
        continued: names, within ``output``, of folders from which a killed run goes on.

    Raises:
        PrunerError: for a model or a file without ``force``. Also, whatever ``force`` says, for what this tool did not
            make, and for an output that is, contains or lies in one of ``inputs``.
    """
    stale = [output / part for part in ("analysis", "evaluation") if (output / "model").exists()]
    claim(
        folders=[output / "model"],
        records=[output / name for name in records],
        files=[output / name for name in files],
        reused=reused,
        continued=[output / name for name in continued],
        inputs=inputs,
        force=force,
    )
    for part in stale:
        if part.exists() and not any((output / name).is_relative_to(part) for name in (*records, *files)):
            typer.echo(f"{part}: belongs to the replaced model; make it again", err=True)


def match_scores(variant: Variant, files: Sequence[Path]) -> dict[str, Path]:
    """Map the names of the variant's scores to the files that hold them.

    Raises:
        PrunerError: for a file with scores that the variant does not take.
    """
    given = {}
    for file in files:
        held = read_scores(file)
        found = [score.name for score in variant.scores if _holds(held, score)]
        if not found:
            wanted = " and ".join(score.name for score in variant.scores) or "no scores"
            raise PrunerError(f"{file}: holds no scores for {variant.name}, which takes {wanted}")
        given[found[0]] = file
    return given


def make_scores(
    score: ScoreSpec, base: Path, tokens: Path | None, path: Path, runtime: Runtime, *, replace: bool = False
) -> Path:
    """Write scores of a checked base to ``path``, unless they are there already for the same model, tokens and options.

    Args:
        replace: make the scores anew in any case.

    Raises:
        PrunerError: for a file at ``path`` that this tool did not make.
    """
    from llm_pruner.variants.score import compute_scores

    made_from = MadeFrom(
        # for links, the size and time of their targets
        model={file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in checkpoint_files(base)},
        tokens=read_facts(tokens)["sha256"] if tokens and score.calibrated else None,
    )
    if not replace and path.exists():
        refuse_foreign(path, folder=False)
        held = read_scores(path)
        if _holds(held, score) and held.made_from == made_from:
            typer.echo(f"{path}: kept, made before from the same model and tokens", err=True)
            return path
    if not replace:
        claim(records=[path], inputs=[base])
    scores = compute_scores(score, base, tokens, path, **asdict(runtime), check=False)
    scores.model_copy(update={"made_from": made_from}).write(path)
    return path


def _holds(held: ScoresFile, score: ScoreSpec) -> bool:
    own = (score.name, score.mechanism, json.loads(json.dumps({**score.scored_options, **score.options})))
    return (held.id, held.mechanism, held.options) == own

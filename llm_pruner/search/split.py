"""Search for the attention : MLP split with the lowest held-out perplexity; no checkpoint is written.

To try a plan, the search zeroes the outputs of the units to remove in the dense model, before the output projections.
The model then has the logits of the pruned model. The search tries splits in coarse steps first, then in ever smaller
steps around the best.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.mechanisms.records import read_scores
from llm_pruner.mechanisms.width.plan import plan_width
from llm_pruner.mechanisms.width.split import HeldOut, SplitSearch, SplitTrials, Trial
from llm_pruner.models.architecture import Architecture, read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.models.layout import LINEARS, decoder_layers, expand, output_linears
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import PlanError
from llm_pruner.system.progress import track
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import AUTO, Runtime
from llm_pruner.variants.variant import Variant

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def search_split(
    variant: Variant,
    base: Path,
    output: Path,
    *,
    scores: Path,
    held_out: Path,
    importance: Path | None = None,
    coarse: int = 10,
    fine: int = 2,
    patience: int = 3,
    runtime: Runtime = AUTO,
) -> SplitSearch:
    """Find the attention : MLP split of a variant's budget with the lowest perplexity on held-out samples.

    Each trial is saved at once beside ``output``, so that an interrupted search continues.

    Args:
        variant: a width variant; its own ``split`` is ignored.
        base: folder of the base model, which is loaded once.
        output: the JSON to write.
        scores: JSON of ``compute_scores``.
        held_out: token file with samples that neither scores nor reported perplexity use.
        importance: JSON of layer scores, if the variant's options ask for them.
        coarse: first distance between splits, in percent of the budget.
        fine: smallest distance between splits, in percent.
        patience: number of measured plans in a row without improvement after which the search stops going up.

    Returns:
        The written record: ``best``, ``trials`` in their order, and whether the search ``stopped_early``.

    Raises:
        PlanError: if the amount is out of reach for every split.
    """
    runtime = runtime.start()
    run = Run({"coarse": coarse, "fine": fine, "patience": patience}, device=runtime.device)
    architecture = read_architecture(base)
    ids = read_tokens(held_out, architecture.config["vocab_size"])
    group_scores, layer_scores = read_scores(scores), read_scores(importance) if importance else None
    journal = _Journal(
        output.with_name(f".{output.stem}.trials.json"), variant, *filter(None, (scores, importance, held_out))
    )

    def plan_of(split: str | None) -> Plan:
        try:
            return plan_width(architecture, variant, group_scores, layer_scores, split)
        except PlanError as error:
            raise PlanError(f"{variant.name}: {error}") from None

    model = load(base, device=runtime.device)

    def measure(plan: Plan) -> float:
        with masked(model, architecture, plan):
            return perplexity(model, ids, window=ids.shape[1], batch_size=runtime.batch_size).perplexity

    stopped_early = _Search(architecture, plan_of, measure, journal).run(coarse, fine, patience, runtime.progress)
    trials = journal.trials
    result = SplitSearch(
        variant=variant.name,
        best=min(trials, key=lambda trial: trial.perplexity),
        trials=tuple(trials),
        stopped_early=stopped_early,
        plans_measured=sum(trial.measured for trial in trials),
        held_out=HeldOut(samples=len(ids), length=ids.shape[1]),
        run=run.describe(),
    )
    result.write(output)
    journal.remove()
    return result


class _Journal:
    """Trials of a search, saved after each trial. Trials of another search under the same name are ignored."""

    def __init__(self, path: Path, variant: Variant, *sources: Path) -> None:
        self.path = path
        contents = [json.dumps(variant.to_dict(), sort_keys=True).encode(), *(file.read_bytes() for file in sources)]
        self.search = hashlib.sha256(b"".join(contents)).hexdigest()
        kept = SplitTrials.read(path) if path.exists() else None
        self.trials: list[Trial] = list(kept.trials) if kept and kept.search == self.search else []

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        SplitTrials(search=self.search, trials=tuple(self.trials)).write(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class _Search:
    """Tries splits; two splits with the same plan are measured once."""

    def __init__(
        self,
        architecture: Architecture,
        plan_of: Callable[[str | None], Plan],
        measure: Callable[[Plan], float],
        journal: _Journal,
    ) -> None:
        self.architecture = architecture
        self.plan_of = plan_of
        self.measure = measure
        self.journal = journal
        self.plans: dict[Plan, Trial] = {plan_of(trial.split): trial for trial in reversed(journal.trials)}

    def run(self, coarse: int, fine: int, patience: int, progress: bool) -> bool:
        """Try one rate for both blocks, go up in coarse steps, then close in. Returns whether going up stopped
        early."""
        even = best = self.trial(None)
        worse = 0
        steps = list(range(0, 101, coarse))
        bar = track(steps, "splits", "split", show=progress)
        for share in bar:
            trial = self.trial(share)
            if trial.perplexity < best.perplexity:
                best, worse = trial, 0
            elif trial.measured:
                worse += 1
            bar.set_postfix(best=f"{best.perplexity:.2f}", refresh=False)
            if worse == patience:
                break
        step = coarse
        while step > fine:
            step = max(fine, step // 2)
            # one rate for both blocks is also a split, with its own share
            share_of_best = best.attention_share
            center = round(even.reached_share) if share_of_best is None else share_of_best
            for share in (center - step, center + step):
                if 0 <= share <= 100:
                    best = min(best, self.trial(share), key=lambda trial: trial.perplexity)
        return worse == patience and share != steps[-1]

    def trial(self, share: int | None) -> Trial:
        """The trial of attention's share of the budget, in percent; None gives both blocks one rate."""
        for made in self.journal.trials:
            if made.attention_share == share:
                return made
        split = None if share is None else f"{share}:{100 - share}"
        plan = self.plan_of(split)
        same = self.plans.get(plan)
        trial = Trial(
            attention_share=share,
            split=split,
            reached_share=self._attention_share(plan),
            perplexity=same.perplexity if same else self.measure(plan),
            measured=same is None,
        )
        self.plans.setdefault(plan, trial)
        self.journal.add(trial)
        return trial

    def _attention_share(self, plan: Plan) -> float:
        """Attention's share of the removed parameters, in percent."""
        gone = sum(
            (shape.key_value_groups - len(kept.groups)) * shape.group_parameters
            for shape, kept in zip(self.architecture.layers, plan.layers, strict=True)
        )
        return round(100 * gone / plan.removed_parameters(self.architecture), 2)


@contextmanager
def masked(model: PreTrainedModel, architecture: Architecture, plan: Plan) -> Iterator[None]:
    """Let a dense model compute the logits of the model that a plan cuts from it. The plan must keep all layers.

    The outputs of the units to remove are zeroed before the output projections.
    """
    import torch

    def keep_only(linear: torch.nn.Linear, kept: list[int]) -> Any:
        mask = torch.zeros(linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
        mask[kept] = 1
        return linear.register_forward_pre_hook(lambda _module, inputs: (inputs[0] * mask,))

    handles, outputs = [], output_linears(LINEARS)
    for kept in plan.layers:
        layer = decoder_layers(model)[kept.index]
        width = architecture.head_dim * architecture.layers[kept.index].heads_per_group
        handles.append(keep_only(layer.get_submodule(outputs["attention"]), expand(kept.groups, width)))
        handles.append(keep_only(layer.get_submodule(outputs["mlp"]), list(kept.channels)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

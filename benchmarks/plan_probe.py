"""Where a width plan hurts: its attention, its channels, or a single layer.

    python benchmarks/plan_probe.py --base resources/model --tokens resources/held_out.safetensors \
        baselines/Magnitude_2000/plan.json baselines/Wanda_2000/plan.json

Perplexity of the base with the whole plan, with only its attention or only its MLP, with one layer restored, and with
only one layer cut. Plans are tried by masks, without a checkpoint. Use tokens that no table reports.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.search.split import masked
from llm_pruner.system.device import pick_device

WORST = 5
"""Layers of which a line is printed; all are in the JSON."""


def probe(measure: Callable[[Plan], float], whole: Plan, plan: Plan) -> dict[str, Any]:
    """Perplexities by what of the plan is carried out."""

    def mixed(choose: Callable[[LayerPlan, LayerPlan], LayerPlan]) -> float:
        layers = tuple(choose(*pair) for pair in zip(whole.layers, plan.layers, strict=True))
        return measure(Plan(plan.base_layers, layers))

    indices = range(plan.base_layers)
    return {
        "whole plan": measure(plan),
        "attention alone": mixed(lambda base, cut: replace(base, groups=cut.groups)),
        "MLP alone": mixed(lambda base, cut: replace(base, channels=cut.channels)),
        "one layer restored": [mixed(lambda base, cut, i=i: base if cut.index == i else cut) for i in indices],
        "one layer alone": [mixed(lambda base, cut, i=i: cut if cut.index == i else base) for i in indices],
    }


def told(name: str, found: dict[str, Any]) -> Iterable[str]:
    """Lines for people."""
    yield name
    for key, value in found.items():
        if isinstance(value, float):
            yield f"  {key}: {value:,.2f}"
        else:
            best = key == "one layer restored"
            order = sorted(range(len(value)), key=lambda index: value[index], reverse=not best)[:WORST]
            yield f"  {key}: " + ", ".join(f"{index}: {value[index]:,.2f}" for index in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", type=Path, nargs="+")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, help="JSON")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    architecture = read_architecture(arguments.base)
    ids = read_tokens(arguments.tokens)[: arguments.samples]
    model = load(arguments.base, device=pick_device())

    def measure(plan: Plan) -> float:
        with masked(model, architecture, plan):
            return float(perplexity(model, ids, window=ids.shape[1], batch_size=1).perplexity)

    whole = Plan.keep_everything(architecture)
    results: dict[str, Any] = {"base": measure(whole)}
    sys.stdout.write(f"base: {results['base']:,.2f}\n")
    for path in arguments.plans:
        results[path.parent.name] = probe(measure, whole, Plan.read(path))
        sys.stdout.write("\n".join(told(path.parent.name, results[path.parent.name])) + "\n")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Models of made-up sizes and losses, for tables and recommendations."""

from __future__ import annotations

import math

from llm_pruner.analysis.comparison import compare
from llm_pruner.analysis.records import ModelStructure
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.report.table import Model, Results
from llm_pruner.variants.records import PruningRecord


def structure(name: str, size: int) -> ModelStructure:
    """Of a model without layers, of a size in bytes, four a parameter."""
    sizes = {"parameters": size // 4, "nonzero": size // 4}
    totals = {**sizes, "sparsity": 0.0, "bytes_on_disk": size, "parts": {"other": sizes}}
    held = {"name": name, "model_type": "llama", "hidden_size": 8, "num_layers": 0, "totals": totals, "layers": []}
    return ModelStructure.model_validate(held)


def model(name: str, size: int, *losses: float) -> Model:
    """A model of a size in bytes whose windows have these losses; not measured without any."""
    comparison = compare(structure("Dense", 1000), structure(name, size))
    if not losses:
        return Model(name, comparison=comparison)
    nll = sum(losses) / len(losses)
    text = {"dataset": "text", "split": "test", "window": 8, "stride": 8, "windows": len(losses), "tokens": 8}
    found = {"nll": nll, "perplexity": math.exp(nll), "window_nll": list(losses), "bits_per_byte": None}
    held = {"model": name, **text, **found, "run": RUN}
    return Model(name, comparison=comparison, perplexity=PerplexityResult.model_validate(held))


def stored_in_few_bits(name: str) -> PruningRecord:
    step = {"name": "nf4", "options": {}, "bytes": {"before": 1000, "after": 300}, "run": RUN}
    held = {
        "variant": name,
        "method": "Dense",
        "mechanism": "dense",
        "structure": "dense",
        "parent": "Dense",
        "asked": None,
        "reached": None,
        "options": {},
        "notes": [],
        "scores": [],
        "seconds": {"scoring": 0.0, "pruning": 1.0, "total": 1.0},
        "steps": [step],
        "run": RUN,
    }
    return PruningRecord.model_validate(held)


RUN = {
    "started": "2026-01-01T10:00:00+00:00",
    "seconds": 1.0,
    "seed": 0,
    "device": "cpu",
    "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
    "options": {},
    "versions": {"python": "3.12.3"},
}

BASE = model("Dense", 1000, 1.0, 1.0, 1.0)
# against Dense: 0.1, 0.3 and 0.2 lost, so 0.2 ± 0.1 / √3 = 0.058, which is 3.5 errors
WORSE = model("Worse", 800, 1.1, 1.3, 1.2)
# -0.1, 0.3 and 0.2 lost: 0.133 ± 0.120, which is 1.1 errors; against Worse -0.2, 0, 0: -0.067 ± 0.067, one error
TIED = model("Tied", 900, 0.9, 1.3, 1.2)
SMALL = model("Small", 500, 2.0, 2.2, 2.1)
RESULTS = Results((BASE, WORSE, TIED, SMALL), BASE)

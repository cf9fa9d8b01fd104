"""Pruning language models: every method on the same calibration tokens, checkpoints that load anywhere."""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "ConfigError": "llm_pruner.errors",
    "CheckpointError": "llm_pruner.errors",
    "DataError": "llm_pruner.errors",
    "PlanError": "llm_pruner.errors",
    "PrunerError": "llm_pruner.errors",
    "Plan": "llm_pruner.planning.plan",
    "compute_scores": "llm_pruner.pruning",
    "cut": "llm_pruner.surgery",
    "load": "llm_pruner.models.checkpoint",
    "measure_efficiency": "llm_pruner.evaluation.efficiency",
    "perplexity": "llm_pruner.evaluation.perplexity",
    "prune": "llm_pruner.pruning",
    "resolve": "llm_pruner.naming",
    "zero_shot": "llm_pruner.evaluation.zero_shot",
}
"""Public names and where they live; imported when first used, so that importing the package stays light."""

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'llm_pruner' has no attribute '{name}'")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__

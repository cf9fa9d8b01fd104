"""Pruning language models: every method on the same calibration tokens, checkpoints that load anywhere."""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "ConfigError": "llm_pruner.errors",
    "CheckpointError": "llm_pruner.errors",
    "DataError": "llm_pruner.errors",
    "PlanError": "llm_pruner.errors",
    "PrunerError": "llm_pruner.errors",
    "LayerImportanceAnalyzer": "llm_pruner.importance",
    "Plan": "llm_pruner.planning.plan",
    "UnbalancedStructuredPruningCalculator": "llm_pruner.importance",
    "compute_gqa_group_importance": "llm_pruner.gqa",
    "compute_scores": "llm_pruner.pruning",
    "cut": "llm_pruner.surgery",
    "get_examples": "llm_pruner.data.examples",
    "get_examples_from_text": "llm_pruner.data.examples",
    "load": "llm_pruner.models.checkpoint",
    "measure_efficiency": "llm_pruner.evaluation.efficiency",
    "perplexity": "llm_pruner.evaluation.perplexity",
    "prune": "llm_pruner.pruning",
    "prune_attention_by_gqa_groups": "llm_pruner.gqa",
    "resolve": "llm_pruner.naming",
    "select_gqa_groups_to_prune": "llm_pruner.gqa",
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

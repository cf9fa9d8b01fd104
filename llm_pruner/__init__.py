"""Prune language models: all methods use the same calibration tokens, and all checkpoints load anywhere."""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "AVSSPruner": "llm_pruner.objects.pruners",
    "AblationPruner": "llm_pruner.objects.pruners",
    "BasePruner": "llm_pruner.objects.pruners",
    "CheckpointError": "llm_pruner.system.errors",
    "ConfigError": "llm_pruner.system.errors",
    "DataError": "llm_pruner.system.errors",
    "HolisticEvaluator": "llm_pruner.objects.holistic",
    "LayerImportanceAnalyzer": "llm_pruner.objects.layer_importance",
    "ModelEvaluator": "llm_pruner.objects.semantic",
    "Plan": "llm_pruner.planning.plan",
    "PlanError": "llm_pruner.system.errors",
    "PruneMePruner": "llm_pruner.objects.pruners",
    "PrunerError": "llm_pruner.system.errors",
    "SmartPruner": "llm_pruner.objects.pruners",
    "UnbalancedStructuredPruningCalculator": "llm_pruner.objects.layer_importance",
    "clean_output": "llm_pruner.objects.generation",
    "compute_gqa_group_importance": "llm_pruner.objects.gqa_groups",
    "compute_scores": "llm_pruner.variants.score",
    "count_parameters": "llm_pruner.objects.generation",
    "cut": "llm_pruner.surgery.cut",
    "final_report": "llm_pruner.encoders.report",
    "format_prompt": "llm_pruner.objects.generation",
    "generate": "llm_pruner.evaluation.continuations",
    "get_device": "llm_pruner.objects.generation",
    "get_examples": "llm_pruner.objects.examples",
    "get_examples_from_text": "llm_pruner.objects.examples",
    "heal": "llm_pruner.training.heal",
    "load": "llm_pruner.models.checkpoint",
    "load_classifier": "llm_pruner.encoders.folder",
    "load_dataset_from_hub": "llm_pruner.objects.questions",
    "load_eval_dataset": "llm_pruner.objects.questions",
    "measure_efficiency": "llm_pruner.evaluation.efficiency",
    "normalize_item": "llm_pruner.objects.questions",
    "perplexity": "llm_pruner.evaluation.perplexity",
    "plot_activation_comparison": "llm_pruner.objects.plots",
    "plot_holistic_benchmark": "llm_pruner.objects.plots",
    "plot_layer_importance": "llm_pruner.objects.plots",
    "plot_semantic_comparison": "llm_pruner.objects.plots",
    "prepare_model": "llm_pruner.models.prepare",
    "prune": "llm_pruner.variants.make",
    "prune_classifier": "llm_pruner.encoders.prune",
    "prune_attention_by_gqa_groups": "llm_pruner.objects.gqa_groups",
    "quantize_model": "llm_pruner.steps.nf4",
    "quantize_classifier": "llm_pruner.encoders.quantize",
    "resolve": "llm_pruner.variants.grammar",
    "safe_sample": "llm_pruner.objects.questions",
    "select_gqa_groups_to_prune": "llm_pruner.objects.gqa_groups",
    "train_quantized": "llm_pruner.encoders.quantize",
    "train_teacher": "llm_pruner.encoders.teacher",
    "upload_dataset_to_hub": "llm_pruner.objects.questions",
    "zero_shot": "llm_pruner.evaluation.zero_shot",
}
"""Modules of the public names, imported on first use, so that importing the package is quick."""

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'llm_pruner' has no attribute '{name}'")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__

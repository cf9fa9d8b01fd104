"""Low-rank adapters beside the linear layers, by peft (Hu et al., 2021, arXiv:2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_pruner.training.options import HealingOptions


def attach(model: PreTrainedModel, options: HealingOptions) -> Any:
    """Add trainable float32 adapters to a model of any dtype, and freeze everything else."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
    )
    return get_peft_model(model, config)


def merge(model: Any) -> PreTrainedModel:
    """Add the adapters' change to the weights, in the weights' dtype."""
    return model.merge_and_unload()

"""The pruners, under the short name that modules of one's own import them by."""

from llm_pruner.objects.pruners import AblationPruner, AVSSPruner, BasePruner, PruneMePruner, SmartPruner

__all__ = ["AVSSPruner", "AblationPruner", "BasePruner", "PruneMePruner", "SmartPruner"]

"""The pruners under a short module name, for import by other projects."""

from llm_pruner.objects.pruners import AblationPruner, AVSSPruner, BasePruner, PruneMePruner, SmartPruner

__all__ = ["AVSSPruner", "AblationPruner", "BasePruner", "PruneMePruner", "SmartPruner"]

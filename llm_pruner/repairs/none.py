from __future__ import annotations

from llm_pruner.repairs.base import Repair
from llm_pruner.system.options import Options


class Untouched(Repair):
    """Leaves the kept weights unchanged."""

    title = "No repair"
    mechanisms = ("width", "sparse", "depth")
    Options = Options

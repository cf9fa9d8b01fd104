from __future__ import annotations

from llm_pruner.repairs.base import Repair
from llm_pruner.system.options import Options


class Untouched(Repair):
    """The kept weights stay what they were."""

    title = "No repair"
    mechanisms = ("width", "sparse", "depth")
    Options = Options

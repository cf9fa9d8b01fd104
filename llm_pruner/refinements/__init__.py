"""Refinements by name. To add a refinement, add a file here and a line below."""

REFINEMENTS: dict[str, str] = {
    "none": "llm_pruner.refinements.none:Unrefined",
    "dsnot": "llm_pruner.refinements.dsnot:Dsnot",
    "sparse_swaps": "llm_pruner.refinements.sparse_swaps:SparseSwapping",
}
"""``module:Class`` by name, imported on use."""

"""Registry of allocations. A new allocation is a file in this package and a line below."""

ALLOCATIONS: dict[str, str] = {
    "uniform": "llm_pruner.planning.allocations.uniform:Uniform",
    "inverse": "llm_pruner.planning.allocations.inverse:Inverse",
    "proportional": "llm_pruner.planning.allocations.proportional:Proportional",
    "global": "llm_pruner.planning.allocations.global_ranking:GlobalRanking",
    "flap": "llm_pruner.planning.allocations.flap:Flap",
    "bi": "llm_pruner.planning.allocations.bi:Bi",
    "owl": "llm_pruner.planning.allocations.owl:Owl",
    "dlp": "llm_pruner.planning.allocations.dlp:Dlp",
    "alpha": "llm_pruner.planning.allocations.alpha:Alpha",
    "atp": "llm_pruner.planning.allocations.atp:Atp",
}
"""``module:Class`` by name; a module is imported on first use."""

"""Repairs by name. To add a repair, add a file here and a line below."""

REPAIRS: dict[str, str] = {
    "none": "llm_pruner.repairs.none:Untouched",
    "bias": "llm_pruner.repairs.bias:Bias",
    "least_squares": "llm_pruner.repairs.least_squares:LeastSquares",
    "rotation": "llm_pruner.repairs.rotation:Rotation",
    "replace_me": "llm_pruner.repairs.replace_me:ReplaceMe",
    "rescale": "llm_pruner.repairs.rescale:Rescale",
    "local": "llm_pruner.repairs.local:LocalReconstruction",
}
"""``module:Class`` by name, imported on use."""

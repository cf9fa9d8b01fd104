"""Steps of classifiers, by the name after the plus (``MSP_l2+nf4``). A new step needs a file here and a line below."""

STEPS: dict[str, str] = {
    "nf4": "llm_pruner.encoders.steps.nf4:NF4",
    "qkd": "llm_pruner.encoders.steps.qkd:QKD",
}
"""``module:Class`` by name, imported on use."""

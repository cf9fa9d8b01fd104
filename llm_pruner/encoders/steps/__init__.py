"""The steps of classifiers, by the name behind the plus: ``MSP_l2+nf4``. Adding one is a file here and a line below."""

STEPS: dict[str, str] = {
    "nf4": "llm_pruner.encoders.steps.nf4:NF4",
    "qkd": "llm_pruner.encoders.steps.qkd:QKD",
}
"""``module:Class`` by name, imported when asked for."""

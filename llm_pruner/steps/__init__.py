"""The steps by the name behind the plus, as in ``GQA_2000+lora``. To add a step, add a file here and a line below."""

STEPS: dict[str, str] = {
    "lora": "llm_pruner.steps.lora:Lora",
    "kd": "llm_pruner.steps.kd:Distillation",
    "nf4": "llm_pruner.steps.nf4:NF4",
}
"""``module:Class`` by name, imported on use."""

"""The methods, by name. Adding one is a file here and a line below; it then appears everywhere."""

METHODS: dict[str, str] = {
    "Dense": "llm_pruner.methods.dense:Dense",
    "Magnitude": "llm_pruner.methods.magnitude:Magnitude",
    "Wanda": "llm_pruner.methods.wanda:Wanda",
    "WandaSP": "llm_pruner.methods.wanda_sp:WandaSP",
    "MagnitudeSP": "llm_pruner.methods.magnitude_sp:MagnitudeSP",
    "GQA": "llm_pruner.methods.gqa:GQA",
    "HGSP": "llm_pruner.methods.hgsp:HGSP",
    "LLMPruner": "llm_pruner.methods.llm_pruner:LLMPruner",
    "FLAP": "llm_pruner.methods.flap:FLAP",
    "OBS": "llm_pruner.methods.obs:OBS",
    "TwoSSP": "llm_pruner.methods.two_ssp:TwoSSP",
    "Random": "llm_pruner.methods.random:Random",
    "ShortGPT": "llm_pruner.methods.shortgpt:ShortGPT",
    "Ablation": "llm_pruner.methods.ablation:Ablation",
    "Activation": "llm_pruner.methods.activation:Activation",
    "AVSS": "llm_pruner.methods.avss:AVSS",
    "PruneMe": "llm_pruner.methods.pruneme:PruneMe",
    "SLEB": "llm_pruner.methods.sleb:SLEB",
    "Smart": "llm_pruner.methods.smart:Smart",
    "SliceGPT": "llm_pruner.methods.slicegpt:SliceGPT",
}
"""``module:Class`` by name, imported when asked for."""

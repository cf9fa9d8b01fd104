"""The methods, by name. Adding one is a file here and a line below; it then appears everywhere."""

METHODS: dict[str, str] = {
    "Dense": "llm_pruner.methods.dense:Dense",
    "Magnitude": "llm_pruner.methods.magnitude:Magnitude",
    "Wanda": "llm_pruner.methods.wanda:Wanda",
    "RIA": "llm_pruner.methods.ria:RIA",
    "GBLM": "llm_pruner.methods.gblm:GBLM",
    "PrunerZero": "llm_pruner.methods.pruner_zero:PrunerZero",
    "DSnoT": "llm_pruner.methods.dsnot:DSnoT",
    "SparseSwaps": "llm_pruner.methods.sparse_swaps:SparseSwaps",
    "SparseGPT": "llm_pruner.methods.sparsegpt:SparseGPT",
    "ADMM": "llm_pruner.methods.admm:ADMM",
    "ALPS": "llm_pruner.methods.alps:ALPS",
    "GQA": "llm_pruner.methods.gqa:GQA",
    "HGSP": "llm_pruner.methods.hgsp:HGSP",
    "LLMPruner": "llm_pruner.methods.llm_pruner:LLMPruner",
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

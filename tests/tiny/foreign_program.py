"""Loads models with transformers alone and writes what they compute: a program, run with nothing of ours on its path.

Arguments: a token file, the class that loads, the output that is kept, and for each model its folder and whether its
own code may run. The outputs of the first model are in ``0.safetensors`` of the working folder.
"""

import os
import sys
from importlib import import_module

import torch
import transformers
from safetensors.torch import load_file, save_file

token_file, loader, result, *given = sys.argv[1:]
tokens = load_file(token_file)["input_ids"]
load = getattr(transformers, loader)
import_module("transformers.modeling_utils")  # what loading any model imports takes seconds, so once for all
import_module("transformers.generation")
for number, (folder, trust) in enumerate(zip(given[::2], given[1::2], strict=True)):
    # a process for each, which has loaded no other model's code
    if os.fork():
        assert os.wait()[1] == 0, folder
        continue
    model = load.from_pretrained(folder, trust_remote_code=trust == "True")
    assert not any(name.startswith("llm_pruner") for name in sys.modules)
    with torch.inference_mode():
        save_file({result: model(tokens)[result].clone()}, f"{number}.safetensors")
    os._exit(0)

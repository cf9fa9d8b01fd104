"""The one check of a model folder before any work, made by the workflow, the command line, the library and doctor."""

from __future__ import annotations

import os
from pathlib import Path

from llm_pruner.models.architecture import Architecture, read_architecture
from llm_pruner.models.vocabulary import check_vocabulary_size


def check_folder(folder: str | os.PathLike[str]) -> Architecture:
    """The shape of a causal model, once everything that its folder says without reading weights was checked.

    Reads config.json, the headers of the weights and the tokenizer's vocabulary, in milliseconds and without torch.

    Raises:
        CheckpointError: for a file that is missing, damaged or not in its format, an unsupported family, a tensor that
            is missing, left over or of another shape than config.json asks for, and a vocabulary larger than the
            embedding. Names the file, the tensor or key, the value found and the expected one, and the way out.
    """
    architecture = read_architecture(folder)
    check_vocabulary_size(Path(folder), architecture.config["vocab_size"])
    return architecture

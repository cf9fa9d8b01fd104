"""The base model under one name, whatever it comes from: checked, and in the dtype asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_pruner.errors import CheckpointError
from llm_pruner.files import staged_directory, write_json
from llm_pruner.models.architecture import check_finite, read_architecture, read_config
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, link_folder, write_config
from llm_pruner.provenance import Run

STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Names of dtypes in torch and in safetensors headers."""


def prepare_model(
    source: str, output: Path, record: Path, *, local: bool, revision: str | None = None, dtype: str = "auto"
) -> dict[str, Any]:
    """Make ``output`` the base model's folder: links to the original files, or a copy in another dtype.

    Args:
        source: a local folder, or an id on the hub (downloaded into the hub's own cache).
        output: the folder to make.
        record: JSON about where the model came from.
        local: whether ``source`` is a folder.
        revision: branch, tag or commit on the hub.
        dtype: ``auto`` keeps what is stored.

    Raises:
        CheckpointError: for an unsupported architecture (before weights are downloaded), a truncated file, or
            weights that are not finite.
    """
    run = Run({"source": source, "revision": revision, "dtype": dtype})
    folder = Path(source).expanduser() if local else _download(source, revision)
    architecture = read_architecture(folder)
    check_finite(folder)
    stored = {tensor.dtype for tensor in architecture.tensors.values()}
    with staged_directory(output) as staged:
        if dtype == "auto" or stored == {STORED[dtype]}:
            link_folder(folder, staged)
        else:
            _convert(folder, staged, dtype)
    result = {
        "source": source,
        "revision": revision,
        "family": architecture.family,
        "parameters": architecture.total_parameters,
        "layers": architecture.num_layers,
        "run": run.describe(),
    }
    write_json(record, result)
    return result


def _download(source: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        config = Path(hf_hub_download(source, "config.json", revision=revision))
        read_config(config.parent)
        patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise CheckpointError(f"model.source: cannot get '{source}' from the hub ({error})") from None


def _convert(folder: Path, staged: Path, dtype: str) -> None:
    import torch

    weights = WeightReader(folder)
    with CheckpointWriter(staged) as writer:
        for name in weights.names():
            writer.add(name, weights.tensor(name).to(getattr(torch, dtype)))
    config = read_config(folder)
    config.pop("torch_dtype", None)
    write_config(staged, {**config, "dtype": dtype})
    copy_companions(folder, staged)

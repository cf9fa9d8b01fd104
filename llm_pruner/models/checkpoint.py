"""Reading and writing model folders: whole models, single tensors, and shards as they are made."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llm_pruner.errors import CheckpointError
from llm_pruner.files import write_json
from llm_pruner.models.architecture import DROPPED, FAMILIES, layer_prefix, read_config
from llm_pruner.models.headers import INDEX_FILE, SINGLE_FILE, checkpoint_files, read_headers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

RAGGED_MODULE = "modeling_ragged"
MAX_SHARD_BYTES = 4 * 2**30


def load(
    folder: str | os.PathLike[str], *, dtype: str = "auto", device: str = "cpu", device_map: str | None = None
) -> PreTrainedModel:
    """Load a model folder of any kind this project writes, in evaluation mode.

    Layers that differ are run by this package's own class, so no ``trust_remote_code`` is needed and no
    code from the folder is executed.

    Args:
        folder: a Hugging Face model folder.
        dtype: ``auto`` (as stored), ``float32``, ``bfloat16`` or ``float16``.
        device: where the model goes; ignored with ``device_map``.
        device_map: passed to transformers (for example ``auto``: spread over several GPUs by accelerate).

    Raises:
        CheckpointError: if the folder is missing, truncated or of an unsupported architecture.
    """
    config = read_config(folder)
    read_headers(folder)
    kwargs = {"device_map": device_map} if device_map else {}
    model = model_class(config).from_pretrained(folder, dtype=dtype, **kwargs)
    return (model if device_map else model.to(device)).eval()


def model_class(config: Mapping[str, Any]) -> Any:
    """The class that runs a model with this config.json: transformers' own, or ours for layers that differ."""
    if is_ragged(config):
        from llm_pruner.models import ragged

        return getattr(ragged, ragged_class(config["model_type"]))
    import transformers

    return getattr(transformers, FAMILIES[config["model_type"]].model_class)


def load_tokenizer(folder: str | os.PathLike[str], trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no usable tokenizer there ({error})") from None


def is_ragged(config: Mapping[str, Any]) -> bool:
    """Whether layers differ in width or lack a block, which transformers' own classes cannot run."""
    return bool(config.get("per_layer_config") or config.get(DROPPED))


def ragged_class(family: str) -> str:
    """Name of the class that runs a family's models of layers that differ."""
    return f"Ragged{FAMILIES[family].model_class}"


class Weights(ABC):
    """Tensors of a model, one at a time; use as a context manager."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Parameter names in the order in which they are stored."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """One tensor where it is held, in its stored dtype."""

    def layer(self, index: int) -> dict[str, torch.Tensor]:
        """The parameters of one decoder layer, by their name within it."""
        prefix = layer_prefix(index)
        return {name.removeprefix(prefix): self.tensor(name) for name in self.names() if name.startswith(prefix)}


class WeightReader(Weights):
    """Those of a checkpoint, memory-mapped."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.entries = read_headers(folder)
        self._files = checkpoint_files(folder)
        self._stack = ExitStack()
        self._open: dict[Path, Any] = {}

    def __enter__(self) -> Self:
        from safetensors import safe_open

        for file in self._files:
            self._open[file] = self._stack.enter_context(safe_open(file, framework="pt"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self) -> Iterator[str]:
        yield from self.entries

    def tensor(self, name: str) -> torch.Tensor:
        return self._open[self.entries[name].file].get_tensor(name)


class LoadedWeights(Weights):
    """Those of a model that is in memory already, nothing copied."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._tensors = model.state_dict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def names(self) -> Iterator[str]:
        yield from self._tensors

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


def read_weights(source: str | os.PathLike[str] | PreTrainedModel) -> Weights:
    """The tensors of a model folder, or of a loaded model."""
    return WeightReader(source) if isinstance(source, str | os.PathLike) else LoadedWeights(source)


class CheckpointWriter:
    """Writes a model's tensors as they come, in shards, then the index; peak memory is one shard.

    Use as a context manager on a folder being staged; the index appears when the block ends without error.
    """

    def __init__(self, folder: Path, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
        self.folder = folder
        self.max_shard_bytes = max_shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[tuple[Path, list[str]]] = []
        self._total_bytes = 0

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self._finish()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Queue a tensor; it is copied, so the caller may go on changing its own."""
        size = tensor.numel() * tensor.element_size()
        if self._pending and self._pending_bytes + size > self.max_shard_bytes:
            self._flush()
        self._pending[name] = tensor.detach().to("cpu", copy=True).contiguous()
        self._pending_bytes += size
        self._total_bytes += size

    def _flush(self) -> None:
        from safetensors.torch import save_file

        path = self.folder / f"part-{len(self._shards):05d}.safetensors"
        save_file(self._pending, path, metadata={"format": "pt"})
        self._shards.append((path, list(self._pending)))
        self._pending, self._pending_bytes = {}, 0

    def _finish(self) -> None:
        self._flush()
        count = len(self._shards)
        if count == 1:
            self._shards[0][0].rename(self.folder / SINGLE_FILE)
            return
        weight_map = {}
        for number, (path, names) in enumerate(self._shards, start=1):
            final = path.rename(self.folder / f"model-{number:05d}-of-{count:05d}.safetensors")
            weight_map.update(dict.fromkeys(names, final.name))
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weight_map}
        write_json(self.folder / INDEX_FILE, index)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json; where layers differ, also the modelling file that runs them."""
    config = dict(config)
    if is_ragged(config):
        name = ragged_class(config["model_type"])
        config["architectures"] = [name]
        # transformers' own validation of the configuration reads the global values
        config["allow_global_per_layer_attribute_access"] = True
        config["auto_map"] = {"AutoModelForCausalLM": f"{RAGGED_MODULE}.{name}"}
        carry_module("llm_pruner.models.ragged", folder, RAGGED_MODULE)
    write_json(folder / "config.json", config)


def carry_module(module: str, folder: Path, name: str) -> None:
    """Copy a modelling file of this package, which is not imported for it, into a model folder."""
    from importlib.util import find_spec

    spec = find_spec(module)
    assert spec and spec.origin
    shutil.copyfile(spec.origin, folder / f"{name}.py")


def copy_companions(base: Path, folder: Path) -> None:
    """Copy what belongs to a model besides weights and config.json: tokenizer and generation settings."""
    weights = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
    skip = {"config.json", INDEX_FILE, f"{RAGGED_MODULE}.py", "README.md"}
    for path in sorted(base.iterdir()):
        other = path.suffix in weights or path.name in skip or path.name.endswith(".index.json")
        if path.is_file() and not other and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)


def link_folder(source: Path, target: Path) -> None:
    """Fill ``target`` with links to the files of ``source``: the same model under a second name, at no cost."""
    for path in sorted(source.resolve().iterdir()):
        if path.is_file():
            (target / path.name).symlink_to(path.resolve())

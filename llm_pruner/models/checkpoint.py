"""Read and write model folders: whole models, single tensors, and shards written tensor by tensor."""

from __future__ import annotations

import json
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llm_pruner.models.architecture import FAMILIES, check_tied, is_quantized, read_config
from llm_pruner.models.check import check_folder
from llm_pruner.models.foreign_json import shortened
from llm_pruner.models.headers import AGAIN, INDEX_FILE, SINGLE_FILE, not_finite, read_headers, weights_place
from llm_pruner.models.layout import ADDED_BIASES, DROPPED, layer_prefix
from llm_pruner.models.planned import TOGETHER
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import write_json
from llm_pruner.system.ownership import MARKER

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OWN_MODULES = {"per_layer_config": "ragged", DROPPED: "ragged", ADDED_BIASES: "ragged", "sliced": "sliced"}
"""Modules with classes for models that transformers cannot run, by the key of config.json that marks such a model."""
MAX_SHARD_BYTES = 4 * 2**30
_CHUNK = 2**24


def load(
    folder: str | os.PathLike[str],
    *,
    dtype: str = "auto",
    device: str = "cpu",
    device_map: str | None = None,
    check: bool = True,
) -> PreTrainedModel:
    """Load a model folder of any kind this project writes, in evaluation mode.

    This package's own classes run models whose layers differ and sliced models, so loading needs no
    ``trust_remote_code`` and executes no code from the folder.

    Args:
        folder: a Hugging Face model folder.
        dtype: ``auto`` (as stored), ``float32``, ``bfloat16`` or ``float16``.
        device: device of the model; ignored with ``device_map``.
        device_map: passed to transformers (for example ``auto``: spread over several GPUs by accelerate).

        check: check the folder first and all weights afterwards, see ``check_folder``; not needed if both are done.

    Raises:
        CheckpointError: if the folder is missing, damaged or of an unsupported family, its weights are not those of
            config.json or are not finite, or transformers cannot load it.
    """
    import torch

    if check:
        check_folder(folder)
    config = read_config(folder)
    try:
        model = _load_unchecked(Path(folder), config, dtype, device, device_map)
    except (CheckpointError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers raises errors of all kinds for what a folder may hold
        from llm_pruner.models.shapes import expected_shapes

        expected_shapes(Path(folder))  # raises if config.json is at fault, and names it
        reason = shortened(f"{type(error).__name__}: {error}")
        raise CheckpointError(f"{folder}: transformers cannot load it ({reason}); {AGAIN}") from error
    if not (device_map or is_quantized(config)):
        model = model.to(device)  # type: ignore[arg-type]
    if check:
        check_loaded(model, folder)
        check_tied(folder)
    return model.eval()


def _load_unchecked(
    folder: Path, config: Mapping[str, Any], dtype: str, device: str, device_map: str | None
) -> PreTrainedModel:
    cls = model_class(config)
    if is_quantized(config):
        from llm_pruner.models.packed import load_packed

        return load_packed(cls, folder, device=device_map or device, dtype=dtype)
    kwargs = {"device_map": device_map} if device_map else {}
    model, loading = cls.from_pretrained(folder, dtype=dtype, output_loading_info=True, **kwargs)
    if missing := sorted(loading["missing_keys"]):
        # transformers would go on with random weights
        raise CheckpointError(f"{weights_place(folder)}: lacks '{missing[0]}'; {TOGETHER}")
    return model


def check_loaded(model: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Raise CheckpointError if a model loaded from ``folder`` has weights that are not finite. Names the tensor.

    Weights that are offloaded, and weights in few bits, are not looked at.
    """
    import torch

    floats = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for name, tensor in model.named_parameters():
        if tensor.dtype in floats and not tensor.is_meta and tensor.numel():
            # the smallest and the largest are NaN if any is; neither needs a copy of the tensor
            low, high = torch.aminmax(tensor.detach())
            if not (torch.isfinite(low) and torch.isfinite(high)):
                entry = read_headers(folder).get(name)
                raise CheckpointError(not_finite(entry.file if entry else folder, name))


def model_class(config: Mapping[str, Any]) -> Any:
    """The class that runs a model with this config.json: transformers' own, or ours if transformers' cannot."""
    if module := own_module(config):
        from llm_pruner.models.carried import ragged, sliced

        return getattr({"ragged": ragged, "sliced": sliced}[module], own_class(module, config))
    import transformers

    return getattr(transformers, FAMILIES[config["model_type"]].model_class)


def load_tokenizer(folder: str | os.PathLike[str], trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except ImportError:
        raise
    except Exception as error:  # the libraries of tokenizers raise errors of all kinds for damaged files
        reason = shortened(str(error)) or type(error).__name__
        raise CheckpointError(f"{folder}: has no usable tokenizer ({reason}); copy the base model's") from error


def own_module(config: Mapping[str, Any]) -> str | None:
    """The module of this package that runs a model with this config.json; None if transformers runs it."""
    return next((module for key, module in OWN_MODULES.items() if config.get(key)), None)


def own_class(module: str, config: Mapping[str, Any]) -> str:
    """Name of the class in a module of ``own_module``.

    >>> own_class("ragged", {"model_type": "llama"})
    'RaggedLlamaForCausalLM'
    """
    return f"{module.capitalize()}{FAMILIES[config['model_type']].model_class}"


def base_class(causal: str) -> str:
    """Name of a causal model's class without output weights.

    >>> base_class("RaggedLlamaForCausalLM")
    'RaggedLlamaModel'
    """
    return f"{causal.removesuffix('ForCausalLM')}Model"


def modelling_file(module: str) -> str:
    """Name of a module's copy in a model folder."""
    return f"modeling_{module}.py"


class Weights(ABC):
    """Access to the tensors of a model, one at a time."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Parameter names in stored order."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """One tensor in its stored dtype, on its own device."""

    def layer(self, index: int) -> dict[str, torch.Tensor]:
        """The parameters of one decoder layer, by their names within the layer."""
        return self._after(layer_prefix(index))

    def under(self, module: str) -> dict[str, torch.Tensor]:
        """The parameters of one module of the model, by their names within the module."""
        return self._after(f"{module}.")

    def _after(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): self.tensor(name) for name in self.names() if name.startswith(prefix)}


class WeightReader(Weights):
    """Tensors of a checkpoint, each memory-mapped and released with the tensor."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.entries = read_headers(folder)

    def names(self) -> Iterator[str]:
        yield from self.entries

    def tensor(self, name: str) -> torch.Tensor:
        from safetensors import safe_open

        with safe_open(self.entries[name].file, framework="pt") as file:
            return file.get_tensor(name)


class LoadedWeights(Weights):
    """Tensors of a loaded model, without copies."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._tensors = model.state_dict()

    def names(self) -> Iterator[str]:
        yield from self._tensors

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


def read_weights(source: str | os.PathLike[str] | PreTrainedModel) -> Weights:
    """The tensors of a model folder, or of a loaded model."""
    return WeightReader(source) if isinstance(source, str | os.PathLike) else LoadedWeights(source)


def converted(tensor: torch.Tensor, dtype: str, place: Path, name: str) -> torch.Tensor:
    """The tensor in another dtype.

    Args:
        place, name: file and name of the tensor, for messages.

    Raises:
        CheckpointError: if a value is not finite, or is not in the other dtype.
    """
    import torch

    if not tensor.isfinite().all():
        raise CheckpointError(not_finite(place, name))
    result = tensor.to(getattr(torch, dtype))
    if not result.isfinite().all():
        raise CheckpointError(
            f"{place}: '{name}' has values up to {tensor.abs().max().item():.3g}, beyond {dtype}; set model.dtype to "
            "bfloat16 or float32"
        )
    return result


class CheckpointWriter:
    """Writes a model's tensors one after the other into shards, then the index. Only one tensor is in memory at a time.

    Use it as a context manager on a staged folder; the index appears when the block ends without error.
    """

    def __init__(self, folder: Path, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
        self.folder = folder
        self.max_shard_bytes = max_shard_bytes
        self._shards = [_Shard(self._part())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self._finish()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Write a tensor. The caller may change its own tensor afterwards."""
        shard = self._shards[-1]
        if shard.entries and shard.nbytes + tensor.numel() * tensor.element_size() > self.max_shard_bytes:
            shard.close()
            shard = _Shard(self._part(len(self._shards)))
            self._shards.append(shard)
        shard.add(name, tensor)

    def _part(self, number: int = 0) -> Path:
        return self.folder / f"part-{number:05d}.safetensors"

    def _finish(self) -> None:
        self._shards[-1].close()
        count = len(self._shards)
        if count == 1:
            self._shards[0].path.rename(self.folder / SINGLE_FILE)
            return
        weight_map = {}
        for number, shard in enumerate(self._shards, start=1):
            final = shard.path.rename(self.folder / f"model-{number:05d}-of-{count:05d}.safetensors")
            weight_map.update(dict.fromkeys(shard.entries, final.name))
        index = {"metadata": {"total_size": sum(shard.nbytes for shard in self._shards)}, "weight_map": weight_map}
        write_json(self.folder / INDEX_FILE, index)


class _Shard:
    """One safetensors file. Its header comes first and names every tensor, so added tensors wait in a second file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        """Entries of the header, with offsets within the second file."""
        self.nbytes = 0
        self._beside = path.with_suffix(".data")
        self._data = self._beside.open("wb")

    def add(self, name: str, tensor: torch.Tensor) -> None:
        from safetensors.torch import save

        alone = save({name: tensor.detach().cpu().contiguous()})
        begin = 8 + int.from_bytes(alone[:8], "little")
        entry = json.loads(alone[8:begin])[name]
        size = self._data.write(memoryview(alone)[begin:])
        self.entries[name] = entry | {"data_offsets": [self.nbytes, self.nbytes + size]}
        self.nbytes += size

    def close(self) -> None:
        """Put header and data together, wide types first, since readers want them aligned."""
        self._data.close()
        order = sorted(self.entries, key=lambda name: -_width(self.entries[name]))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in order:
            first, last = self.entries[name]["data_offsets"]
            header[name] = self.entries[name] | {"data_offsets": [end, end + last - first]}
            end += last - first
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with self._beside.open("rb") as data, self.path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                first, last = self.entries[name]["data_offsets"]
                data.seek(first)
                while first < last:
                    first += file.write(data.read(min(last - first, _CHUNK)))
        self._beside.unlink()


def _width(entry: Mapping[str, Any]) -> float:
    """Bytes of one element."""
    first, last = entry["data_offsets"]
    return (last - first) / max(math.prod(entry["shape"]), 1)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json and, if transformers' own class cannot run the model, the modelling file for it."""
    config = dict(config)
    if module := own_module(config):
        name, file = own_class(module, config), modelling_file(module)
        config["architectures"] = [name]
        if module == "ragged":
            # needed because transformers' validation of the configuration reads the global values
            config["allow_global_per_layer_attribute_access"] = True
        stem = file.removesuffix(".py")
        config["auto_map"] = {"AutoModel": f"{stem}.{base_class(name)}", "AutoModelForCausalLM": f"{stem}.{name}"}
        carry_module(f"llm_pruner.models.carried.{module}", folder, stem)
    write_json(folder / "config.json", config)


def carry_module(module: str, folder: Path, name: str) -> None:
    """Copy a modelling file of this package into a model folder, without importing the file."""
    from importlib.util import find_spec

    spec = find_spec(module)
    assert spec and spec.origin
    shutil.copyfile(spec.origin, folder / f"{name}.py")


def copy_companions(base: Path, folder: Path) -> None:
    """Copy a model's files besides weights and config.json: tokenizer and generation settings."""
    weights = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
    skip = {"config.json", INDEX_FILE, "README.md", *map(modelling_file, OWN_MODULES.values())}
    for path in sorted(base.iterdir()):
        other = path.suffix in weights or path.name in skip or path.name.endswith(".index.json")
        if path.is_file() and not other and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)


def link_folder(source: Path, target: Path) -> None:
    """Fill ``target`` with links to the files of ``source``: the same model under a second name, at no cost.

    If ``source`` is relative to the current folder, the links are relative too, so a run with both can be moved.
    """
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != MARKER:
            relative = os.path.relpath(path.absolute(), target.resolve())
            (target / path.name).symlink_to(path.resolve() if source.is_absolute() else relative)

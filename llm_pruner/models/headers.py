"""Safetensors headers: the tensors of a checkpoint, read without torch and without the weights."""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from llm_pruner.system.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# numpy has no bfloat16 or float8, so zeros are found in the raw bits with the sign cleared.
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
_INTEGERS = {"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}
# bits of the exponent: a value with all of them set is not finite
_EXPONENT_MASK = {"F64": 0x7FF0_0000_0000_0000, "F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80}


_NF4_STATE = ".quant_state.bitsandbytes__nf4"
"""Suffix of bitsandbytes' description of a packed weight; scales have other suffixes."""
_NF4_ZERO = 7
"""The code of zero."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a checkpoint: its place, dtype and shape. The shape of an ``NF4`` entry is the unpacked
    weight's."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Offset of the first byte in ``file``."""
    nbytes: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def _raw(self) -> np.ndarray:
        bits = _BITS.get(self.dtype) or _INTEGERS[self.dtype]
        return np.memmap(
            self.file, dtype=f"<u{bits // 8}", mode="r", offset=self.begin, shape=(self.nbytes * 8 // bits,)
        )

    def count_nonzero(self) -> int:
        """Number of elements that are not zero (negative zero counts as zero)."""
        if self.numel == 0:
            return 0
        if self.dtype == "NF4":
            packed = np.memmap(self.file, dtype="u1", mode="r", offset=self.begin, shape=(self.nbytes,))
            codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[: self.numel]
            return int(np.count_nonzero(codes != _NF4_ZERO))
        raw = self._raw()
        if self.dtype in _BITS:
            magnitude = raw.dtype.type(2 ** (_BITS[self.dtype] - 1) - 1)
            return int(np.count_nonzero(raw & magnitude))
        return int(np.count_nonzero(raw))

    def is_finite(self) -> bool:
        """False if any element is NaN or infinite. Formats without such values are always finite."""
        if self.numel == 0 or self.dtype not in _EXPONENT_MASK:
            return True
        mask = _EXPONENT_MASK[self.dtype]
        raw = self._raw()
        return not bool(np.any((raw & raw.dtype.type(mask)) == mask))


def checkpoint_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The safetensors files of the model in ``folder``, one or many shards.

    Raises:
        CheckpointError: if there are none, or a shard of the index is missing.
    """
    folder = Path(folder)
    index = folder / INDEX_FILE
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (json.JSONDecodeError, KeyError) as error:
            raise CheckpointError(f"{index}: not a safetensors index ({error!r})") from None
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise CheckpointError(
                f"{folder}: the index names {', '.join(missing)}, but the file is missing; download it again"
            )
        return [folder / name for name in names]
    if (folder / SINGLE_FILE).exists():
        return [folder / SINGLE_FILE]
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        raise CheckpointError(
            f"{folder}: has only pickled weights ({pickled[0]}), which can run code and are not read; convert them to "
            "safetensors first"
        )
    raise CheckpointError(f"{folder}: has no {SINGLE_FILE} and no {INDEX_FILE}; name a model folder")


def read_file_header(file: Path) -> dict[str, TensorEntry]:
    """Entries of one safetensors file, checked against the file's length.

    Raises:
        CheckpointError: if the file is not safetensors or is shorter than its header says.
    """
    size = file.stat().st_size
    with file.open("rb") as handle:
        prefix = handle.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if length == 0 or 8 + length > size:
            raise CheckpointError(f"{file}: not a safetensors file, or truncated in its header ({size:,} bytes)")
        try:
            header = json.loads(handle.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise CheckpointError(f"{file}: its safetensors header is damaged") from None
    header.pop("__metadata__", None)
    entries = {}
    for name, record in header.items():
        begin, end = record["data_offsets"]
        entries[name] = TensorEntry(
            name, file, record["dtype"], tuple(record["shape"]), 8 + length + begin, end - begin
        )
    expected = max((entry.begin + entry.nbytes for entry in entries.values()), default=8 + length)
    if size < expected:
        raise CheckpointError(f"{file}: truncated, {size:,} of {expected:,} bytes are there; copy or download it again")
    return entries


def read_headers(folder: str | os.PathLike[str]) -> dict[str, TensorEntry]:
    """Every tensor of the checkpoint in ``folder``, by parameter name."""
    entries: dict[str, TensorEntry] = {}
    for file in checkpoint_files(folder):
        entries.update(read_file_header(file))
    for state in [name for name in entries if name.endswith(_NF4_STATE)]:
        _unpack(entries, state)
    return entries


def _unpack(entries: dict[str, TensorEntry], state: str) -> None:
    """Replace the entries of a packed weight, its scales and their description by one entry for the weight."""
    name = state.removesuffix(_NF4_STATE)
    described = json.loads(bytes(entries[state]._raw()))
    entries[name] = replace(entries[name], dtype="NF4", shape=tuple(described["shape"]))
    for part in [other for other in entries if other.startswith(f"{name}.")]:
        del entries[part]


def bytes_on_disk(folder: str | os.PathLike[str]) -> int:
    """Bytes of the weights in ``folder``, without tokenizer and configuration."""
    return sum(file.stat().st_size for file in checkpoint_files(folder))

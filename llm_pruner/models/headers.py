"""Safetensors headers: the tensors of a checkpoint, read without torch and without the weights."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from llm_pruner.models.foreign_json import kind, parse_object, read_object, require_file, shown
from llm_pruner.system.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

AGAIN = "copy or download it again"
"""The way out of a damaged file."""

# numpy has no bfloat16 or float8, so zeros are found in the raw bits with the sign cleared.
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
_INTEGERS = {"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}
_WIDTHS = {**_BITS, **_INTEGERS}
# with the sign cleared, the smallest bits that are not finite: all bits of the exponent, which of F8_E4M3 are finite
# with any fraction but the largest
_NOT_FINITE = {
    "F64": 0x7FF0_0000_0000_0000,
    "F32": 0x7F80_0000,
    "F16": 0x7C00,
    "BF16": 0x7F80,
    "F8_E5M2": 0x7C,
    "F8_E4M3": 0x7F,
}
_CHUNK = 2**20
"""Elements looked at together, few enough for a processor's cache."""
_MOST_DIMENSIONS = 16
"""Largest number of a tensor's dimensions; weights of models have two."""
_LONGEST_NAME = 255
"""Characters; no file system takes a longer name."""
_LONGEST_HEADER = 100_000_000
"""Bytes; the safetensors library reads no longer header."""

RECOMPUTED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
"""Ends of names of buffers in old checkpoints. Models compute them anew, so they are no weights."""

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
        bits = _WIDTHS[self.dtype]
        return np.memmap(
            self.file, dtype=f"<u{bits // 8}", mode="r", offset=self.begin, shape=(self.nbytes * 8 // bits,)
        )

    def chunks(self) -> Iterator[np.ndarray]:
        """The raw bits as unsigned integers, a part at a time. Nothing for an empty tensor."""
        if self.nbytes:
            raw = self._raw()
            for start in range(0, raw.size, _CHUNK):
                yield raw[start : start + _CHUNK]

    def content(self) -> bytes:
        """The bytes of the tensor."""
        return bytes(self._raw()) if self.nbytes else b""

    def count_nonzero(self) -> int:
        """Number of elements that are not zero (negative zero counts as zero).

        Raises:
            CheckpointError: if an element is NaN or infinite.
        """
        if self.numel == 0:
            return 0
        if self.dtype == "NF4":
            packed = np.memmap(self.file, dtype="u1", mode="r", offset=self.begin, shape=(self.nbytes,))
            codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[: self.numel]
            return int(np.count_nonzero(codes != _NF4_ZERO))
        if self.dtype not in _BITS:
            return sum(int(np.count_nonzero(chunk)) for chunk in self.chunks())
        count = 0
        for magnitude in map(self._magnitude, self.chunks()):
            if magnitude.max() >= _NOT_FINITE[self.dtype]:
                raise CheckpointError(not_finite(self.file, self.name))
            count += int(np.count_nonzero(magnitude))
        return count

    def is_finite(self) -> bool:
        """False if any element is NaN or infinite. Formats without such values are always finite."""
        least = _NOT_FINITE.get(self.dtype)
        return least is None or all(self._magnitude(chunk).max() < least for chunk in self.chunks())

    def same_bits(self, other: TensorEntry) -> bool:
        """Whether the other tensor has the same bytes."""
        return self.nbytes == other.nbytes and all(map(np.array_equal, self.chunks(), other.chunks()))

    def _magnitude(self, raw: np.ndarray) -> np.ndarray:
        """Raw bits of floats with the sign cleared."""
        return raw & raw.dtype.type(2 ** (_BITS[self.dtype] - 1) - 1)


def not_finite(place: str | os.PathLike[str], tensor: str) -> str:
    """The message about a tensor with NaN or infinite values."""
    return f"{place}: '{tensor}' holds NaN or infinite values; this checkpoint is damaged, {AGAIN}"


def checkpoint_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The safetensors files of the model in ``folder``, one or many shards. A single file comes before an index.

    Raises:
        CheckpointError: if there are none, the index is damaged or names a file outside the folder, or a shard is
            missing.
    """
    return _find_files(Path(folder))[0]


def weights_place(folder: Path) -> Path:
    """The file that messages about all weights of a model name: the single file, or the index of the shards."""
    return folder / (SINGLE_FILE if (folder / SINGLE_FILE).is_file() else INDEX_FILE)


def _find_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The files of a model, and the file's name of each tensor in an index."""
    # as transformers chooses
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE], {}
    if os.path.lexists(folder / INDEX_FILE):
        named = _read_index(folder / INDEX_FILE)
        return [folder / name for name in sorted(set(named.values()))], named
    if os.path.lexists(folder / SINGLE_FILE):
        require_file(folder / SINGLE_FILE)
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        raise CheckpointError(
            f"{folder}: has only pickled weights ({pickled[0]}), which can run code and are not read; convert them to "
            "safetensors first"
        )
    raise CheckpointError(f"{folder}: has no {SINGLE_FILE} and no {INDEX_FILE}; name a model folder")


def _read_index(path: Path) -> dict[str, str]:
    """The file of each tensor, by the tensor's name.

    Raises:
        CheckpointError: unless the index has the form that transformers reads and each file is in the index's folder. A
            file may be a link to anywhere, as in the hub's cache.
    """
    index = read_object(path, AGAIN)
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{path}: 'weight_map' is {shown(names)}, not an object of file names by tensor; {AGAIN}")
    if not isinstance(index.get("metadata"), dict):
        raise CheckpointError(f"{path}: 'metadata' is {shown(index.get('metadata'))}, not an object; {AGAIN}")
    for tensor, name in names.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: the file of {shown(tensor)} is {shown(name)}, not a file's name; {AGAIN}")
        if name in ("", ".", "..") or len(name) > _LONGEST_NAME or any(sign in name for sign in "/\\:\0"):
            raise CheckpointError(
                f"{path}: the file of {shown(tensor)} is {shown(name)}, not a file's name within {path.parent}; "
                "put the shards beside the index, and correct the names"
            )
    for name in sorted(set(names.values())):
        if not os.path.lexists(path.parent / name):
            raise CheckpointError(f"{path}: the index names {name}, but the file is missing; download it again")
        require_file(path.parent / name)
    return names


def read_file_header(file: Path) -> dict[str, TensorEntry]:
    """Entries of one safetensors file, by name.

    The header is held to the format: known dtypes, shapes that fit the bytes, and data without overlap, gap or
    left-over bytes.

    Raises:
        CheckpointError: for any other header, and for a file shorter than its header says.
    """
    require_file(file)
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            prefix = handle.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if length == 0 or 8 + length > size:
                raise CheckpointError(f"{file}: not a safetensors file, or truncated in its header ({size:,} bytes)")
            if length > _LONGEST_HEADER:
                raise CheckpointError(f"{file}: not a safetensors file, its header would have {length:,} bytes")
            text = handle.read(length)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    header = parse_object(text, f"{file}: its safetensors header", AGAIN)
    if not text.startswith(b"{"):
        raise CheckpointError(f"{file}: its safetensors header does not begin with '{{'; {AGAIN}")
    facts = header.pop("__metadata__", None)
    if facts is not None and not (isinstance(facts, dict) and all(isinstance(fact, str) for fact in facts.values())):
        raise CheckpointError(f"{file}: '__metadata__' is {kind(facts)}, not an object of texts; {AGAIN}")
    entries = [_entry(file, 8 + length, name, record) for name, record in header.items()]
    _check_cover(file, size, 8 + length, entries)
    return {entry.name: entry for entry in entries}


def _entry(file: Path, start: int, name: str, record: Any) -> TensorEntry:
    """The entry of one tensor, whose data are offsets from ``start``."""

    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"{file}: {shown(name)} {problem}; {AGAIN}")

    if not isinstance(record, dict):
        raise refuse(f"is described by {shown(record)}, not by an object")
    dtype, shape, offsets = (record.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _WIDTHS:
        raise refuse(f"has dtype {shown(dtype)}, not one of {', '.join(_WIDTHS)}")
    if not _are_sizes(shape):
        raise refuse(f"has shape {shown(shape)}, not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse(f"has data_offsets {shown(offsets)}, not those of its first byte and of its end")
    begin, end = offsets
    needed, held = math.prod(shape) * _WIDTHS[dtype] // 8, end - begin
    if needed != held:
        raise refuse(
            f"of {dtype} {shown(shape)} takes {needed:,} bytes, but data_offsets {shown(offsets)} hold {held:,}"
        )
    return TensorEntry(name, file, dtype, tuple(shape), start + begin, needed)


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**63 for size in value)
    )


def _check_cover(file: Path, size: int, start: int, entries: list[TensorEntry]) -> None:
    """Raise CheckpointError unless the tensors' bytes fill the file from ``start`` to ``size``, one after the other."""
    expected = max((entry.begin + entry.nbytes for entry in entries), default=start)
    if size < expected:
        raise CheckpointError(f"{file}: truncated, {size:,} of {expected:,} bytes are there; {AGAIN}")
    end = start
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.nbytes)):
        if entry.begin != end:
            what = "overlap other tensors" if entry.begin < end else "leave a gap"
            raise CheckpointError(
                f"{file}: the bytes of {shown(entry.name)} {what}, they begin at {entry.begin - start:,}, not at "
                f"{end - start:,}; {AGAIN}"
            )
        end = entry.begin + entry.nbytes
    if end != size:
        raise CheckpointError(f"{file}: has {size - end:,} bytes behind its last tensor; {AGAIN}")


def read_stored(folder: str | os.PathLike[str]) -> dict[str, TensorEntry]:
    """Every tensor as it is stored, by name: packed weights as bytes beside their scales.

    Raises:
        CheckpointError: as ``checkpoint_files`` and ``read_file_header``, and for shards that do not match their index.
    """
    files, named = _find_files(Path(folder))
    entries: dict[str, TensorEntry] = {}
    for file in files:
        for name, entry in read_file_header(file).items():
            if name in entries:
                raise CheckpointError(f"{file}: holds {shown(name)}, as {entries[name].file.name} does; {AGAIN}")
            entries[name] = entry
    for name, own in named.items():
        if name not in entries or entries[name].file.name != own:
            raise CheckpointError(
                f"{Path(folder, INDEX_FILE)}: says that {own} holds {shown(name)}, but it does not; {AGAIN}"
            )
    return entries


def read_headers(folder: str | os.PathLike[str]) -> dict[str, TensorEntry]:
    """Every weight of the checkpoint in ``folder``, by parameter name, without buffers that models compute anew.

    Raises:
        CheckpointError: as ``read_stored``, and for packed weights with a damaged description.
    """
    entries = {name: entry for name, entry in read_stored(folder).items() if not name.endswith(RECOMPUTED)}
    for state in [name for name in entries if name.endswith(_NF4_STATE)]:
        _unpack(entries, state)
    return entries


def _unpack(entries: dict[str, TensorEntry], state: str) -> None:
    """Replace the entries of a packed weight, its scales and their description by one entry for the weight."""
    name = state.removesuffix(_NF4_STATE)
    described = parse_object(entries[state].content(), f"{entries[state].file}: {shown(state)}", AGAIN)
    shape, packed = described.get("shape"), entries.get(name)
    if packed is None:
        raise CheckpointError(f"{entries[state].file}: describes {shown(name)}, but does not hold it; {AGAIN}")
    if not _are_sizes(shape) or packed.nbytes != -(-math.prod(shape) // 2):
        raise CheckpointError(
            f"{packed.file}: {shown(name)} has {packed.nbytes:,} bytes of 4-bit weights, which do not fit its shape "
            f"{shown(shape)}; {AGAIN}"
        )
    entries[name] = replace(packed, dtype="NF4", shape=tuple(shape))
    for part in [other for other in entries if other.startswith(f"{name}.")]:
        del entries[part]


def bytes_on_disk(folder: str | os.PathLike[str]) -> int:
    """Bytes of the weights in ``folder``, without tokenizer and configuration."""
    return sum(file.stat().st_size for file in checkpoint_files(folder))

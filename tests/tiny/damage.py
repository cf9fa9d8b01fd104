"""Damage to a model folder: every way in which one of its files can be wrong, as the files' new contents."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load, save

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
Damage = tuple[str, Mapping[str, bytes | None]]
"""What it is, and the new content of each file that changes; None removes the file."""

FORMS: Mapping[str, bytes] = {
    "empty": b"",
    "cut off": b'{"a": 1',
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "text": b'"x"',
    "an empty object": b"{}",
    "another encoding": '{"a": 1}'.encode("utf-16"),
    "no UTF-8": b'{"a\xff": 1}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": 1e999}',
    "a long number": b'{"a": ' + b"9" * 5_000 + b"}",
    "a key twice": b'{"a": 1, "a": 2}',
    "half a character": b'{"\\ud800": "\\ud800"}',
}
"""Contents that are no JSON object, or not the one that a file should hold."""

VALUES: tuple[Any, ...] = (None, True, -1, 1.5, "x", [], [[]], {"a": 1})
"""One JSON value or more of every type."""


def sharded(content: bytes) -> dict[str, bytes | None]:
    """The same weights in two files with an index."""
    tensors = load(content)
    parts = [dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2])]
    names = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part},
    }
    shards = {name: save(part, metadata={"format": "pt"}) for name, part in zip(names, parts, strict=True)}
    return {WEIGHTS: None, **shards, INDEX: json.dumps(index).encode()}


def tensor_damages(content: bytes) -> Iterator[Damage]:
    """Each tensor missing, under another name, in another shape or of other numbers."""
    for number, (name, tensor) in enumerate(load(content).items()):
        others = {key: held for key, held in load(content).items() if key != name}

        def written(others: dict[str, torch.Tensor] = others, **own: torch.Tensor) -> Mapping[str, bytes]:
            return {WEIGHTS: save({**others, **own}, metadata={"format": "pt"})}

        yield f"{name} missing", written()
        yield f"{name} renamed", written(**{f"{name}x": tensor})
        yield f"{name} longer", written(**{name: torch.cat([tensor, tensor[:1]])})
        yield f"{name} flat", written(**{name: tensor.flatten()[None]})
        yield f"{name} whole numbers", written(**{name: tensor.long()})
        value = ("nan", "inf", "-inf")[number % 3]
        spoilt = tensor.clone()
        spoilt.view(-1)[-number % tensor.numel()] = float(value)
        yield f"{name} {value}", written(**{name: spoilt})


def header_damages(content: bytes) -> Iterator[Damage]:
    """Lengths, forms, and values of one entry in the header of a safetensors file; bytes missing and left over."""
    header, data = split(content)
    for name, text in FORMS.items():
        yield f"header {name}", {WEIGHTS: joined(text, data)}
    for length in (0, 1, len(content), 2**40, 2**63, 2**64 - 1):
        yield f"header length {length}", {WEIGHTS: struct.pack("<Q", length) + content[8:]}
    for size in range(0, len(content), len(content) // 12):
        yield f"cut off at {size}", {WEIGHTS: content[:size]}
    yield "bytes left over", {WEIGHTS: content + b"\0" * 4}
    yield "header with a space before", {WEIGHTS: joined(b" " + json.dumps(header).encode(), data)}
    yield "metadata", {WEIGHTS: joined(json.dumps({**header, "__metadata__": {"a": 1}}).encode(), data)}
    names = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    first, last = names[0], names[-1]
    for name in (first, last):
        record = header[name]
        begin, end = record["data_offsets"]
        for value in VALUES:
            yield f"entry {value}", _entry(header, data, name, value)
        for key in record:
            yield (
                f"no {key}",
                _entry(header, data, name, {other: held for other, held in record.items() if other != key}),
            )
            for value in VALUES:
                if value != record[key]:
                    yield f"{key} {value}", _entry(header, data, name, {**record, key: value})
        for dtype in ("F16", "F64", "I32", "BOOL", "F4", "C64", "f32"):
            yield f"dtype {dtype}", _entry(header, data, name, {**record, "dtype": dtype})
        sizes = record["shape"]
        for shape in ([-1, *sizes], [0, *sizes], [2**62] * 400, [*sizes[:-1], sizes[-1] + 1], [True, *sizes]):
            yield f"shape {shape}", _entry(header, data, name, {**record, "shape": shape})
        for offsets in ([end, begin], [begin - 4, end - 4], [begin + 4, end + 4], [begin, end + 4], [begin, end - 4]):
            yield f"offsets {offsets}", _entry(header, data, name, {**record, "data_offsets": offsets})
        for offsets in ([begin, end, end], [begin], [-end, -begin], [begin, 2**70], [float(begin), float(end)]):
            yield f"offsets {offsets}", _entry(header, data, name, {**record, "data_offsets": offsets})
    swapped = {**header, first: header[last], last: header[first]}
    yield "entries swapped", {WEIGHTS: joined(json.dumps(swapped).encode(), data)}
    gap = {**header, last: {**header[last], "data_offsets": [at + 8 for at in header[last]["data_offsets"]]}}
    yield "gap", {WEIGHTS: joined(json.dumps(gap).encode(), data + b"\0" * 8)}


def flipped(content: bytes, count: int) -> Iterator[Damage]:
    """Single bits of the header, spread over it, the other way round."""
    length = 8 + struct.unpack("<Q", content[:8])[0]
    for number in range(count):
        place, bit = number * length // count, number % 8
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", {WEIGHTS: bytes(damaged)}


def index_damages(content: bytes) -> Iterator[Damage]:
    """Forms of an index, and values in it; ``content`` is the weights in one file."""
    shards = sharded(content)
    index = json.loads(shards[INDEX] or b"")
    tensor, name = next(iter(index["weight_map"].items()))

    def changed(**keys: Any) -> Mapping[str, bytes | None]:
        return {**shards, INDEX: json.dumps({**index, **keys}).encode()}

    for form, text in FORMS.items():
        yield f"index {form}", {**shards, INDEX: text}
    for key in index:
        left = {other: held for other, held in index.items() if other != key}
        yield f"index without {key}", {**shards, INDEX: json.dumps(left).encode()}
        for value in VALUES:
            if key == "weight_map" or not isinstance(value, dict):
                yield f"{key} {value}", changed(**{key: value})
    places = (f"../{name}", f"/tmp/{name}", f"sub/{name}", f"./{name}", "..", ".", "\0", f"..\\{name}", "x" * 5_000)
    for value in (*VALUES, *places, CONFIG, INDEX, "elsewhere.safetensors"):
        yield f"a shard {str(value)[:40]}", changed(weight_map={**index["weight_map"], tensor: value})
    other = next(held for held in index["weight_map"].values() if held != name)
    yield "in the other shard", changed(weight_map={**index["weight_map"], tensor: other})
    yield "a tensor that is nowhere", changed(weight_map={**index["weight_map"], "x": name})
    yield (
        "in both shards",
        {
            **shards,
            other: save({**load(shards[other] or b""), tensor: load(shards[name] or b"")[tensor]}, {"format": "pt"}),
        },
    )
    for shard in (name, other):
        yield "shard missing", {**shards, shard: None}
        yield "shard cut off", {**shards, shard: (shards[shard] or b"")[:-4]}


def config_damages(content: bytes) -> Iterator[Damage]:
    """Forms of config.json, each key missing, and each with values of other types than its own."""
    config = json.loads(content)

    def changed(**keys: Any) -> Mapping[str, bytes]:
        return {CONFIG: json.dumps({**config, **keys}).encode()}

    for form, text in FORMS.items():
        yield f"config {form}", {CONFIG: text}
    for key in config:
        yield (
            f"no {key}",
            {CONFIG: json.dumps({other: held for other, held in config.items() if other != key}).encode()},
        )
    own = ("per_layer_config", "dropped_blocks", "added_biases", "sliced", "layer_types")
    more = ("rope_scaling", "torch_dtype", "quantization_config", "auto_map", "id2label", "return_dict")
    for key in (*config, *own, *more):
        for value in VALUES:
            if type(value) is not type(config.get(key, None)) or value is None:
                yield f"{key} {value}", changed(**{key: value})
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        for value in (0, -1, config[key] + 1, config[key] - 1, 2 * config[key], 10**9, 10**400):
            yield f"{key} {str(value)[:12]}", changed(**{key: value})
    for key, value in (
        *(("num_key_value_heads", count) for count in (0, 1, 3, 8, 10**9)),
        *(("head_dim", size) for size in (0, 1, 9)),
        *((key, "nope") for key in ("model_type", "hidden_act", "dtype", "rope_parameters")),
        ("rope_parameters", {"rope_type": "nope"}),
        ("pad_token_id", 10_000),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
        ("attention_bias", False),
        ("mlp_bias", False),
        ("tie_word_embeddings", True),
        ("per_layer_config", {"0": {"intermediate_size": 3}}),
        ("per_layer_config", {"9": {}}),
        ("per_layer_config", {"x": {}}),
        ("dropped_blocks", {"attention": [0]}),
        ("dropped_blocks", {"attention": [9]}),
        ("dropped_blocks", {"head": [0]}),
        ("added_biases", ["self_attn.q_norm"]),
        ("sliced", {"widths": [32]}),
        ("sliced", {"widths": [16] * 3}),
    ):
        yield f"{key} {value}", changed(**{key: value})


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    start = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:start]), content[start:]


def joined(header: bytes, data: bytes) -> bytes:
    """A safetensors file of any header."""
    return struct.pack("<Q", len(header)) + header + data


def _entry(header: Mapping[str, Any], data: bytes, name: str, value: Any) -> Mapping[str, bytes]:
    return {WEIGHTS: joined(json.dumps({**header, name: value}).encode(), data)}

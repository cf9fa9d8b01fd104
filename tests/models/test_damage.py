"""A damaged model folder is refused by name, or means what the undamaged one means; legitimate ones are taken."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save
from typer.testing import CliRunner

import llm_pruner
from llm_pruner.analysis.structure import analyze_model
from llm_pruner.cli import app
from llm_pruner.data.tokens import write_tokens
from llm_pruner.models.architecture import FAMILIES, read_architecture, read_config
from llm_pruner.models.check import check_folder
from llm_pruner.models.doctor import examine
from llm_pruner.models.headers import TensorEntry, read_file_header
from llm_pruner.models.planned import planned_shapes
from llm_pruner.models.prepare import prepare_model
from llm_pruner.models.shapes import check_base, expected_shapes
from llm_pruner.system.errors import CheckpointError, PrunerError
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny.damage import (
    CONFIG,
    INDEX,
    WEIGHTS,
    config_damages,
    flipped,
    header_damages,
    index_damages,
    sharded,
    tensor_damages,
)
from tests.tiny.families import VOCABULARY
from tests.tiny.models import build_model, logits

SHAPE = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
"""As transformers fills it in if config.json has neither key-value heads nor a size of heads."""
TOKENS = torch.arange(3, 35)[None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    build_model("llama", **SHAPE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "in" / "model"))


def put(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def outcome(call: Callable[[], Any]) -> tuple[str | None, Any]:
    """The message of the error of ours, or the result. Any other error fails the test."""
    try:
        return None, call()
    except PrunerError as error:
        return str(error), None


KINDS: Mapping[str, tuple[str, Callable[[bytes], Iterator[Any]]]] = {
    "tensors": (WEIGHTS, tensor_damages),
    "header": (WEIGHTS, header_damages),
    "bits": (WEIGHTS, lambda content: flipped(content, 80)),
    "index": (WEIGHTS, index_damages),
    "config": (CONFIG, config_damages),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_folders_are_refused_by_name_or_mean_the_same(kind: str, whole: Path, folder: Path) -> None:
    """Each folder by the check of a base and by ``load``; what the check before any job refuses, both refuse."""
    expected, parameters = logits(llm_pruner.load(whole), TOKENS), read_architecture(whole).total_parameters
    file, damages = KINDS[kind]
    original = {path.name: path.read_bytes() for path in whole.iterdir()}
    counts: Counter[bool] = Counter()
    for name, files in damages(original[file]):
        put(folder, files)
        before = contents(folder)
        (early, shape), (base, _), (loaded, model) = (
            outcome(lambda door=door: door(folder)) for door in (check_folder, check_base, llm_pruner.load)
        )
        for message in (early, base, loaded):
            assert message is None or (f"{folder}/" in message and len(message) < 1_500), (name, message)
        assert early is None or (base and loaded), name
        assert (base is None) == (loaded is None), (name, base, loaded)
        if model:
            assert torch.equal(logits(model, TOKENS), expected) and shape.total_parameters == parameters, name
        assert contents(folder) == before, name
        counts[base is None] += 1
        for part in folder.iterdir():
            if part.name not in original:
                part.unlink()
        put(folder, {part: original[part] for part in files if part in original})
    assert counts[False] > 40, counts
    if kind in ("tensors", "index"):
        assert counts[True] == 0, counts


# --- every door ---------------------------------------------------------------------------------------------


LOOKED_AT = ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight", "model.norm.weight")
"""Weights of the pruned model that are looked at."""


def doors(folder: Path, out: Path) -> dict[str, Callable[[], Any]]:
    """Each way to the model in ``folder``, by name; the results are compared with those of the undamaged folder."""
    stream = out / "stream.safetensors"
    out.mkdir()
    write_tokens(stream, TOKENS, {})

    def command(line: str, result: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            arguments = line.format(model=folder, out=out, stream=stream).split()
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code in (0, 1) and "Traceback" not in done.output, (line, done.output, done.exception)
            if done.exit_code:
                raise PrunerError(done.output)
            return result()

        return run

    def before_any_job() -> None:
        short: dict[str, Any] = {"calibration": {"length": 16}, "perplexity": {"window": 16}}
        short |= {"efficiency": {"prompt_length": 8, "new_tokens": 8}}
        config, variants = load_config({"model": {"source": str(folder)}, "variants": ["Magnitude_2of4"], **short})
        preflight(config, variants.values())

    def made(path: Path) -> dict[str, Any]:
        return {name: tensor.tolist() for name, tensor in load_file(path).items() if name in LOOKED_AT}

    def read(path: str, key: str) -> Any:
        return json.loads((out / path).read_text())[key]

    return {
        "preflight": before_any_job,
        "job": lambda: prepare_model(str(folder), out / "base", out / "base.json").parameters,
        "prune": command(
            "prune --model {model} --strategy magnitude --structure 2:4 --output {out}/pruned",
            lambda: (read("pruned/pruning.json", "layers"), made(out / "pruned" / "model" / WEIGHTS)),
        ),
        "score": command(
            "score --model {model} --strategy magnitude --output {out}/scores.json",
            lambda: read("scores.json", "layers"),
        ),
        "evaluate": command(
            "evaluate --model {model} --tokens {stream} --window 16 --output {out}/measured --device cpu --no-progress",
            lambda: read("measured/perplexity.json", "perplexity"),
        ),
        "analyze": command(
            "analyze --model {model} --base {model} --output {out}/analysis",
            lambda: read("analysis/pruned_model_analysis.json", "layers"),
        ),
        "doctor": command("doctor --model {model} --device cpu", lambda: None),
        "load": lambda: logits(llm_pruner.load(folder), TOKENS).tolist(),
    }


def stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    """What changes if a file or a link does, also of links that lead nowhere."""
    found = {path.name: os.lstat(path) for path in folder.iterdir()}
    return {name: (stamp.st_ino, stamp.st_size, stamp.st_mtime_ns) for name, stamp in found.items()}


WEIGHTS_ALONE = {"not finite", "tied to another output"}
"""Damage that only reading the weights shows, so that the check before any job lets it through."""
UNNOTICED = {("tokenizer", "analyze"), ("activation", "preflight"), ("activation", "analyze")}
"""Damage to what the door does not read, or that transformers alone can judge."""


def spoil(folder: Path, how: str) -> str:
    """Damage one file of a folder in one way; its name."""
    content, config = (folder / WEIGHTS).read_bytes(), json.loads((folder / CONFIG).read_text())
    tensors = load(content)
    files: dict[str, bytes | None] = {}
    if how == "no output":
        files[WEIGHTS] = save({name: held for name, held in tensors.items() if name != "lm_head.weight"})
    elif how == "not finite":
        files[WEIGHTS] = save({**tensors, "model.norm.weight": torch.full([32], math.inf)}, {"format": "pt"})
    elif how == "tied to another output":
        files[CONFIG] = json.dumps({**config, "tie_word_embeddings": True}).encode()
    elif how == "bytes left over":
        files[WEIGHTS] = content + bytes(8)
    elif how == "deep header":
        files[WEIGHTS] = (100_000).to_bytes(8, "little") + b"[" * 100_000
    elif how == "activation":
        files[CONFIG] = json.dumps({**config, "hidden_act": "nope"}).encode()
    elif how == "size":
        files[CONFIG] = json.dumps({**config, "hidden_size": "32"}).encode()
    elif how == "tokenizer":
        held = json.loads((folder / "tokenizer.json").read_text())
        held["model"]["vocab"]["more"] = 97
        files["tokenizer.json"] = json.dumps(held).encode()
    else:
        shards = sharded(content)
        index = json.loads(shards[INDEX] or b"")
        put(folder, shards)
        shard = next(iter(index["weight_map"].values()))
        (folder / shard).rename(folder.parent / shard)
        if how == "link to itself":
            (folder / shard).symlink_to(shard)
            return shard
        files[INDEX] = json.dumps(index).replace(shard, f"../{shard}").encode()
    put(folder, files)
    return next(iter(files)) if how not in ("tied to another output",) else WEIGHTS


@pytest.mark.parametrize(
    "how",
    [
        *("no output", *sorted(WEIGHTS_ALONE), "bytes left over", "deep header", "activation", "size"),
        *("tokenizer", "a shard outside", "link to itself"),
    ],
)
def test_every_door_refuses_the_same(how: str, folder: Path, tmp_path: Path) -> None:
    name = spoil(folder, how)
    before = stamps(folder)
    for door, call in doors(folder, tmp_path / "out").items():
        message, _ = outcome(call)
        if (how, door) in UNNOTICED or (door == "preflight" and how in WEIGHTS_ALONE):
            assert message is None, (door, message)
        else:
            assert message and str(folder / name) in message, (door, message)
    assert stamps(folder) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"stream.safetensors", "analysis"}


# --- what is legitimate -------------------------------------------------------------------------------------


def change(folder: Path, how: str) -> None:
    """Another form of the same model."""
    content, config = (folder / WEIGHTS).read_bytes(), json.loads((folder / CONFIG).read_text())
    if how == "left out":
        for key in ("num_key_value_heads", "head_dim", "tie_word_embeddings", "rope_parameters", "dtype"):
            config.pop(key)
        config |= {"rope_scaling": None, "rope_theta": 10000.0, "torch_dtype": "float32"}
        (folder / CONFIG).write_text(json.dumps(config))
    elif how == "null":
        nothing = dict.fromkeys(("num_key_value_heads", "head_dim", "per_layer_config", "quantization_config"))
        (folder / CONFIG).write_text(json.dumps({**config, **nothing}))
    elif how == "buffers":
        more = {
            f"model.layers.0.self_attn.rotary_emb.{name}": torch.tensor([math.nan])
            for name in ("inv_freq", "cos_cached")
        }
        (folder / WEIGHTS).write_bytes(save({**load(content), **more}))
    elif how == "sharded":
        put(folder, sharded(content))
    elif how == "an older index":
        put(folder, {**sharded(content), WEIGHTS: content})
    elif how == "a cache of the hub":
        for number, path in enumerate([*folder.iterdir()]):
            blob = folder.parent / "blobs" / f"{number}"
            blob.parent.mkdir(exist_ok=True)
            path.rename(blob)
            path.symlink_to(Path("..") / "blobs" / blob.name)
    elif how == "stored twice":
        embedding = load(content)["model.embed_tokens.weight"]
        (folder / WEIGHTS).write_bytes(save({**load(content), "lm_head.weight": embedding.clone()}, {"format": "pt"}))


@pytest.fixture(scope="module")
def undamaged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, Any]]:
    """Results of all doors for a model whose output is tied to its embedding, and for one whose output is not."""
    results = {}
    for tied in (False, True):
        folder = shutil.copytree(whole, tmp_path_factory.mktemp("undamaged") / "model")
        if tied:
            build_model("llama", **SHAPE, tie_word_embeddings=True).save_pretrained(folder)
        results[tied] = {name: call() for name, call in doors(folder, folder.parent / "out").items()}
    return results


@pytest.mark.parametrize(
    "how", ["left out", "null", "buffers", "sharded", "an older index", "a cache of the hub", "stored twice"]
)
def test_legitimate_folders_mean_the_same_by_every_door(
    how: str, folder: Path, tmp_path: Path, undamaged: dict[bool, dict[str, Any]]
) -> None:
    tied = how == "stored twice"
    if tied:
        build_model("llama", **SHAPE, tie_word_embeddings=True).save_pretrained(folder)
    change(folder, how)
    for door, call in doors(folder, tmp_path / "out").items():
        assert call() == undamaged[tied][door], door


@pytest.mark.parametrize("family", FAMILIES)
def test_planned_shapes_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    """Whichever keys are missing; what one of the two refuses is no model of the other."""
    build_model(family, num_hidden_layers=1, head_dim=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    optional = ("num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias", "mlp_bias")
    for given in (
        {},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"tie_word_embeddings": True},
        {"num_attention_heads": 32},
    ):
        for missing in ((), *((key,) for key in optional), optional):
            kept = {key: value for key, value in {**config, **given}.items() if key not in missing}
            (tmp_path / CONFIG).write_text(json.dumps(kept))
            message, whole = outcome(lambda: read_config(tmp_path))
            if message:  # a default of the family that does not fit
                assert "num_key_value_heads" in message
                continue
            shapes, may_miss = expected_shapes(tmp_path)
            assert planned_shapes(whole, FAMILIES[family]) == {
                name: shape for name, shape in shapes.items() if name not in may_miss
            }


# --- weights ------------------------------------------------------------------------------------------------


def test_a_base_is_read_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    chunks = TensorEntry.chunks

    def counted(entry: TensorEntry) -> Iterator[Any]:
        read[entry.name] += 1
        return chunks(entry)

    monkeypatch.setattr(TensorEntry, "chunks", counted)
    prepare_model(str(folder), tmp_path / "base", tmp_path / "base.json")
    assert read == Counter(load_file(folder / WEIGHTS).keys())
    read.clear()
    prepare_model(str(folder), tmp_path / "half", tmp_path / "half.json", dtype="float16")
    assert not read
    analyze_model(folder, "Dense")
    assert read == Counter(load_file(folder / WEIGHTS).keys())


@pytest.mark.parametrize(
    ("value", "dtype", "problem"), [(1e30, "float16", "up to 1e+30, beyond float16"), (math.nan, "bfloat16", "NaN")]
)
def test_what_another_dtype_does_not_hold(value: float, dtype: str, problem: str, folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][3] = value
    (folder / WEIGHTS).write_bytes(save(tensors, {"format": "pt"}))
    message, _ = outcome(lambda: prepare_model(str(folder), tmp_path / "base", tmp_path / "base.json", dtype=dtype))
    assert message and problem in message and f"{folder / WEIGHTS}: 'model.norm.weight'" in message
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_values_that_are_not_finite_in_every_format(dtype: str, tmp_path: Path) -> None:
    kind = getattr(torch, dtype)
    largest = torch.finfo(kind).max
    finite = torch.tensor([0.0, -0.0, largest, -largest, torch.finfo(kind).smallest_normal], dtype=torch.float64)
    for bad in (None, math.nan, *([math.inf, -math.inf] if dtype != "float8_e4m3fn" else [])):
        values = (finite if bad is None else torch.cat([finite, torch.tensor([bad], dtype=torch.float64)])).to(kind)
        path = tmp_path / WEIGHTS
        path.write_bytes(save({"x": values}))
        entry = read_file_header(path)["x"]
        assert entry.is_finite() == (bad is None)
        if bad is None:
            assert entry.count_nonzero() == 3
        else:
            with pytest.raises(CheckpointError, match=r"model\.safetensors: 'x' holds NaN or infinite"):
                entry.count_nonzero()


def test_padding_beyond_the_embedding_is_doctors_business(folder: Path) -> None:
    """Text does not give it, so a model whose own vocabulary fits runs."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, "w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="<pad>").save_pretrained(folder)
    check_folder(folder)
    found = {check.name: check for check in examine(folder, device="cpu")}
    assert found["tokenizer"].outcome == "failed" and "'<pad>' the id 97" in found["tokenizer"].reason

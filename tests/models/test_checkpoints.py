"""Model folders: what is refused, with which words, and what is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import llm_pruner
from llm_pruner.models.architecture import check_finite, planned_architecture, read_architecture
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader
from llm_pruner.models.headers import read_headers
from llm_pruner.models.prepare import prepare_model
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import CheckpointError, PlanError
from tests.tiny.models import build_model


@pytest.fixture
def folder(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_model("llama"), tmp_path / "model"))


def prepare(source: Path, output: Path, **options):
    return prepare_model(str(source), output / "base", output / "base.json", **options)


def test_truncated_file_is_named_with_its_size(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.raises(
        CheckpointError, match=rf"model\.safetensors: truncated, {len(content) - 100:,} of {len(content):,}"
    ):
        llm_pruner.load(folder)


def test_file_cut_off_in_its_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:50])
    with pytest.raises(CheckpointError, match="truncated in its header"):
        read_architecture(folder)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        read_architecture(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pickled weights \(pytorch_model\.bin\), .* convert them"):
        llm_pruner.load(folder)


def test_unsupported_family_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    )
    with pytest.raises(
        CheckpointError, match=r"'gpt2' \(GPT2LMHeadModel\) is not supported.*llama, mistral, qwen2, qwen3"
    ):
        prepare(folder, tmp_path)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(dtype: torch.dtype, value: float, tmp_path: Path) -> None:
    model = build_model("qwen2").to(dtype)
    model.save_pretrained(tmp_path / "good")
    check_finite(tmp_path / "good")
    model.model.layers[2].self_attn.k_proj.weight.data[3, 3] = value
    model.save_pretrained(tmp_path / "bad")
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\.self_attn\.k_proj\.weight' holds NaN or infinite"):
        prepare(tmp_path / "bad", tmp_path)


def test_prepared_model_costs_no_disk(folder: Path, tmp_path: Path) -> None:
    record = prepare(folder, tmp_path)
    assert (tmp_path / "base" / "model.safetensors").resolve() == folder / "model.safetensors"
    assert record.family == "llama"
    assert record.parameters == sum(p.numel() for p in llm_pruner.load(folder).parameters())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_with_its_model_inside_may_be_moved(
    elsewhere: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its results lie on another disk, behind a link."""
    run = tmp_path / "run"
    (run / "resources").mkdir(parents=True)
    folder.rename(run / "resources" / "model")
    if elsewhere:
        (tmp_path / "deep" / "disk").mkdir(parents=True)
        (run / "baselines").symlink_to(tmp_path / "deep" / "disk")
    monkeypatch.chdir(run)
    prepare(Path("resources/model"), Path("baselines/Dense"))
    check_finite("baselines/Dense/base")
    if not elsewhere:
        monkeypatch.chdir(tmp_path)
        run.rename(tmp_path / "moved")
        check_finite(tmp_path / "moved" / "baselines" / "Dense" / "base")


def test_prepared_in_another_dtype(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path, dtype="bfloat16")
    assert {entry.dtype for entry in read_architecture(tmp_path / "base").tensors.values()} == {"BF16"}
    model = llm_pruner.load(tmp_path / "base")
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.lm_head.weight, llm_pruner.load(folder).lm_head.weight.bfloat16())


def test_shards_are_written_and_read(folder: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    weights = WeightReader(folder)
    with CheckpointWriter(sharded, max_shard_bytes=20_000) as writer:
        for name in weights.names():
            writer.add(name, weights.tensor(name))
    shutil.copy(folder / "config.json", sharded)
    files = sorted(path.name for path in sharded.glob("*.safetensors"))
    assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    ours, theirs = llm_pruner.load(sharded).state_dict(), llm_pruner.load(folder).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    (sharded / files[0]).unlink()
    with pytest.raises(CheckpointError, match=rf"the index names {files[0]}, but the file is missing"):
        read_architecture(sharded)


def test_widths_of_all_kinds_lie_side_by_side(tmp_path: Path) -> None:
    """Read by the format's own library; the order of writing would leave wide types unaligned."""
    tensors = {
        "flags": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "half": torch.arange(5, dtype=torch.bfloat16),
        "nothing": torch.empty(0, 4),
        "across": torch.arange(12.0).view(3, 4).T,
        "packed": torch.arange(7, dtype=torch.uint8),
    }
    with CheckpointWriter(tmp_path) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    for entry in read_headers(tmp_path).values():
        assert entry.begin % tensors[entry.name].element_size() == 0


def test_interrupted_surgery_leaves_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    architecture = read_architecture(folder)
    cut(folder, Plan.keep_layers(architecture, [0, 1]), output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr("llm_pruner.surgery.cut.write_config", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        cut(folder, Plan.keep_layers(architecture, [2, 3]), output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_tokenizer_travels_with_the_model(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"old weights")
    cut(folder, Plan.keep_everything(read_architecture(folder)), tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_planned_architecture_is_that_of_the_checkpoint(family: str, make_model: Callable[..., Path]) -> None:
    real = read_architecture(make_model(family))
    planned = planned_architecture(real.config)
    for name, tensor in planned.tensors.items():
        assert tensor.shape == real.tensors[name].shape
    assert all(
        "bias" in name or "q_norm" in name or "k_norm" in name for name in set(real.tensors) - set(planned.tensors)
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((LayerPlan(0, (), ()),), "layer 0 would keep nothing; leave the layer out"),
        ((LayerPlan(0, (0,), (24,)),), "layer 0: kept MLP channels must be ascending and within 0 … 23"),
        ((LayerPlan(4, (0,), (0,)),), "layer 4 is not one of the model's 4"),
        ((), "leaves no layer"),
    ],
)
def test_plans_that_do_not_fit(layers: tuple[LayerPlan, ...], message: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=message):
        cut(folder, Plan(4, layers), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_plan_round_trip(tmp_path: Path) -> None:
    plan = Plan(4, (LayerPlan(0, (0, 2), (1, 5)), LayerPlan(3, (1,), (0,))))
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan
    assert plan.removed_layers == (1, 2)
    assert len((tmp_path / "plan.json").read_text().splitlines()) == 8
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(PlanError, match=r"plan\.json: not a pruning plan"):
        Plan.read(tmp_path / "plan.json")

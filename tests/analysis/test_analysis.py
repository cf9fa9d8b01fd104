"""Analysis of checkpoints: every number against one worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llm_pruner.analysis.comparison import compare, describe_layers, write_analysis
from llm_pruner.analysis.records import MLPSizes, ModelParameters, Quantity, StructureSummary
from llm_pruner.analysis.structure import analyze_model, list_tensors
from llm_pruner.analysis.summary import describe_structures, summarize_structures, write_summary
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.report.figures import FIGURES
from llm_pruner.system.errors import CheckpointError, DataError, PlanError
from llm_pruner.system.records import Pair

HIDDEN, HEAD_DIM, VOCABULARY = 8, 2, 10


def block(position: int, groups: int, channels: int) -> dict[str, np.ndarray]:
    """A decoder layer of ones with two query heads per key-value group."""
    prefix, rows = f"model.layers.{position}.", groups * HEAD_DIM
    shapes = {
        "self_attn.q_proj": (2 * rows, HIDDEN),
        "self_attn.k_proj": (rows, HIDDEN),
        "self_attn.v_proj": (rows, HIDDEN),
        "self_attn.o_proj": (HIDDEN, 2 * rows),
        "mlp.gate_proj": (channels, HIDDEN),
        "mlp.up_proj": (channels, HIDDEN),
        "mlp.down_proj": (HIDDEN, channels),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    return {f"{prefix}{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items()}


def tensors_of(widths: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    tensors = {
        "model.embed_tokens.weight": np.ones((VOCABULARY, HIDDEN), np.float32),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    for position, (groups, channels) in enumerate(widths):
        tensors |= block(position, groups, channels)
    return tensors


def write_config(folder: Path, widths: list[tuple[int, int]]) -> None:
    config = {
        "model_type": "llama",
        "num_hidden_layers": len(widths),
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "head_dim": HEAD_DIM,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 6,
        "tie_word_embeddings": True,
        "per_layer_config": {
            str(index): {
                "num_attention_heads": 2 * groups,
                "num_key_value_heads": groups,
                "intermediate_size": channels,
            }
            for index, (groups, channels) in enumerate(widths)
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def write_model(folder: Path, widths: list[tuple[int, int]], tensors: dict[str, np.ndarray] | None = None) -> Path:
    write_config(folder, widths)
    save_file(tensors or tensors_of(widths), folder / "model.safetensors")
    return folder


# One layer of 2 groups and 6 channels: q 8x8, k and v 4x8, o 8x8 = 192; 3 x 6x8 = 144; two norms = 16.
ATTENTION, MLP, NORMS = 192, 144, 16
LAYER = ATTENTION + MLP + NORMS
OUTSIDE = VOCABULARY * HIDDEN + HIDDEN
DENSE = [(2, 6), (2, 6), (2, 6)]


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return write_model(tmp_path / "Dense" / "model", DENSE)


def test_a_dense_model_is_counted_by_layer_and_part(dense: Path) -> None:
    analysis = analyze_model(dense, "Dense")
    totals = analysis.totals
    assert totals.parameters == totals.nonzero == OUTSIDE + 3 * LAYER == 1144
    assert totals.sparsity == 0
    assert totals.bytes_on_disk == (dense / "model.safetensors").stat().st_size
    assert {part: sizes.parameters for part, sizes in totals.parts.items()} == {
        "embedding": 80,
        "attention": 3 * ATTENTION,
        "mlp": 3 * MLP,
        "shortcut": 0,
        "norm": 3 * NORMS + HIDDEN,
        "lm_head": 0,
        "other": 0,
    }
    assert analysis.layers[1].to_dict() == {
        "layer_idx": 1,
        "position": 1,
        "attention": {"parameters": 192, "nonzero": 192, "heads": 4, "key_value_groups": 2, "head_dim": 2},
        "mlp": {"parameters": 144, "nonzero": 144, "channels": 6},
        "parameters": 352,
        "nonzero": 352,
        "sparsity": 0.0,
    }


def test_zeros_are_counted_in_bfloat16_with_negative_zero_and_across_shards(tmp_path: Path) -> None:
    write_config(tmp_path, [(2, 6)])
    tensors = tensors_of([(2, 6)])
    tensors["model.layers.0.mlp.up_proj.weight"][0, :3] = [0.0, -0.0, 1e-30]
    first = {name: tensor for name, tensor in tensors.items() if "mlp" not in name}
    save_file(first, tmp_path / "model-00001-of-00002.safetensors")
    write_bfloat16({name: tensor for name, tensor in tensors.items() if "mlp" in name}, tmp_path)
    index = {name: f"model-0000{1 if name in first else 2}-of-00002.safetensors" for name in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    analysis = analyze_model(tmp_path, "sharded")
    assert analysis.totals.parameters == OUTSIDE + LAYER
    assert analysis.totals.nonzero == OUTSIDE + LAYER - 2
    assert analysis.layers[0].mlp == MLPSizes(parameters=144, nonzero=142, channels=6)
    assert analysis.layers[0].sparsity == pytest.approx(2 / LAYER)
    assert {t.dtype for t in list_tensors(tmp_path) if t.component == "mlp"} == {"BF16"}


def write_bfloat16(tensors: dict[str, np.ndarray], folder: Path) -> None:
    """A safetensors shard by hand: bfloat16 is the upper half of a float32, and numpy has no name for it."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_removed_layers_stand_at_their_original_place(tmp_path: Path, dense: Path) -> None:
    plan = Plan(3, (LayerPlan(0, (0, 1), tuple(range(6))), LayerPlan(2, (0,), (0, 1, 2))))
    model = write_model(tmp_path / "pruned", [(2, 6), (1, 3)])
    pruned = analyze_model(model, "pruned", plan)
    assert [layer.position for layer in pruned.layers] == [0, None, 1]
    assert pruned.layers[1].parameters == 0
    assert pruned.layers[1].attention.heads == pruned.layers[1].mlp.channels == 0

    comparison = compare(analyze_model(dense, "Dense"), pruned)
    whole, gone, narrow = comparison.layers
    assert (whole.reduction_ratio, gone.reduction_ratio) == (0.0, 1.0)
    assert [layer.is_zero_layer for layer in comparison.layers] == [False, True, False]
    assert narrow.attention.reduction_ratio == narrow.mlp.reduction_ratio == 0.5
    assert narrow.reduction_ratio == pytest.approx(168 / LAYER)
    assert narrow.attention.heads == Pair(before=4, after=2)
    assert narrow.attention.key_value_groups == Pair(before=2, after=1)
    assert narrow.mlp.channels == Pair(before=6, after=3)
    assert comparison.num_layers == Pair(before=3, after=2)
    assert comparison.totals.parameters == Quantity(before=1144, after=624, reduction_ratio=520 / 1144)


def test_a_sparse_model_is_not_smaller_but_its_zeros_are_told(tmp_path: Path, dense: Path) -> None:
    tensors = tensors_of(DENSE)
    for name, tensor in tensors.items():
        if name.startswith("model.layers.0") and name.endswith("_proj.weight"):
            tensor[:] = 0
        elif name.startswith("model.layers.1.mlp"):
            tensor[:, ::2] = 0
    model = write_model(tmp_path / "sparse", DENSE, tensors)
    comparison = compare(analyze_model(dense, "Dense"), analyze_model(model, "sparse"))
    emptied, halved, untouched = comparison.layers
    assert [layer.reduction_ratio for layer in comparison.layers] == [0, 0, 0]
    assert [layer.is_zero_layer for layer in comparison.layers] == [True, False, False]
    assert halved.mlp.sparsity == Pair(before=0.0, after=0.5)
    assert halved.mlp.nonzero_reduction_ratio == 0.5
    assert emptied.nonzero == Pair(before=LAYER, after=NORMS)
    assert untouched.nonzero_reduction_ratio == 0
    assert comparison.totals.parameters.reduction_ratio == 0
    assert comparison.totals.nonzero.after == 1144 - 336 - 72
    assert "all zero" in describe_layers(comparison)


def test_five_files_are_written_and_the_base_is_counted_once(tmp_path: Path, dense: Path) -> None:
    plan = Plan(3, (LayerPlan(0, (0, 1), tuple(range(6))), LayerPlan(2, (0, 1), tuple(range(6)))))
    plan.write(tmp_path / "plan.json")
    model = write_model(tmp_path / "ShortGPT_remove_1" / "model", [(2, 6)] * 2)
    output = model.parent / "analysis"
    original = analyze_model(dense, "Dense")
    expected = write_analysis(dense, model, tmp_path / "plan.json", output, "ShortGPT_remove_1")
    assert {path.name for path in output.iterdir()} == {
        "model_structure.json",
        "model_comparison.json",
        "original_model_analysis.json",
        "pruned_model_analysis.json",
        "pruning_summary_by_layer.txt",
    }
    read = {path.name: json.loads(path.read_text()) for path in output.glob("*.json")}
    assert read["original_model_analysis.json"] == original.to_dict()
    assert read["model_comparison.json"] == expected.to_dict()
    tensors = {tensor["name"]: tensor for tensor in read["model_structure.json"]["tensors"]}
    assert tensors["model.layers.1.mlp.down_proj.weight"] == {
        "name": "model.layers.1.mlp.down_proj.weight",
        "shape": [8, 6],
        "dtype": "F32",
        "parameters": 48,
        "component": "mlp",
        "layer": 1,
        "layer_idx": 2,
    }
    assert next(iter(tensors)) == "model.embed_tokens.weight" and list(tensors)[-1] == "model.norm.weight"
    text = (output / "pruning_summary_by_layer.txt").read_text()
    assert "3 → 2 layers, 1,144 → 792 parameters (30.77 % removed)" in text
    assert [line.split()[-1] for line in text.splitlines() if line.lstrip().startswith("1 ")] == ["gone"]

    # With the base's analysis at hand its weights need not be there.
    again = write_analysis(
        tmp_path / "nowhere", model, tmp_path / "plan.json", output, "ShortGPT_remove_1", original=original
    )
    assert again == expected


def test_a_plan_of_another_model_is_refused(dense: Path) -> None:
    with pytest.raises(PlanError, match="keeps 1 layers, the checkpoint holds 3"):
        analyze_model(dense, "Dense", Plan(3, (LayerPlan(0, (0,), (0,)),)))


def test_weights_beyond_the_configured_layers_are_refused(tmp_path: Path) -> None:
    write_config(tmp_path, DENSE[:2])
    save_file(tensors_of(DENSE), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.2.*config\.json does not describe"):
        analyze_model(tmp_path, "broken")


def test_the_summary_lists_models_statistics_and_what_is_missing(tmp_path: Path, dense: Path) -> None:
    write_analysis(dense, dense, None, tmp_path / "Dense" / "analysis", "Dense")
    (tmp_path / "plan.json").write_text(
        json.dumps({"base": {"num_layers": 3}, "layers": [{"index": 2, "groups": [0, 1], "channels": list(range(6))}]})
    )
    model = write_model(tmp_path / "ShortGPT_remove_2" / "model", [(2, 6)])
    write_analysis(dense, model, tmp_path / "plan.json", model.parent / "analysis", "ShortGPT_remove_2")
    folders = [tmp_path / name for name in ("Dense", "ShortGPT_remove_2", "Wanda_2000")]
    summary = write_summary(folders, tmp_path / "results")
    assert StructureSummary.read(tmp_path / "results" / "models_structure_summary.json") == summary
    assert summary.total_models == 2 and summary.missing == ("Wanda_2000",)
    pruned = summary.models[1]
    assert pruned.params == ModelParameters(total=440, before=1144, nonzero=440, num_layers=1)
    assert pruned.pruning.reduction_ratio == 704 / 1144
    assert [(layer.layer_idx, layer.is_zero) for layer in pruned.layer_pruning] == [
        (0, True),
        (1, True),
        (2, False),
    ]
    assert summary.statistics["mean"].params_total == 792
    lines = [line.split() for line in (tmp_path / "results" / "models_structure_summary.txt").read_text().splitlines()]
    assert ["Dense", "1,144", "0.00", "1,144", "3", "0"] in lines
    assert ["ShortGPT_remove_2", "440", "61.54", "440", "1", "2"] in lines
    assert ["minimum", "440", "0.00", "440"] in lines
    assert ["mean", "792", "30.77", "792"] in lines


def test_no_models_make_an_empty_summary(tmp_path: Path) -> None:
    summary = summarize_structures([tmp_path / "Dense"])
    assert summary.models == () and summary.statistics == {}
    assert "0 models" in describe_structures(summary)


@pytest.mark.parametrize("content", ['{"totals": ', '{"totals": {}}', "[]"])
def test_a_damaged_analysis_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "Wanda_2000" / "analysis" / "model_comparison.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(DataError, match=r"Wanda_2000/analysis/model_comparison\.json"):
        summarize_structures([tmp_path / "Wanda_2000"])


def test_neither_analysis_nor_report_imports_torch() -> None:
    modules = [f"llm_pruner.analysis.{name}" for name in ("structure", "comparison", "summary")]
    modules += [f"llm_pruner.report.{name}" for name in ("style", "table", "workbook")]
    modules += [figure.module for figure in FIGURES.values()]
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

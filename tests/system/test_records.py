"""Every record of the package: written whole, read as it was, and what is damaged is told with its file and its key."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_pruner.analysis.records import ModelComparison, ModelStructure, StructureSummary, TensorList
from llm_pruner.data.builtin.task_files import TaskFiles
from llm_pruner.encoders.records.classifier import ClassifierRecord
from llm_pruner.encoders.records.report import FinalReport
from llm_pruner.evaluation.records.continuations import Continuations
from llm_pruner.evaluation.records.efficiency import EfficiencyResult
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.evaluation.records.zero_shot import ZeroShotResult
from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.mechanisms.sparse.records import MeasuresFile
from llm_pruner.mechanisms.width.records import GroupScoresFile
from llm_pruner.mechanisms.width.split import SplitSearch, SplitTrials
from llm_pruner.models.records import BaseRecord
from llm_pruner.steps.records import HealingFile, StepFile
from llm_pruner.system.errors import DataError
from llm_pruner.system.records import Record
from llm_pruner.training.records import BuiltinTraining
from llm_pruner.variants.records import PruningRecord

RUN = {
    "started": "2026-11-24T10:00:00+00:00",
    "seconds": 12.5,
    "seed": 0,
    "device": None,
    "machine": {"system": "Linux-6.8", "processor": "x86_64", "cores": 2},
    "options": {"samples": 16},
    "versions": {"python": "3.12.3", "torch": "2.13.0"},
}
SIZES = {"parameters": 120, "nonzero": 60}
BLOCK = {
    "parameters": {"before": 120, "after": 120},
    "nonzero": {"before": 120, "after": 60},
    "sparsity": {"before": 0.0, "after": 0.5},
    "reduction_ratio": 0.0,
    "nonzero_reduction_ratio": 0.5,
}
WINDOWS = {"window": 256, "stride": 256, "windows": 2, "tokens": 510}
SCORES = {"id": "GQA", "method": "GQA", "mechanism": "width", "options": {"taylor": "first"}}
TRIAL = {"attention_share": 20, "split": "20:80", "reached_share": 19.5, "perplexity": 31.5, "measured": True}
REACHED = {"parameters": 0.48, "heads": 0.5, "neurons": 0.5}
POINT = {"step": 4, "accuracy": 0.75, "f1": 0.7, "loss": 0.5}
TRAINED = {
    "seed": 3,
    "task": {"name": "reviews", "classes": ["bad", "good"]},
    "validation": {**POINT, "sparsity": 0.48},
    "bytes_on_disk": 12_000,
    "history": {
        "steps": 4,
        "train": [0.9, 0.8, 0.7, 0.6],
        "points": [{**POINT, "step": 0, "sparsity": 0.0}, {**POINT, "sparsity": 0.48}],
        "best": {**POINT, "sparsity": 0.48},
        "stopped_early": False,
    },
}
MEASURED = {"accuracy": 0.75, "f1": 0.7, "bytes_on_disk": 12_000, "memory_bytes": 11_000, "parameters": 2_900}
TIMES = {"latency_ms": 0.5, "batch_ms": 2.5}

EXAMPLES: list[tuple[type[Record], dict[str, Any]]] = [
    (
        BaseRecord,
        {
            "source": "base.gguf",
            "revision": None,
            "family": "llama",
            "parameters": 134_515_008,
            "layers": 30,
            "gguf": {"file_type": "F16"},
            "run": RUN,
        },
    ),
    (TaskFiles, {"items": 400, "seed": 0, "files": {"builtin_word": "ab12"}}),
    (
        BuiltinTraining,
        {
            "parameters": 1_000,
            "tokens": {"train": 900, "validation": 100, "seen": 1_800},
            "validation": {"loss": 3.2, "perplexity": 24.5, "bits_per_byte": 1.6},
            "history": {"train": [5.0, 3.5], "validation": [{"step": 0, "loss": 5.5}, {"step": 2, "loss": 3.2}]},
            "run": RUN,
        },
    ),
    (
        ScoresFile,
        {**SCORES, "layers": [], "run": RUN, "made_from": {"model": {"a.safetensors": [10, 99]}, "tokens": None}},
    ),
    (GroupScoresFile, {**SCORES, "layers": [{"index": 0, "attention": [0.5, 1.5], "mlp": [0.1, 0.2]}], "run": RUN}),
    (
        LayerScoresFile,
        {
            **SCORES,
            "mechanism": "depth",
            "layers": [{"index": 0, "score": 0.25, "angle": 0.1}],
            "layer_evaluations": {"run": 4.0, "naive": 16},
            "run": RUN,
        },
    ),
    (MeasuresFile, {**SCORES, "mechanism": "sparse", "layers": [{"index": 0, "score": 2.5}], "run": RUN}),
    (SplitTrials, {"search": "ab12", "trials": [TRIAL, {**TRIAL, "attention_share": None, "split": None}]}),
    (
        SplitSearch,
        {
            "variant": "GQA_2000",
            "best": TRIAL,
            "trials": [TRIAL],
            "stopped_early": True,
            "plans_measured": 1,
            "held_out": {"samples": 8, "length": 128},
            "run": RUN,
        },
    ),
    (
        PruningRecord,
        {
            "variant": "Wanda_2of4+nf4",
            "method": "Wanda",
            "mechanism": "sparse",
            "structure": "2:4",
            "parent": "Wanda_2of4",
            "asked": {"amount": 0.5, "of": "weights"},
            "reached": {"amount": 0.5, "of": "weights"},
            "options": {"samples": 16},
            "notes": [],
            "scores": [],
            "seconds": {"scoring": 0.0, "pruning": 1.5, "total": 2.0, "steps": 0.5},
            "run": RUN,
            "layers": [{"index": 0, "asked": 0.5, "reached": 0.5}],
            "steps": [{"name": "nf4", "options": {}, "bytes": {"before": 240, "after": 80}, "run": RUN, "more": 1}],
        },
    ),
    (
        StepFile,
        {
            "variant": "Wanda_2of4+nf4",
            "name": "nf4",
            "options": {"double_quant": False},
            "run": RUN,
            "bytes": {"before": 240, "after": 80},
        },
    ),
    (
        HealingFile,
        {
            "variant": "GQA_2000+lora",
            "name": "lora",
            "options": {"rank": 4},
            "run": RUN,
            "trainable_parameters": 64,
            "history": {
                "train": [3.5, 3.25],
                "held_out": [
                    {"step": 0, "loss": 3.5, "perplexity": 33.1},
                    {"step": 2, "loss": 3.25, "perplexity": 25.8},
                ],
            },
            "perplexity": {"before": 33.1, "after": 25.8},
            "zeros": None,
        },
    ),
    (
        PerplexityResult,
        {
            "model": "GQA_2000",
            "dataset": "builtin",
            "split": None,
            **WINDOWS,
            "nll": 3.0,
            "perplexity": 20.1,
            "window_nll": [2.5, 3.5],
            "bits_per_byte": 1.1,
            "divergence": {
                "mean_kl": 0.5,
                "mean_kl_stderr": 0.05,
                "median_kl": 0.25,
                "p99_kl": 2.5,
                "same_top": 0.5,
                "same_top_stderr": None,
                "top": 1024,
                "window_kl": [0.25, 0.75],
                "reference": {
                    "weights": "ab12",
                    "tokens": "cd34",
                    "window": 256,
                    "stride": 256,
                    "max_windows": None,
                    "vocabulary": 49_152,
                },
            },
            "run": RUN,
        },
    ),
    (
        ZeroShotResult,
        {
            "model": "GQA_2000",
            "tasks": {
                "boolq": {
                    "acc": 0.5,
                    "acc_stderr": 0.05,
                    "acc_norm": None,
                    "acc_norm_stderr": None,
                    "perplexity": None,
                    "perplexity_stderr": None,
                    "items": 100,
                    "num_fewshot": 0,
                }
            },
            "mean": {"acc": 0.5, "acc_stderr": 0.05, "acc_norm": 0.5},
            "run": RUN,
        },
    ),
    (
        Continuations,
        {
            "model": "GQA_2000",
            "new_tokens": 8,
            "continuations": [{"prompt": "Once upon – a", "text": " time\n„so“ it"}],
            "run": RUN,
        },
    ),
    (
        EfficiencyResult,
        {
            "model": "GQA_2000",
            "load_seconds": 0.5,
            "bytes_on_disk": 240,
            "peak_memory_bytes": 480,
            "device": "cpu",
            "threads": 1,
            "prompt_length": 32,
            "new_tokens": 8,
            "batches": [
                {
                    "batch_size": 4,
                    "prefill_seconds": 0.01,
                    "prefill_seconds_median": 0.011,
                    "prefill_tokens_per_second": 12_800.0,
                    "decode_seconds_per_token": 0.002,
                    "decode_tokens_per_second": 2_000.0,
                }
            ],
            "run": RUN,
        },
    ),
    (
        ModelStructure,
        {
            "name": "Wanda_2of4",
            "model_type": "llama",
            "hidden_size": 8,
            "num_layers": 1,
            "totals": {**SIZES, "sparsity": 0.5, "bytes_on_disk": 240, "parts": {"mlp": SIZES}},
            "layers": [
                {
                    **SIZES,
                    "layer_idx": 0,
                    "position": None,
                    "attention": {**SIZES, "heads": 2, "key_value_groups": 1, "head_dim": 4},
                    "mlp": {**SIZES, "channels": 16},
                    "shortcut": SIZES,
                    "sparsity": 0.5,
                }
            ],
        },
    ),
    (
        TensorList,
        {
            "name": "Dense",
            "tensors": [
                {
                    "name": "model.norm.weight",
                    "shape": [8],
                    "dtype": "F32",
                    "parameters": 8,
                    "component": "norm",
                    "layer": None,
                    "layer_idx": None,
                }
            ],
        },
    ),
    (
        ModelComparison,
        {
            "base": "Dense",
            "model": "Wanda_2of4",
            "num_layers": {"before": 1, "after": 1},
            "totals": {
                "parameters": {"before": 120, "after": 120, "reduction_ratio": 0.0},
                "nonzero": {"before": 120, "after": 60, "reduction_ratio": 0.5},
                "bytes_on_disk": {"before": 240, "after": 240, "reduction_ratio": 0.0},
                "sparsity": {"before": 0.0, "after": 0.5},
            },
            "parts": {"mlp": BLOCK},
            "layers": [
                {
                    **BLOCK,
                    "layer_idx": 0,
                    "position": 0,
                    "is_zero_layer": False,
                    "attention": {
                        **BLOCK,
                        "heads": {"before": 2, "after": 2},
                        "key_value_groups": {"before": 1, "after": 1},
                    },
                    "mlp": {**BLOCK, "channels": {"before": 16, "after": 16}},
                    "shortcut": {"before": 0, "after": 0},
                }
            ],
        },
    ),
    (
        StructureSummary,
        {
            "timestamp": "2026-11-24T10:00:00+00:00",
            "total_models": 1,
            "missing": ["Dense"],
            "statistics": {"mean": {"params_total": 120.0, "params_nonzero": 60.0, "reduction_ratio": 0.0}},
            "models": [
                {
                    "name": "Wanda_2of4",
                    "params": {"total": 120, "before": 120, "nonzero": 60, "num_layers": 1},
                    "pruning": {"reduction_ratio": 0.0, "nonzero_reduction_ratio": 0.5},
                    "layer_pruning": [
                        {
                            "layer_idx": 0,
                            "reduction_ratio": 0.0,
                            "nonzero_reduction_ratio": 0.5,
                            "is_zero": False,
                        }
                    ],
                }
            ],
            "damaged": {"Copy": "no such file"},
        },
    ),
    (
        ClassifierRecord,
        {
            "name": "Teacher",
            "kind": "Teacher",
            **TRAINED,
            "validation": POINT,
            "history": {**TRAINED["history"], "points": [POINT], "best": POINT},
            "run": RUN,
        },
    ),
    (
        ClassifierRecord,
        {
            "name": "MSP",
            "kind": "Pruned",
            **TRAINED,
            "reached": REACHED,
            "layers": [{"heads": [1, 2], "neurons": [8, 16]}],
            "run": RUN,
        },
    ),
    (
        ClassifierRecord,
        {
            "name": "MSP+nf4",
            "kind": "PTQ",
            "seed": None,
            "bytes_on_disk": 8_000,
            "reached": REACHED,
            "bits": {"distilbert.transformer.layer.0.ffn.lin1": 8},
            "run": RUN,
        },
    ),
    (
        ClassifierRecord,
        {"name": "MSP+qkd", "kind": "QKD", **TRAINED, "reached": REACHED, "bits": {"ffn.lin1": 4}, "run": RUN},
    ),
    (
        FinalReport,
        {
            "task": {"name": "reviews", "classes": ["bad", "good"], "test_examples": 25},
            "standard_error": 0.1,
            "batch_size": 32,
            "threads": 1,
            "names": [
                {
                    "name": "MSP",
                    "kind": "Pruned",
                    "seeds": [3],
                    "reached": REACHED,
                    "mean": {**{key: float(value) for key, value in MEASURED.items()}, **TIMES},
                    "spread": dict.fromkeys([*MEASURED, *TIMES]),
                }
            ],
            "runs": [
                {
                    "name": "MSP",
                    "kind": "Pruned",
                    "seed": 3,
                    "folder": "encoders/MSP/seed_3",
                    **MEASURED,
                    "loss": 0.5,
                    "validation": None,
                    **TIMES,
                    "reached": None,
                    "training_seconds": 12.5,
                }
            ],
            "problems": [{"run": "encoders/MSP/seed_0", "problem": "no config.json there"}],
            "run": RUN,
        },
    ),
]
"""Files of every record as they lie on disk, with what may be missing somewhere among them."""

named = pytest.mark.parametrize(
    ("record", "held"), EXAMPLES, ids=[f"{record.__name__}-{index}" for index, (record, _) in enumerate(EXAMPLES)]
)


def test_every_record_has_an_example_and_a_file(pages: ModuleType) -> None:
    found = pages.every_record()
    assert {record for record, _ in EXAMPLES} == found, "add an example of the new record to EXAMPLES"
    for record in found:
        assert record.file.endswith(".json"), record


@named
def test_a_file_is_read_as_it_is_and_written_as_it_was(
    record: type[Record], held: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "by_hand.json").write_text(json.dumps(held))
    read = record.read(tmp_path / "by_hand.json")
    read.write(tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text()) == held
    again = record.read(tmp_path / "one.json")
    assert again == read
    again.write(tmp_path / "two.json")
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    with pytest.raises(ValueError, match="frozen"):
        setattr(read, next(iter(record.model_fields)), None)


def refused(record: type[Record], text: str, folder: Path) -> str:
    """What is said of a file of this content, which names the file."""
    file = folder / "damaged.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        record.read(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and "delete it and run again" in message
    return message


@named
def test_a_file_that_is_cut_off_or_no_object_is_named(
    record: type[Record], held: dict[str, Any], tmp_path: Path
) -> None:
    whole = json.dumps(held)
    assert "not valid JSON" in refused(record, whole[: len(whole) // 2], tmp_path)
    for other in ("[]", "3", "null", '"text"'):
        message = refused(record, other, tmp_path)
        assert "1 problem" in message and "keys and values" in message


@named
def test_a_key_that_is_missing_is_named(record: type[Record], held: dict[str, Any], tmp_path: Path) -> None:
    required = [name for name, field in record.model_fields.items() if field.is_required()]
    assert required
    for name in required:
        rest = {key: value for key, value in held.items() if key != name}
        message = refused(record, json.dumps(rest), tmp_path)
        assert message.splitlines()[1:] == [f"  - {name}: missing"]


@named
def test_a_key_that_is_foreign_is_named(record: type[Record], held: dict[str, Any], tmp_path: Path) -> None:
    if record.model_config["extra"] == "allow":  # a step tells what it likes; the rest is looked at
        held = {**held, "run": {**held["run"], "foreign": 1}}
        expected = "run.foreign: unknown key"
    else:
        held, expected = {**held, "foreign": 1}, "foreign: unknown key"
    (told,) = refused(record, json.dumps(held), tmp_path).splitlines()[1:]
    assert told.startswith(f"  - {expected}")


@named
def test_a_value_of_another_type_is_named(record: type[Record], held: dict[str, Any], tmp_path: Path) -> None:
    for name in held.keys() & record.model_fields.keys():
        message = refused(record, json.dumps({**held, name: [[]]}), tmp_path)
        assert all(line.startswith(f"  - {name}") for line in message.splitlines()[1:])


@pytest.mark.parametrize(
    ("kind", "lacking"), [("Teacher", "history"), ("Pruned", "layers"), ("PTQ", "bits"), ("QKD", "validation")]
)
def test_a_classifier_tells_what_its_kind_does(kind: str, lacking: str, tmp_path: Path) -> None:
    (held,) = (held for record, held in EXAMPLES if record is ClassifierRecord and held["kind"] == kind)
    rest = {key: value for key, value in held.items() if key != lacking}
    message = refused(ClassifierRecord, json.dumps(rest), tmp_path)
    assert message.splitlines()[1:] == [f"  - {lacking}: missing, and every record of kind {kind} has it"]

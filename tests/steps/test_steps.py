"""Steps as a registry: what every step owes, and what the records say of those a model went through."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from llm_pruner.mechanisms.job import Outcome
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import Need, Step, StepInputs, StepOutcome, step_class
from llm_pruner.steps.records import StepRecord
from llm_pruner.system.errors import ConfigError, DataError
from llm_pruner.system.files import read_json
from llm_pruner.system.options import Options
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import ON_CPU
from llm_pruner.variants.grammar import GRAMMAR, derive, resolve
from llm_pruner.variants.make import pruning_record
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.step import take_step
from llm_pruner.variants.variant import StepSpec, Variant
from llm_pruner.workflow.config import Config, load_config

FEW: dict[str, Any] = {"steps": 2, "batch_size": 2, "checks": 2}


class CountOptions(Options):
    note: str = "none"


class CountFiles(Step):
    """Looks at what it is given, and makes an empty folder."""

    title = "Counted files"
    Options = CountOptions
    needs = ("base", "calibration")
    options: CountOptions

    def apply(self, inputs: StepInputs, output: Path) -> StepOutcome:
        output.mkdir(parents=True)
        assert not inputs.sparse and inputs.runtime.device == "cpu" and inputs.name == "GQA_2000+count"
        return StepOutcome({"files": len(inputs.files)}, {"given": sorted(inputs.files), "note": self.options.note})

    def describe(self, taken: StepRecord) -> str:
        return f"{taken.model_extra} files"


def counted(note: str = "none") -> Variant:
    spec = StepSpec("count", f"{__name__}:CountFiles", {"note": note})
    return replace(resolve("GQA_2000"), name="GQA_2000+count", parent="GQA_2000", step=spec)


def record_of(name: str, **more: Any) -> PruningRecord:
    made = pruning_record(resolve("GQA_2000"), Outcome(0.2), Run({}), 1.0)
    seconds = {"scoring": 1.0, "pruning": 2.0, "total": 3.0}
    return PruningRecord.of({**made.to_dict(), "variant": name, "seconds": seconds, **more}, "pruning.json")


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_in_the_configuration_and_the_grammar(name: str) -> None:
    cls = step_class(STEPS[name])
    assert set(cls.needs) <= set(get_args(Need)) and issubclass(cls.Options, BaseModel)
    assert all(field.description for field in cls.Options.model_fields.values())
    steps = Config.model_fields["steps"].annotation
    assert steps is not None and steps.model_fields[name].annotation is cls.Options
    assert f"+{name}" in GRAMMAR
    _, variants = load_config({"variants": [f"Dense+{name}"]})
    step = variants[f"Dense+{name}"].step
    assert step == StepSpec(name, STEPS[name], cls.Options().model_dump(mode="json"))


def test_steps_are_named_without_their_libraries() -> None:
    code = (
        "import sys\n"
        "from llm_pruner.steps import STEPS\n"
        "from llm_pruner.steps.base import step_class\n"
        "assert [step_class(implementation).title for implementation in STEPS.values()]\n"
        "assert not {'torch', 'transformers', 'peft', 'bitsandbytes', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_follows_what_is_terminal() -> None:
    with pytest.raises(ConfigError, match=r"nothing can follow \+nf4; put \+nf4 last"):
        derive(derive(resolve("Dense"), "nf4"), "lora")
    assert derive(derive(resolve("Dense"), "kd"), "lora").name == "Dense+kd+lora"


def test_a_step_is_given_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    files: dict[Need, Path] = {need: tmp_path / need for need in get_args(Need)}
    record = take_step(counted("five"), tmp_path, record_of("GQA_2000"), tmp_path / "out", files=files)
    told = read_json(tmp_path / "out" / "step.json")
    assert told["given"] == ["base", "calibration"] and told["note"] == "five" and told["variant"] == "GQA_2000+count"
    assert record == PruningRecord.read(tmp_path / "out" / "pruning.json")
    (step,) = record.steps
    assert (step.name, step.options, step.model_extra) == ("count", {"note": "five"}, {"files": 2})
    assert record.run.to_dict() == step.run.to_dict() == told["run"]
    assert record.seconds.scoring == 1.0 and record.seconds.pruning == 2.0
    assert record.seconds.total == pytest.approx(3.0 + record.seconds.steps, abs=2e-3)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\+count needs calibration"):
        take_step(counted(), tmp_path, record_of("GQA_2000"), tmp_path / "out", files={"base": tmp_path})
    assert not (tmp_path / "out").exists()


def test_the_record_keeps_every_step(
    make_model: Callable[..., Path], make_parent: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    base = make_model("llama")
    folder, variant = make_parent("Magnitude_2000", {}, base), resolve("Magnitude_2000")
    files: dict[Need, Path] = {"base": base, "healing": token_file, "held_out": token_file}
    for name, options in (("lora", {**FEW, "rank": 2}), ("kd", FEW), ("nf4", {})):
        variant = derive(variant, name, options)
        before = PruningRecord.read(folder / "pruning.json")
        output = tmp_path / variant.name
        take_step(variant, folder / "model", before, output, files=files, runtime=ON_CPU)
        folder = output
    record = PruningRecord.read(folder / "pruning.json")
    assert (record.variant, record.parent) == ("Magnitude_2000+lora+kd+nf4", "Magnitude_2000+lora+kd")
    lora, kd, nf4 = record.steps
    assert [step.name for step in (lora, kd, nf4)] == ["lora", "kd", "nf4"]
    assert lora.options["rank"] == 2 and kd.options["rank"] == 8
    assert kd.held_out.before == pytest.approx(lora.held_out.after, rel=1e-6)
    assert nf4.bytes.after < nf4.bytes.before and record.run == nf4.run


def test_a_record_of_before_the_list_is_read_as_it_was_and_never_half(tmp_path: Path) -> None:
    healed = {"name": "lora", "options": {}, "run": Run({}).describe().to_dict()}
    assert record_of("GQA_2000", step=None).steps == ()
    assert [step.to_dict() for step in record_of("GQA_2000+lora", step=healed).steps] == [healed]
    files: dict[Need, Path] = {"base": tmp_path, "calibration": tmp_path}
    with pytest.raises(DataError, match=r"steps: lora, but 'GQA_2000\+kd\+lora' has other steps"):
        record_of("GQA_2000+kd+lora", step=healed)
    old = record_of("GQA_2000+lora", step=healed)
    further = replace(counted(), parent="GQA_2000+lora")
    record = take_step(further, tmp_path, old, tmp_path / "out", files=files)
    assert "step" not in record.to_dict() and [step.name for step in record.steps] == ["lora", "count"]

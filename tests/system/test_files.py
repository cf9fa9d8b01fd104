"""Whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_pruner.system.errors import DataError
from llm_pruner.system.files import read_json, scratch_directory, staged_directory, staged_file, write_json, write_text
from llm_pruner.system.ownership import MARKER, mark


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "value.txt"
    write_text(target, "whole\n", comment="{}")
    with pytest.raises(RuntimeError), staged_file(target) as staged:
        staged.write_text("half")
        raise RuntimeError
    assert target.read_text() == "whole\nmade by llm-pruner\n"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("old", "new"):
        with staged_directory(target) as staged:
            (staged / name).touch()
    assert sorted(path.name for path in target.iterdir()) == [MARKER, "new"]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for name in (".model.staged-abc", ".model.staged-mine", ".other.staged-abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").touch()
    mark(tmp_path / ".model.staged-abc", "staged")
    (tmp_path / ".model.staged-empty").mkdir()
    with staged_directory(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.staged-mine", ".other.staged-abc", "model"]


def test_no_nan_in_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_damaged_json_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"a": ')
    with pytest.raises(DataError, match=r"value\.json: not valid JSON .* delete it and run again"):
        read_json(tmp_path / "value.json")
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_scratch_goes_with_its_block_and_what_a_killed_one_left_with_the_next(tmp_path: Path) -> None:
    target = tmp_path / "model"
    leftover = tmp_path / ".model.scratch-killed"
    leftover.mkdir()
    (leftover / "half").touch()
    mark(leftover, "staged")
    with scratch_directory(target) as scratch:
        assert not leftover.exists()
        (scratch / "large").write_text("needed on the way")
        assert not target.exists()
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError), scratch_directory(target):
        raise RuntimeError
    assert not list(tmp_path.iterdir())

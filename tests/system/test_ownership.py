"""Which files and folders this tool takes for its own, and what keeps a folder from being replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.system import outputs
from llm_pruner.system.errors import PrunerError
from llm_pruner.system.files import growing_directory, remove, staged_directory, staged_file, write_json, write_text
from llm_pruner.system.outputs import replaced_by
from llm_pruner.system.ownership import MARKER, made_here, mark
from llm_pruner.system.places import refuse_inputs
from llm_pruner.system.provenance import Run


def make(folder: Path, text: str = "1") -> Path:
    """A folder as this tool makes it."""
    with staged_directory(folder) as staged:
        (staged / "config.json").write_text(text)
        (staged / "deep").mkdir()
        (staged / "deep" / "weights").write_text(text)
    return folder


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda folder: (folder / "notes").touch(),
    "added deep": lambda folder: (folder / "deep" / "notes").touch(),
    "changed": lambda folder: (folder / "deep" / "weights").write_text("2"),
    "an empty folder": lambda folder: (folder / "room").mkdir(),
    "a link in place of a file": lambda folder: (
        (folder / "config.json").unlink(),
        (folder / "config.json").symlink_to("deep/weights"),
    ),
    "without a marker": lambda folder: (folder / MARKER).unlink(),
    "an empty marker": lambda folder: (folder / MARKER).write_text(""),
    "a marker that is none": lambda folder: (folder / MARKER).write_text("[" * 100_000),
    "a marker of its own kind": lambda folder: mark(folder, "staged"),
    "write-protected": lambda folder: (folder / "deep" / "weights").chmod(0o444),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_folder_with_something_of_the_users_stays(how: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    CHANGES[how](folder)
    before = sorted(folder.rglob("*"))
    for force in (False, True):
        with pytest.raises(PrunerError, match=str(folder)):
            replaced_by(folders=[folder], force=force)
    with pytest.raises(PrunerError, match=str(folder)):
        make(folder, "new")
    assert sorted(folder.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_a_folder_of_this_tool_is_replaced_wherever_it_was_moved_and_with_files_gone(tmp_path: Path) -> None:
    shutil.copytree(make(tmp_path / "first"), tmp_path / "copy")
    (tmp_path / "copy" / "config.json").unlink()
    with pytest.raises(PrunerError, match="exists already"):
        replaced_by(folders=[tmp_path / "copy"])
    assert replaced_by(folders=[tmp_path / "copy"], force=True) == [tmp_path / "copy" / "deep" / "weights"]
    make(tmp_path / "copy", "new")
    assert (tmp_path / "copy" / "config.json").read_text() == "new"


def test_what_came_while_the_new_one_was_made_stays(tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    with pytest.raises(PrunerError, match="notes"), staged_directory(folder):
        (folder / "notes").write_text("mine")
    assert (folder / "notes").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_a_large_file_is_known_by_many_of_its_parts(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "model") as staged:
        (staged / "weights").write_bytes(bytes(3 << 24))
    assert replaced_by(folders=[tmp_path / "model"], force=True)
    with (tmp_path / "model" / "weights").open("r+b") as handle:
        handle.seek(3 << 23)
        handle.write(b"\x01" * (1 << 18))
    with pytest.raises(PrunerError, match="changed since"):
        replaced_by(folders=[tmp_path / "model"], force=True)


def test_a_marker_copied_into_another_folder_protects_nothing_there(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text("2")
    shutil.copyfile(make(tmp_path / "model") / MARKER, mine / MARKER)
    with pytest.raises(PrunerError, match="changed since"):
        make(mine)
    mark(mine, "staged")
    with pytest.raises(PrunerError, match="not made by this tool"):
        write_text(mine / "config.json", "new")
    assert (mine / "config.json").read_text() == "2"


def test_a_growing_folder_goes_only_if_all_in_it_is_this_tools(tmp_path: Path) -> None:
    folder = tmp_path / "resume_point"
    growing_directory(folder)
    Plan(2, (LayerPlan(0, (0,), (0,)),)).write(folder / "plan.json")
    growing_directory(folder)
    (folder / "mine.txt").write_text("mine")
    remove(folder)
    assert (folder / "mine.txt").exists() and (folder / "plan.json").exists()
    with pytest.raises(PrunerError, match=r"mine\.txt"):
        growing_directory(folder)
    (folder / "mine.txt").unlink()
    remove(folder)
    assert not folder.exists()


def test_files_of_this_tool_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    Plan(2, (LayerPlan(0, (0,), (0,)),)).write(tmp_path / "plan.json")
    write_json(tmp_path / "record.json", {"run": Run({}).describe().to_dict()})
    write_text(tmp_path / "note.md", "text\n", comment="<!-- {} -->")
    for path in tmp_path.iterdir():
        assert made_here(path)
    for name, text in {
        "plan.json": '{"layers": []}',
        "record.json": '{"run": "mine"}',
        "deep.json": "[" * 100_000,
        "list.json": "[1]",
        "latin.json": "\xe9",
        "note.md": "mine",
        "table.csv": "variant,method\n",
        "t.xlsx": "PK",
        "t.safetensors": "\xff" * 100,
        "empty": "",
    }.items():
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
        assert not made_here(tmp_path / name)
        with pytest.raises(PrunerError, match="not made by this tool"), staged_file(tmp_path / name):
            pass
        assert (tmp_path / name).read_text(encoding="latin-1") == text


def test_places_where_nothing_can_be_made_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for output, reason in (("file/x", "no folder"), ("loop/x", "no folder"), ("pipe", "ordinary"), ("loop", "link")):
        with pytest.raises(PrunerError, match=reason):
            replaced_by(files=[tmp_path / output], force=True)
    for folder in (tmp_path / "a", inside, Path(), Path(".."), inside / "..", Path("/")):
        with pytest.raises(PrunerError, match="current folder"):
            replaced_by(folders=[folder], force=True)
    with pytest.raises(PrunerError, match="mount point"):
        replaced_by(folders=[Path("/proc")], force=True)
    monkeypatch.setattr(outputs.os, "access", lambda *_: False)
    with pytest.raises(PrunerError, match="not writable"):
        replaced_by(files=[tmp_path / "new"])


def test_two_outputs_at_one_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for other in ("x", "link/x", "./y/../x"):
        with pytest.raises(PrunerError, match="two outputs"):
            replaced_by(files=[tmp_path / "x"], records=[tmp_path / other])
    with pytest.raises(PrunerError, match="lie in another output"):
        replaced_by(folders=[tmp_path / "x"], records=[tmp_path / "x" / "record.json"])


def test_what_an_input_links_to_is_an_input(tmp_path: Path) -> None:
    original, base = make(tmp_path / "original"), tmp_path / "base"
    base.mkdir()
    (base / "config.json").symlink_to(original / "config.json")
    (tmp_path / "hard").hardlink_to(original / "config.json")
    for output, relation in ((original, "contains"), (original / "config.json", "is"), (tmp_path / "hard", "is")):
        with pytest.raises(PrunerError, match=f"{relation} the input"):
            refuse_inputs([output], [base])
    with pytest.raises(PrunerError, match="contains the input"), staged_directory(original, inputs=[base]):
        pass
    refuse_inputs([original / "other", tmp_path / "base2"], [base])


def test_a_writer_leaves_another_writers_unfinished_output(tmp_path: Path) -> None:
    with staged_file(tmp_path / "tokens") as first:
        first.write_text("half")
        write_text(tmp_path / "tokens", "theirs\n", comment="# {}")
        assert first.read_text() == "half"
        first.write_text("# made by llm-pruner")
    assert (tmp_path / "tokens").read_text() == "# made by llm-pruner"
    assert list(tmp_path.iterdir()) == [tmp_path / "tokens"]

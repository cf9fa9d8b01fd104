"""Documentation that cannot go stale: generated pages are current, links lead somewhere, examples run."""

from __future__ import annotations

import doctest
import importlib.util
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jsonschema
import pytest
import torch
import typer
import yaml
from pydantic import SerializeAsAny
from typer.testing import CliRunner

import llm_pruner
from llm_pruner.cli import app, export
from llm_pruner.data.tokens import write_tokens
from llm_pruner.mechanisms import MECHANISMS, get_mechanism
from llm_pruner.mechanisms.records import LayerEntry
from llm_pruner.methods import METHODS
from llm_pruner.methods.magnitude import Magnitude
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.repairs import REPAIRS
from llm_pruner.system.errors import ConfigError, PrunerError
from llm_pruner.system.records import Pair
from llm_pruner.variants.grammar import resolve
from llm_pruner.workflow.config import load_config
from tests.tiny import ROOT
from tests.tiny.families import VOCABULARY
from tests.tiny.making import make

DOCS = ROOT / "docs"
SCHEMA = DOCS / "config.schema.json"
CONFIGURATIONS = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_generated_pages_are_current(pages: ModuleType) -> None:
    stale = [name_of(page) for page, text in pages.render().items() if page.read_text() != text]
    assert not stale, "run: python docs/reference.py"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (float | None, "number, or null"),
        (tuple[float | None, ...], "list of numbers or nulls"),
        (tuple[int, int], "list of 2 whole numbers"),
        (dict[str, Any], "object"),
        (dict[str, tuple[str, ...]], "object of lists of texts, by name"),
        (tuple[SerializeAsAny[LayerEntry], ...], "list of [LayerEntry](#layerentry)"),
        (dict[str, Pair[int]], "object of [Pair](#pair) of whole numbers, by name"),
        (Literal["PTQ", "QKD"] | None, '`"PTQ"` or `"QKD"`, or null'),
    ],
)
def test_types_of_fields_are_told_in_plain_words(annotation: Any, words: str, pages: ModuleType) -> None:
    assert pages._in_words(annotation, {}) == words


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name_of)
def test_configurations_name_the_schema_and_fit_it(path: Path) -> None:
    text = path.read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named and (path.parent / named[1]).samefile(SCHEMA)
    assert not wrong_places(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"modle": {}}, ""),
        ({"model": {"dtype": "float31"}}, "model.dtype"),
        ({"model": {"builtin": {"step": 3}}}, "model.builtin"),
        ({"methods": {"Wandaa": {}}}, "methods"),
        ({"methods": {"GQA": {"taylr": "first"}}}, "methods.GQA"),
        ({"variants": [{"GQA_2000": {"split": "0:0"}}]}, "variants.0"),
        ({"variants": [{"GQA_2000": {"unifrom": True}}]}, "variants.0"),
        ({"variants": [{"GQA_2000+lora": {"rnak": 4}}]}, "variants.0"),
        ({"encoders": {"rows": {"half": {"strat": "other"}}}}, "encoders.rows.half"),
    ],
)
def test_schema_refuses_what_the_configuration_does(raw: dict[str, Any], place: str) -> None:
    raw = {"variants": ["Dense"], **raw}
    assert wrong_places(raw) == [place]
    with pytest.raises(ConfigError):
        load_config(raw)


@pytest.mark.parametrize(
    "entry",
    [
        {"GQA_uniform_2000": {"uniform": True, "split": "2:8", "taylor": "first"}},
        {"GQA_2000": None},
        {"GQA_2000+lora": {"rank": 4}},
        {"Mine_2000": {"method": "my_pruners:Mine", "anything": 1}},
        {"GQA_2000": {"method": "my_pruners:Mine", "anything": 1}},
    ],
)
def test_schema_knows_the_options_of_a_variant_by_its_name(entry: dict[str, Any]) -> None:
    assert not wrong_places({"variants": [entry]})


def wrong_places(raw: dict[str, Any]) -> list[str]:
    """Where a configuration does not fit the schema for editors."""
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    return [".".join(str(part) for part in error.absolute_path) for error in validator.iter_errors(raw)]


def test_every_method_has_a_page_and_every_page_a_method(pages: ModuleType) -> None:
    described = {pages.method_page(name) for name in METHODS}
    assert described == set((DOCS / "methods").glob("*.md")) - {DOCS / "methods" / "index.md"}


def test_every_public_name_is_in_the_tour_of_the_library() -> None:
    named = set(re.findall(r"\w+", (DOCS / "library.md").read_text()))
    assert set(llm_pruner.__all__) <= named


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def build(source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """The site, as ``make docs`` builds it."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fresh-env", "--fail-on-warning", "--keep-going"]
    return subprocess.run([*command, source, output], capture_output=True, text=True, check=False)


def test_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {page.relative_to(tmp_path).with_suffix(".md") for page in pages} >= {
        page.relative_to(DOCS) for page in DOCS.rglob("*.md")
    }
    for page in pages:
        html = page.read_text()
        assert not re.findall(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*", html), page
    assert "<mfrac>" in (tmp_path / "methods" / "hgsp.html").read_text()


def test_broken_links_and_formulas_fail_the_build(tmp_path: Path) -> None:
    source = tmp_path / "project" / "docs"
    source.mkdir(parents=True)
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source.parent / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (source / "other.md").write_text("---\norphan: true\n---\n\n# Other\n")
    (source / "index.md").write_text("# Page\n\n[other](other.md#other)\n")
    done = build(source, tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    mistakes = ["[x](page.md)", "[x](other.md#nowhere)", "[x](#nowhere)", "$\\nosuchcommand$"]
    for number, mistake in enumerate(mistakes):
        (source / f"wrong{number}.md").write_text(f"---\norphan: true\n---\n\n# Wrong\n\n{mistake}\n")
    done = build(source, tmp_path / "site")
    assert done.returncode != 0
    assert set(re.findall(r"wrong\d", done.stderr)) == {f"wrong{number}" for number in range(len(mistakes))}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name_of)
def test_configurations_are_accepted(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in guided_modules(page):
        module.write(tmp_path, monkeypatch)
    (tmp_path / "my-model").mkdir()
    for block in blocks(page, "yaml"):
        load_config(yaml.safe_load(block.replace("/data/my-model", str(tmp_path / "my-model"))))


class GuidedModule:
    """A module that a page shows, by the file name in its first line."""

    def __init__(self, block: str) -> None:
        found = re.match(r"# (?:\S+/)?(\w+)\.py", block)
        self.name, self.block = found[1] if found else "", block

    def write(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / f"{self.name}.py").write_text(self.block)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, self.name, raising=False)


def guided_modules(page: Path) -> list[GuidedModule]:
    return [module for module in map(GuidedModule, blocks(page, "python")) if "class " in module.block and module.name]


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        ("Spread_2000", "spread:Spread"),
        ("Spread_unstructured_5000", "spread:Spread"),
        ("Spread_2of4", "spread:Spread"),
        ("Loudest_2000", "loudest:Loudest"),
        ("SpreadRepaired_unstructured_5000", "spread_repaired:SpreadRepaired"),
        ("SpreadRepaired_2of4", "spread_repaired:SpreadRepaired"),
        ("LastChange_remove_2", "last_change:LastChange"),
        ("Mine_remove_2", "my_pruners:LastTokenPruner"),
    ],
)
def test_methods_of_the_guide_prune(
    name: str,
    implementation: str,
    make_model: Callable[..., Path],
    token_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in guided_modules(DOCS / "adding_a_method.md"):
        module.write(tmp_path, monkeypatch)
    record = make(name, {"method": implementation}, make_model(), token_file, tmp_path / "out")
    assert record.reached.amount == pytest.approx(record.asked.amount, rel=0.05)
    assert llm_pruner.load(tmp_path / "out" / "model").config.hidden_size == 32


def test_the_mechanism_of_the_guide_has_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(DOCS / "adding_a_mechanism.md", "python")
    (tmp_path / "guided_rank.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MECHANISMS, "rank", "guided_rank:Rank")
    monkeypatch.setattr(Magnitude, "mechanisms", (*Magnitude.mechanisms, "rank"))
    try:
        variant = resolve("Magnitude_rank_2000")
        assert (variant.mechanism, variant.amount) == ("rank", 0.2)
        assert get_mechanism("rank").unit(variant.options) == "singular values"
        assert get_mechanism("rank").write("rank", 0.2) == get_mechanism("rank").examples[0]
        assert resolve("Magnitude_2000").mechanism == "width"
    finally:
        get_mechanism.cache_clear()


def test_the_export_of_the_guide_writes(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, command = blocks(DOCS / "adding_an_export.md", "python")
    shapes = ModuleType("llm_pruner.exports.shapes")
    exec(compile(function, "shapes.py", "exec"), vars(shapes))
    monkeypatch.setitem(sys.modules, shapes.__name__, shapes)
    guided = typer.Typer()
    exec(compile(command, "export.py", "exec"), {**vars(export), "app": guided})
    arguments = ["--model", str(make_model()), "--output", str(tmp_path / "shapes.txt")]
    assert CliRunner().invoke(guided, arguments).exit_code == 0
    assert "model.norm.weight [32]" in (tmp_path / "shapes.txt").read_text().splitlines()
    assert isinstance(CliRunner().invoke(guided, arguments).exception, PrunerError)
    assert CliRunner().invoke(guided, [*arguments, "--force"]).exit_code == 0


@pytest.mark.parametrize("name", ["Magnitude_2000", "Wanda_unstructured_5000"])
def test_the_allocation_of_the_guide_shares(
    name: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in guided_modules(DOCS / "adding_an_allocation.md"):
        module.write(tmp_path, monkeypatch)
    monkeypatch.setitem(ALLOCATIONS, "ends", "ends:Ends")
    record = make(name, {"allocation": {"ends": {"share": 0.3}}}, make_model(), token_file, tmp_path / "out")
    assert record.reached.amount == pytest.approx(record.asked.amount, rel=0.05)
    shapes = read_architecture(tmp_path / "out" / "model").tensors
    kept = [sum(entry.count_nonzero() for key, entry in shapes.items() if f".{index}." in key) for index in range(4)]
    assert min(kept[0], kept[3]) > max(kept[1], kept[2])


@pytest.mark.parametrize("name", ["Magnitude_2000", "Wanda_2of4"])
def test_the_repair_of_the_guide_repairs(
    name: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in guided_modules(DOCS / "adding_a_repair.md"):
        module.write(tmp_path, monkeypatch)
    monkeypatch.setitem(REPAIRS, "stretch", "stretch:Stretch")
    record = make(name, {"repair": "stretch"}, make_model(), token_file, tmp_path / "out")
    assert record.repair
    assert record.repair.linears
    assert sum(linear.kept for linear in record.repair.linears) > 0


@pytest.fixture
def finished_run(
    make_model: Callable[..., Path], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What the examples are given: the files of a run, of a tiny model; it is the current folder."""
    base, tokens = tmp_path / "resources" / "model", tmp_path / "resources" / "calibration.safetensors"
    llm_pruner.load(make_model("llama", max_position_embeddings=256)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    generator = torch.Generator().manual_seed(0)
    write_tokens(tokens, torch.randint(3, VOCABULARY, (6, 20), generator=generator), {})
    text = torch.randint(3, VOCABULARY, (1, 400), generator=generator)
    write_tokens(tmp_path / "resources" / "evaluation.safetensors", text, {})
    # the model has four layers in all
    for name, shown in (("GQA_2000", "GQA_2000"), ("ShortGPT_remove_1", "ShortGPT_remove_4")):
        make(name, {}, base, tokens, tmp_path / "baselines" / shown)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["library.md", "quickstart.md"])
def test_python_examples_run(page: str, finished_run: Path) -> None:
    (finished_run / "tried").mkdir()
    exec(compile("\n".join(blocks(DOCS / page, "python")), page, "exec"), {"__name__": page})


def test_commands_of_the_quick_start_run(finished_run: Path) -> None:
    console = "".join(blocks(DOCS / "quickstart.md", "console")).replace("\\\n", "")
    commands = [shlex.split(line)[2:] for line in console.splitlines() if line.startswith("$ llm-pruner ")]
    assert commands
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output)
    assert "short" in result.stdout and "small" in result.stdout


MODULES = [info.name for info in pkgutil.walk_packages(llm_pruner.__path__, "llm_pruner.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0

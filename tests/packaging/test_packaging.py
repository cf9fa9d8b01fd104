"""Promises about the project itself: pins that agree, imports that stay light, no pickle, nothing left undone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from llm_pruner.report.figures import FIGURES
from tests.tiny import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(pin.split("==") for pin in PROJECT["dependencies"])
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
SOURCES = sorted([*(ROOT / "llm_pruner").rglob("*.py"), *(ROOT / "workflow_scripts").rglob("*.py")])


def normal(pin: str) -> str:
    """Package names compare without case, and with underscores as hyphens."""
    return pin.lower().replace("_", "-")


def test_dependencies_are_pinned() -> None:
    extras = [pin for group in PROJECT["optional-dependencies"].values() for pin in group]
    assert all(re.fullmatch(r"[\w\[\]-]+==[\w.]+", pin) for pin in [*PROJECT["dependencies"], *extras])
    assert PINS["torch"] == "2.13.0"


@pytest.mark.xdist_group("kept together")
def test_groups_of_tests_stay_together(request: pytest.FixtureRequest) -> None:
    """Tests that share a finished run wait for each other where pytest and pytest-xdist do not fit each other."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("a worker of --dist loadgroup is needed")
    assert request.node.nodeid.endswith("@kept together")


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environment_pins_agree_with_pyproject(path: Path) -> None:
    environment = yaml.safe_load(path.read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    for pin in pip:
        name, version = pin.split("==")
        assert PINS[name] == version, f"{path.name}: {name}"
    minimum = PROJECT["requires-python"].removeprefix(">=")
    assert f"python={minimum}" in environment["dependencies"]


def test_constraints_agree_with_pyproject() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = dict(normal(line).split("==") for line in lines if line and not line.startswith("#"))
    everything = [*PROJECT["dependencies"], *(p for group in PROJECT["optional-dependencies"].values() for p in group)]
    for pin in everything:
        name, version = normal(re.sub(r"\[.*\]", "", pin)).split("==")
        assert constraints[name] == version, name
    # breaks Snakemake's own pins, and Snakemake does without
    assert "snakemake-software-deployment-plugin-conda" not in constraints


def imported(*places: str) -> set[str]:
    """Packages of others that these folders import anywhere, and files of the folders themselves left out."""
    files = [path for place in places for path in (ROOT / place).rglob("*.py")]
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module or "")
    own = {"llm_pruner", "workflow_scripts", "tests"}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - own


@pytest.mark.parametrize(
    ("places", "extras"),
    [
        (["llm_pruner", "workflow_scripts"], ["semantic", "workflow"]),
        (["docs"], ["docs"]),
        (["tests", "benchmarks"], ["dev", "semantic"]),
    ],
)
def test_what_is_imported_is_declared(places: list[str], extras: list[str]) -> None:
    pins = [*PROJECT["dependencies"], *(pin for extra in extras for pin in PROJECT["optional-dependencies"][extra])]
    declared = {normal(re.sub(r"(\[.*\])?==.*", "", pin)) for pin in pins} | {"yaml"}
    assert {normal(name) for name in imported(*places)} <= declared


def test_profiles_agree_on_when_to_rerun() -> None:
    """A profile replaces the default one, it does not build on it."""
    default, slurm = (
        yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text()) for name in ("default", "slurm")
    )
    for key in ("rerun-incomplete", "rerun-triggers", "show-failed-logs"):
        assert slurm[key] == default[key]


def test_every_rule_names_an_environment_and_a_log() -> None:
    for path in (ROOT / "rules").glob("*.smk"):
        rules = re.split(r"^ *rule ", path.read_text(), flags=re.MULTILINE)[1:]
        for rule in rules:
            name = rule.split(":")[0]
            assert re.search(r'conda:\s+"../envs/\w+\.yaml"', rule), name
            assert "log:" in rule and "runtime=" in rule, name
            # what a package holds is fixed by its hash, not by the code that fetches it
            assert "code=" in rule or name == "fetch_package"
    used = {
        match for path in (ROOT / "rules").glob("*.smk") for match in re.findall(r"envs/(\w+)\.yaml", path.read_text())
    }
    assert used == {path.stem for path in ENVIRONMENTS}


@pytest.mark.parametrize(
    "statement",
    [
        "import llm_pruner",
        # what every parse of the Snakefile imports
        "import llm_pruner.workflow.preflight, llm_pruner.workflow.fingerprint",
        "from llm_pruner.variants.grammar import resolve; [resolve(n) for n in ('GQA_2000', 'Wanda_2of4')]",
        "import llm_pruner.analysis.comparison",
        "import llm_pruner.analysis.summary, llm_pruner.report.workbook, llm_pruner.report.canvas",
        "import llm_pruner.report.page.write",
    ],
)
def test_light_imports(statement: str) -> None:
    heavy = "torch|transformers|lm_eval|datasets"
    check = f"import sys, re; {statement}; print([m for m in sys.modules if re.fullmatch({heavy!r}, m)])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_tables_need_nothing_but_their_environment() -> None:
    """The one without torch; what is missing in the others shows in ``make test-envs``."""
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    scripts = re.findall(r'envs/tables\.yaml"(?:(?!\n *rule )[\s\S])*?workflow_scripts/(\w+\.py)"', rules)
    assert set(scripts) == {
        *("analyze_base.py", "analyze.py", "summary.py", "page.py", "figure_of_run.py", "figure_of_record.py")
    }
    sources = "\n".join((ROOT / "workflow_scripts" / script).read_text() for script in scripts)
    imports = re.findall(r"^ *from (llm_pruner\S+) import", sources, re.MULTILINE)
    imports += [figure.module for figure in FIGURES.values()]
    check = f"import sys, {', '.join(imports)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    allowed = set(re.findall(r"- ([\w-]+)==", (ROOT / "envs" / "tables.yaml").read_text()))
    assert {name for name in PINS if name.replace("-", "_") in loaded.split()} <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_no_swallowed_errors(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "joblib", "dill"} & set(names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr != "save"
            if node.attr == "load":  # tensors only, where a legacy file is asked for
                given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in calls[id(node)].keywords}
                assert given.get("weights_only") is True
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None and not all(isinstance(statement, ast.Pass) for statement in node.body)

"""Digest of the sources that a job runs: editing them reruns the job, editing other sources does not.

The digest covers every module of this package that imports reach from a job's entry points. Modules that a job imports
by name at run time (a method, a mechanism's job) are entry points of their own, so an edit of one method reruns no
other method.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm_pruner"


def sources_digest(*entries: str | Path) -> str:
    """A short digest of the code that imports reach from ``entries``.

    Comments, docstrings and formatting change no result and do not count.

    Args:
        entries: dotted module names, or paths of scripts.
    """
    files = sorted({file for entry in entries for file in _closure(_file(entry))}, key=str)
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{_normalised(file)}\0".encode())
    return digest.hexdigest()[:16]


def _closure(start: Path) -> set[Path]:
    reached: set[Path] = set()
    pending = [start]
    while pending:
        file = pending.pop()
        if file not in reached:
            reached.add(file)
            pending += [_file(module) for module in _imports(file)]
    return reached


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Modules of this package that a file imports, except for type checking."""
    return tuple(sorted({module for node in _runtime_nodes(_tree(file)) for module in _modules(node)}))


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _runtime_nodes(child)


def _modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
    elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
        yield node.module
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            if _is_module(submodule):
                yield submodule


@cache
def _is_module(name: str) -> bool:
    relative = Path(*name.split(".")[1:])
    return (_root() / relative).is_dir() or (_root() / relative.with_suffix(".py")).is_file()


def _file(entry: str | Path) -> Path:
    if isinstance(entry, Path):
        return entry
    if entry.split(".")[0] != PACKAGE:
        spec = find_spec(entry)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no module named '{entry}'")
        return Path(spec.origin)
    path = _root().joinpath(*entry.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _root() -> Path:
    return Path(__file__).parents[1]


@cache
def _tree(file: Path) -> ast.Module:
    """The code of a file without its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            node.body = [statement for statement in node.body if not _is_docstring(statement)] or [ast.Pass()]
    return tree


@cache
def _normalised(file: Path) -> str:
    return ast.dump(_tree(file))


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )

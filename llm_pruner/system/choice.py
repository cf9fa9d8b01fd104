"""The choice of one entry of a registry in a configuration: ``inverse``, or ``{inverse: {alpha: 2}}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from llm_pruner.system.errors import nearest, problems_of, shown
from llm_pruner.system.registry import module_of, registered

Choice = str | dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Choices:
    """A registry of entries to choose from, with the checks of a choice.

    Entries are classes with ``mechanisms``, the names of the mechanisms that they work for, and a model ``Options``.
    """

    kind: str
    """Word for an entry: ``allocation``."""
    registry: str
    """``module:NAME`` of the dictionary from names to ``module:Class``."""
    does: str
    """Phrase for an entry's effect on a mechanism: ``shares a budget of``."""
    example: str
    """An example of a choice with options."""

    @property
    def entries(self) -> dict[str, str]:
        """``module:Class`` by name."""
        # imported by name, so that a job depends only on the sources of the entry that it runs
        module, _, name = self.registry.partition(":")
        found: dict[str, str] = getattr(import_module(module), name)
        return found

    def class_of(self, name: str) -> type[Any]:
        """The class of a registered name."""
        found: type[Any] = registered(self.entries[name])
        return found

    def fitting(self, mechanism: str) -> dict[str, type[Any]]:
        """Entries that work for a mechanism, by name."""
        classes = {name: self.class_of(name) for name in self.entries}
        return {name: cls for name, cls in classes.items() if mechanism in cls.mechanisms}

    def split(self, value: Any) -> tuple[str, Any]:
        """Split a choice into its name and its options.

        Raises:
            ValueError: if the choice is neither a name nor one name with options.
        """
        if isinstance(value, str):
            return value, {}
        if isinstance(value, Mapping) and len(value) == 1:
            ((name, options),) = value.items()
            if isinstance(name, str) and isinstance(options, Mapping | None):
                return name, options or {}
        raise ValueError(f"{shown(value)} is no {self.kind}; write a name, or {self.example}")

    def read(self, value: Any, mechanism: str) -> Choice:
        """A choice with every default filled in; the name alone if the entry has no options.

        Raises:
            ValueError: for an unknown name, an entry that does not work for the mechanism, or unknown or wrong options.
        """
        name, given = self.split(value)
        fitting = self.fitting(mechanism)
        if name not in self.entries:
            raise ValueError(f"unknown {self.kind} '{name}'{nearest(name, fitting)}")
        if name not in fitting:
            others = " and ".join(self.class_of(name).mechanisms)
            raise ValueError(f"'{name}' {self.does} {others}, not of {mechanism}; write {', '.join(fitting)}")
        model = fitting[name].Options
        if unknown := [key for key in given if key not in model.model_fields]:
            raise ValueError(
                "; ".join(f"{name}.{key}: unknown option{nearest(key, model.model_fields)}" for key in unknown)
            )
        try:
            options = model(**given).model_dump()
        except ValidationError as error:
            raise ValueError("; ".join(f"{name}.{line}" for line in problems_of(error, model, given))) from None
        return {name: options} if options else name

    def may_choose(self, value: Any, mechanism: str) -> bool:
        """Whether a choice may be for a mechanism. True for a choice that works for no mechanism, which is an error."""
        try:
            name, _ = self.split(value)
        except ValueError:
            return True
        return name not in self.entries or mechanism in self.class_of(name).mechanisms

    def option_of(self, key: str, mechanism: str) -> str | None:
        """The place to write an option of entries; None if no entry for the mechanism has the option."""
        owners = [name for name, cls in self.fitting(mechanism).items() if key in cls.Options.model_fields]
        if not owners:
            return None
        return f"an option of the {self.kind} {' or '.join(owners)}: {self.kind}: {{{owners[0]}: {{{key}: ...}}}}"

    def make(self, choice: Choice) -> Any:
        """Make the entry of a valid choice."""
        name, options = self.split(choice)
        return self.class_of(name)(**options)

    def module(self, choice: Choice) -> str:
        """Dotted module of a chosen entry, for the digest of a job that runs it."""
        return module_of(self.entries[self.split(choice)[0]])

    def schema(self, schema: dict[str, Any], mechanism: str) -> None:
        """Fill in a JSON schema of valid choices."""
        fitting = self.fitting(mechanism)
        properties = {
            name: cls.Options.model_json_schema() for name, cls in fitting.items() if cls.Options.model_fields
        }
        schema.pop("type", None)
        schema["anyOf"] = [
            {"enum": list(fitting)},
            {
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ]

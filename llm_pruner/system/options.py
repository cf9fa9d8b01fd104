"""The base of all options that users set: in the configuration, for a method, a mechanism or a step."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Immutable options that refuse unknown keys. The docstring below a field is its documentation and its help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

"""The base of everything a user may set: in the configuration, for a method, a mechanism, a step."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Refuses unknown keys and cannot be changed. The docstring below a field is its documentation and its help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

"""Options every method of a family understands."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class FamilyOptions(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DenseOptions(FamilyOptions):
    pass


class WidthOptions(FamilyOptions):
    uniform: bool = False
    """Give every layer the same shape, so that any serving engine loads the model."""
    multiple_of: PositiveInt = 1
    """Keep widths that are multiples of this."""
    split: str | None = Field(default=None, pattern=r"^[1-9]\d*:\d+$|^\d+:[1-9]\d*$")
    """Shares of the budget that attention and MLP give, such as ``2:8``; by default both lose at one rate."""


class DepthOptions(FamilyOptions):
    pass


class SparseOptions(FamilyOptions):
    pass


FAMILY_OPTIONS: dict[str, type[FamilyOptions]] = {
    "dense": DenseOptions,
    "width": WidthOptions,
    "depth": DepthOptions,
    "sparse": SparseOptions,
}

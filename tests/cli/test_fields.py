"""Command-line options that are made from option models."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from typer.testing import CliRunner

from llm_pruner.cli.fields import Fields, with_fields
from llm_pruner.system.errors import ConfigError


class Cake(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    layers: PositiveInt = 3
    """How high it is."""
    candles: int | None = Field(default=None, ge=0, le=100)
    """``None`` is no birthday."""
    filling: Literal["jam", "cream"] = "jam"
    """Between the layers."""
    secret: str = "salt"
    """Never asked for."""


class Strict(Cake):
    def model_post_init(self, _context: object) -> None:
        if self.layers == 13:
            raise ConfigError(["layers: 13 falls over"], "cake")


def baked(*arguments: str) -> tuple[int, str, list[Cake]]:
    cakes: list[Cake] = []
    app = typer.Typer()

    @app.command()
    @with_fields
    def bake(
        *,
        oven: Annotated[int, typer.Option(help="Degrees.")] = 180,
        cake: Annotated[Cake, Fields(("layers", "candles", "filling"), panel="Cake", help={"filling": "Sweet."})],
        loud: bool = False,
    ) -> None:
        cakes.append(cake)

    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output, cakes


def test_options_fill_the_model_and_the_rest_keeps_its_defaults() -> None:
    assert baked()[2] == [Cake()]
    code, _, cakes = baked("--layers", "5", "--candles", "0", "--filling", "cream", "--oven", "200", "--loud")
    assert code == 0
    assert cakes == [Cake(layers=5, candles=0, filling="cream")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--layers", "0"), "greater than or equal to 1"),
        (("--candles", "101"), "less than or equal to 100"),
        (("--filling", "mud"), "'mud' is not one of 'jam', 'cream'"),
        (("--secret", "sugar"), "No such option"),
    ],
)
def test_what_the_model_refuses_is_a_wrong_use(arguments: tuple[str, ...], told: str) -> None:
    code, output, cakes = baked(*arguments)
    assert (code, cakes) == (2, [])
    assert told in output


def test_help_stands_in_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    _, output, _ = baked("--help")
    assert "How high it is." in output and "None is no birthday." in output
    assert "Sweet." in output and "Between the layers." not in output
    assert "Never asked for." not in output and "--cake" not in output


def test_what_fields_alone_cannot_tell_the_model_does() -> None:
    app = typer.Typer()

    @app.command()
    @with_fields
    def bake(*, cake: Annotated[Strict, Fields(("layers",))]) -> None: ...

    result = CliRunner().invoke(app, ["--layers", "13"])
    assert isinstance(result.exception, ConfigError)
    assert "13 falls over" in str(result.exception)

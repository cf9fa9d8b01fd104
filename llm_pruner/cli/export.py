"""Commands that convert a model or a plan for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_pruner.cli.common import Force, Json, Model, Output, Progress, claim, emit, model_folder
from llm_pruner.system.errors import PrunerError
from llm_pruner.variants.records import PruningRecord

app = typer.Typer(help="Convert a model or a plan for other tools.", no_args_is_help=True)


@app.command()
def mergekit(
    plan: Annotated[Path, typer.Option(dir_okay=False, help="plan.json of a depth variant.")],
    model_id: Annotated[str, typer.Option(help="The base model for mergekit: a hub id or a folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The YAML to write.")],
    base: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the base, to check the plan against.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Dtype of the merge; the base's own dtype keeps its weights.")] = "float32",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a depth plan as a mergekit configuration.

    llm-pruner export mergekit --plan pruned/plan.json --model-id Qwen/Qwen3-0.6B --output merge.yaml
    """
    from llm_pruner.exports.mergekit import write_mergekit_yaml
    from llm_pruner.models.architecture import read_architecture
    from llm_pruner.planning.plan import read_made_plan

    record = plan.parent / "pruning.json"
    if not plan.exists() and record.exists():
        made = PruningRecord.read(record)
        raise PrunerError(
            f"{plan}: {made.variant} has no plan, since its mechanism is {made.mechanism}; "
            "mergekit can only leave out whole layers"
        )
    bases = [path for path in (base, Path(model_id)) if path and path.exists()]
    claim(files=[output], inputs=[plan, *bases], force=force)
    architecture = read_architecture(model_folder(base)) if base else None
    write_mergekit_yaml(read_made_plan(plan), output, model_id, dtype, architecture=architecture)
    emit({"output": str(output)}, f"{output}: run it with mergekit-yaml {output} FOLDER", as_json)


@app.command()
def uniform(
    model: Model,
    output: Output,
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Pad layers of different widths with zeros to one shape, for serving engines. The logits stay the same.

    llm-pruner export uniform --model pruned/model --output uniform
    """
    from llm_pruner.exports.uniform import write_uniform

    claim(folders=[output], inputs=[model_folder(model)], force=force)
    padded = write_uniform(model_folder(model), output, progress=progress)
    added = padded["parameters"]["added"]
    text = (
        f"{output}: {padded['key_value_groups']} key-value groups and {padded['channels']} MLP channels in every layer"
    )
    emit(padded, f"{text}, {added:,} parameters more ({added / padded['parameters']['before']:.2%})", as_json)


@app.command()
def legacy(
    legacy_bin: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="A pickled state dict, such as pruned_model.bin.")
    ],
    config: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder with its config.json, and tokenizer if any.")
    ],
    output: Output,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert a pickled state dict to a model folder, without executing code. Files that need execution are refused.

    llm-pruner export legacy --legacy-bin pruned_model.bin --config base --output model
    """
    from llm_pruner.exports.legacy import convert_legacy

    claim(folders=[output], inputs=[config, legacy_bin], force=force)
    count = convert_legacy(legacy_bin, config, output)
    emit({"output": str(output), "tensors": count}, f"{output}: {count} tensors", as_json)

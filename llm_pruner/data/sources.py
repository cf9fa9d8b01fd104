"""Sources of text: the built-in corpus, data sets of the hub, text and JSONL files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_pruner.data.rows import read_rows
from llm_pruner.system.errors import DataError, nearest
from llm_pruner.system.paths import file_exists
from llm_pruner.system.text_files import read_text

TOKEN_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Source:
    """A named source of text."""

    splits: tuple[str, ...]
    calibration_split: str
    healing_split: str
    evaluation_split: str
    load: Callable[[str], list[str]]
    """Maps a split to its texts, in a fixed order."""
    joined: bool = True
    """Whether all documents are one long text. If not, each sample comes from a single document that is long enough."""
    separator: str = "\n\n"


def _builtin(split: str) -> list[str]:
    from llm_pruner.data.builtin.corpus import load_split

    return load_split(split)


def _wikitext2(split: str) -> list[str]:
    from datasets import load_dataset

    return list(load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split=split)["text"])


def _ptb(split: str) -> list[str]:
    from datasets import load_dataset

    # the data set is a loading script; the hub keeps its conversion to parquet on this branch
    data = load_dataset("ptb-text-only/ptb_text_only", split=split, revision="refs/convert/parquet")
    return list(data["sentence"])


def _c4(split: str) -> list[str]:
    from datasets import load_dataset

    # the first shard of each split, as the pruning papers use it
    file = {
        "train": "en/c4-train.00000-of-01024.json.gz",
        "validation": "en/c4-validation.00000-of-00008.json.gz",
    }
    data = load_dataset("allenai/c4", data_files={split: file[split]}, split=split)
    # papers evaluate on the first 1,100 documents of the validation shard
    return list(data["text"][:1100] if split == "validation" else data["text"])


SOURCES: Mapping[str, Source] = {
    "builtin": Source(("train", "calibration", "validation", "test"), "calibration", "train", "test", _builtin),
    "wikitext2": Source(("train", "validation", "test"), "train", "train", "test", _wikitext2),
    "c4": Source(("train", "validation"), "train", "train", "validation", _c4, joined=False, separator=" "),
    "ptb": Source(("train", "validation", "test"), "train", "train", "test", _ptb, separator=" "),
}


def is_file(source: str) -> bool:
    """Whether a source is a path rather than a name."""
    return source not in SOURCES


Use = Literal["calibration", "healing", "evaluation"]
"""Purpose of a text."""


def split_for(source: str, split: str | None, use: Use) -> str | None:
    """The split to read of a source: ``split`` itself, or by default the usual split for this use. None for a file.

    Raises:
        DataError: for a source that is neither a name nor a file, or a split that the source lacks.
    """
    if is_file(source):
        _check_exists(source)
        if split:
            raise DataError(f"{source} is a file and has no splits; leave out '{split}'")
        return None
    known = SOURCES[source]
    if split and split not in known.splits:
        raise DataError(f"{source} has no split '{split}'{nearest(split, known.splits)}")
    return split or str(getattr(known, f"{use}_split"))


def _check_exists(source: str) -> None:
    if not file_exists(source):
        raise DataError(f"'{source}' is neither a file nor a known source{nearest(source, SOURCES)}")


def load_texts(source: str, split: str | None) -> list[str]:
    """Texts of a source.

    Args:
        source: a name in ``SOURCES``, a ``.jsonl`` file with a ``text`` key on each line, or any other text file.
        split: split of a named source; None for a file.

    Raises:
        DataError: for a missing, empty or malformed file, or one that is not UTF-8.
    """
    if not is_file(source):
        assert split is not None
        return SOURCES[source].load(split)
    _check_exists(source)
    path = Path(source)
    texts = [row.text("text") for row in read_rows(path)] if path.suffix == ".jsonl" else [read_text(path)]
    if not any(text.strip() for text in texts):
        raise DataError(f"{path}: holds no text")
    return texts

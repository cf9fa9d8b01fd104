"""Has a command run by the server, with this process's streams, folder and environment: ``client.py SOCKET ...``."""

import json
import os
import socket
import sys

# pathlib alone would take half of the time of this program
path, *arguments = sys.argv[1:]
call = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
with socket.socket(socket.AF_UNIX) as server:
    server.connect(path)
    socket.send_fds(server, [b"\n"], [0, 1, 2])
    server.sendall(json.dumps(call).encode())
    server.shutdown(socket.SHUT_WR)
    code = server.recv(16)
sys.exit(int(code or 1))

"""A `cnnlens` for scripts that forks as `tests.warm` does: a script's commands, seconds less each.

What stands on the script's path hands its words, its environment and its standard streams over a
socket to the test's process, which forks the command and answers with its exit status.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import warm

_ASKS = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({place!r})
    words = json.dumps([sys.argv[1:], dict(os.environ)]).encode()
    socket.send_fds(asked, [len(words).to_bytes(8, "big")], [0, 1, 2])
    asked.sendall(words)
    sys.exit(int(asked.makefile().read()))
"""


@contextmanager
def commands(folder: Path) -> Iterator[None]:
    """Put a `cnnlens` into a folder, and answer it meanwhile.

    It runs in the folder that the test's process is in.
    """
    place = folder / "socket"
    command = folder / "cnnlens"
    command.write_text(_ASKS.format(python=sys.executable, place=str(place)))
    command.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()
        threading.Thread(target=_answer, args=(server,), daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)  # ends the thread's wait


def _answer(server: socket.socket) -> None:
    while True:
        try:
            asked, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_fork, args=(asked,), daemon=True).start()  # of a pipe, all at once


def _fork(asked: socket.socket) -> None:
    with asked:
        size, ends, _, _ = socket.recv_fds(asked, 8, 3)
        words, env = json.loads(asked.makefile("rb").read(int.from_bytes(size, "big")))
        process = warm.Process(warm.command, tuple(words), env, tuple(ends))
        for end in ends:  # or who reads them would wait for this process, too
            os.close(end)
        code = process.wait()
        asked.sendall(str(code).encode())

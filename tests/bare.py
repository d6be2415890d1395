"""Processes that have PyTorch and nothing else, for tests of what is imported when.

Each is forked from one that has imported that: seconds less than a fresh one takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SERVER = """
import os, sys, traceback
import torch
for line in sys.stdin:
    code, streams, folder, environment = eval(line)
    if not os.fork():
        for number, path in enumerate(streams, 1):
            os.dup2(os.open(path, os.O_WRONLY), number)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        status = 0
        try:
            exec(code, {"__name__": "__main__"})
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@cache
def _server() -> subprocess.Popen[str]:
    """It ends with this process: nobody writes to it then."""
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", SERVER], text=True, **ends)  # type: ignore[call-overload]


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code to its end, in this folder, with these variables beside those of this process."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("out", "err")]
        for path in streams:
            path.touch()
        given = (code, [*map(str, streams)], str(Path.cwd()), {**os.environ, **env})
        print(repr(given), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        out, err = (path.read_text(encoding="utf-8") for path in streams)
    return subprocess.CompletedProcess((), status, out, err)

"""Processes of their own that begin with everything imported: forked from one that did nothing yet.

A fresh interpreter spends seconds on importing PyTorch. Where a test is about what a process is
told, what it writes and how it dies, and not about how it starts, it is forked from a server that
has imported, computed nothing and opened nothing.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.loaded", "tests.warm", "tests.activations.little"])


def method() -> str:
    """Say how processes start; their server begins here, where it finds what it is to import."""
    with chdir(ROOT):
        forkserver.ensure_running()
    return "forkserver"


class Process:
    """A function in a process of its own: what tests need of `subprocess.Popen`.

    Parameters
    ----------
    target : callable
        Of a module that can be imported; its `SystemExit` becomes the exit status.
    arguments : tuple
        For it.
    env : mapping
        The whole environment.
    ends : tuple of int
        Its standard streams (in, out, error), where they are not two pipes.
    """

    def __init__(
        self,
        target: Callable[..., object],
        arguments: tuple[Any, ...],
        env: Mapping[str, str],
        ends: tuple[int, ...] = (),
    ) -> None:
        method()
        pipes = [] if ends else [CONTEXT.Pipe(duplex=False) for _ in range(2)]
        given = [Connection(os.dup(end)) for end in ends] or [its for _, its in pipes]
        self._read = [mine for mine, _ in pipes]
        self._process = CONTEXT.Process(
            target=_begin, args=(target, arguments, dict(env), given, str(Path.cwd()))
        )
        self._process.start()
        for end in given:
            end.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float = 240) -> int:
        """Wait for its end; negative: the signal that killed it."""
        self._process.join(timeout)
        assert self.returncode is not None, "it goes on and on"
        return self.returncode

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """Wait for what it says (less than a pipe holds), and for its end."""
        said = tuple(_all_of(end) for end in self._read)
        self._read = []
        self.wait(timeout)
        return said if len(said) == 2 else ("", "")

    def send_signal(self, number: int) -> None:
        """Signal it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what must come true."""
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("never")


def runs(process: int) -> bool:
    """Whether a process has not ended."""
    with suppress(OSError):
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def run(
    target: Callable[..., object], *arguments: object, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a function in a process of its own, to its end."""
    process = Process(target, arguments, env)
    out, err = process.communicate()
    return subprocess.CompletedProcess((), process.wait(), out, err)


def _all_of(end: Connection) -> str:
    with open(os.dup(end.fileno()), encoding="utf-8", newline=None) as stream:  # noqa: PTH123
        end.close()
        return stream.read()


def _begin(
    target: Callable[..., object],
    arguments: tuple[Any, ...],
    env: Mapping[str, str],
    ends: list[Connection],
    folder: str,
) -> None:
    # tests that run in the background of a shell hear neither: what they start does
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for number, end in zip((0, 1, 2)[-len(ends) :], ends, strict=True):
        os.dup2(end.fileno(), number)
        end.close()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for name, number in (("stdout", 1), ("stderr", 2)):
        line = name == "stderr" or os.isatty(number)
        buffer = open(number, "wb", closefd=False)  # noqa: SIM115
        code = env.get("PYTHONIOENCODING", "utf-8")
        setattr(sys, name, io.TextIOWrapper(buffer, encoding=code, line_buffering=line))
    target(*arguments)


def command(*words: object) -> None:
    """``python -m cnnlens`` with these words."""
    from cnnlens.__main__ import main

    sys.argv = ["cnnlens", *map(str, words)]
    main()


def script(path: Path, *words: object) -> None:
    """``python`` with a script and these words."""
    import runpy

    sys.argv = [str(path), *map(str, words)]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def without_room(size: int, *words: object) -> None:
    """`command`, no file of which may grow beyond so many bytes.

    Nor its bytecode: Python keeps what it could write of it, and the next process reads that.
    """
    import resource

    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    command(*words)

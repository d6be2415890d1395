"""One command in a process of its own, watched: how it ended, how long it took, what it held."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests import warm
from tests.cli.runner import environment

SECONDS, BYTES = 60, 2 * 2**30  # more of either is a fault
# starting a process asks after all others, and how one ended can be asked only once
_ONE = threading.Lock()
_WATCH = 0.02  # seconds between two looks

Words = tuple[object, ...]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: Words
    code: int  # negative: the signal that ended it
    out: str
    err: str
    seconds: float
    peak: int  # bytes that it held at most, shared ones included
    hung: bool = False

    @property
    def error(self) -> str:
        """The line that says what went wrong, or nothing."""
        return next((line for line in self.err.splitlines() if line.startswith("error: ")), "")

    @property
    def faults(self) -> list[str]:
        """What no input whatever may lead to."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        found = {
            f"still runs after {SECONDS} s": self.hung,
            f"held {self.peak / 2**30:.1f} GB": self.peak > BYTES,
            f"exit status {self.code}": not self.hung and self.code not in (0, 1, 2),
            f"a traceback: {self.err[-600:]}": "Traceback" in self.err,
            f"unexpected: {self.error}": "error: unexpected" in self.err,
            f"{len(errors)} lines of error": self.code in (1, 2) and len(errors) != 1,
            f"an error but exit status 0: {self.error}": self.code == 0 and bool(errors),
            f"a library's warning: {_warning(self.err)}": bool(_warning(self.err)),
            f"HDF5's own words: {self.err[:300]}": "HDF5-DIAG" in self.err,
        }
        return [f"`{self}`: {what}" for what, is_so in found.items() if is_so]

    def __str__(self) -> str:
        return " ".join(map(str, self.words))


class Running:
    """A command under way in a folder.

    Parameters
    ----------
    folder : Path
        Where it runs, so that its words may name everything relative to it.
    words : tuple
        Of the command line.
    size : int
        No file may grow beyond so many bytes; 0: as it likes.
    """

    def __init__(self, folder: Path, words: Words, size: int = 0) -> None:
        self.words = words
        self._streams: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in "oe"]  # noqa: SIM115
        ends = tuple(stream.fileno() for stream in self._streams)
        env = environment(OMP_NUM_THREADS="1", COLUMNS="100", HOME=str(folder))
        self.begun = time.monotonic()
        with _ONE:
            self._process = warm.Process(_there, (str(folder), size, words), env, ends)

    @property
    def ended(self) -> bool:
        with _ONE:
            return self._process.poll() is not None

    def wait_until(self, seconds: float) -> bool:
        """Wait until so long after its begin; say whether it still runs then."""
        while not self.ended and time.monotonic() < self.begun + seconds:
            time.sleep(0.001)
        return not self.ended

    def kill(self) -> None:
        self._process.kill()

    def outcome(self, limit: float = SECONDS) -> Outcome:
        """Wait for its end, watching; what takes too much is killed."""
        peak, hung = 0, False
        while not self.ended:
            peak = max(peak, _held(self._process.pid))
            hung = time.monotonic() > self.begun + limit
            if hung or peak > 1.2 * BYTES:
                self.kill()
            time.sleep(_WATCH)
        seconds = time.monotonic() - self.begun
        out, err = (_text(stream) for stream in self._streams)
        code = self._process.wait()
        return Outcome(self.words, code, out, err, seconds, peak, hung)


def _there(folder: str, size: int, words: Words) -> None:
    os.chdir(folder)
    if size:
        warm.without_room(size, *words)
    warm.command(*words)


def _warning(said: str) -> str:
    found = re.search(r"^.*:\d+: \w*Warning: .*$", said, re.M)
    return found[0] if found else ""


def _held(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended, or this is no Linux
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def _text(stream: IO[bytes]) -> str:
    with stream:
        stream.seek(0)
        return stream.read().decode("utf-8", "replace")

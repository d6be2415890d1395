"""What keeps a file from being read for now: a disk, a network, memory; no damage of the file.

Damaged images are skipped, and results say so ever after. What another try may read is therefore
no damage: it is tried again, and then ends the run, which goes on when it is given again.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from cnnlens.errors import CnnlensError

WAITS = (0.1, 0.5, 2.0)  # seconds before the second, third and fourth try
_PICTURE = 1 << 30  # bytes, about those of the largest picture that is decoded

# errors that a file, its name, or what is written in it makes, time after time
_OF_THE_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ),
    *(errno.EINVAL, errno.EFBIG, errno.EOVERFLOW, errno.ESPIPE, errno.ENXIO, errno.ENODEV),
}

Found = TypeVar("Found")


class UnreadFile(CnnlensError):  # noqa: N818  (named as DamagedImage is, beside which it is met)
    """A file that cannot be read for now, which says nothing of its content.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    reason : str
        What the system says, in a few words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        hint = "it is not skipped, as it may be whole; the same command tries again and goes on"
        super().__init__(f"{path} cannot be read: {reason}", hint)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadFile], tuple[Path, str]]:
        return type(self), (self.path, self.reason)  # so that other processes may raise it


class Unanswered(OSError):  # noqa: N818
    """What is far away did not answer, however often it was asked."""


class Refused(Unanswered, PermissionError):  # noqa: N818
    """What is far away is not for whoever asks, or not any more."""


def may_pass(error: BaseException, path: Path | str | None = None) -> bool:
    """Whether an error may be gone at another time, with the same file.

    A file whose permissions forbid it is as if damaged, which `state_of` tells from one that may
    be read.
    """
    if isinstance(error, MemoryError):
        return not _has_room()  # else the file asks for more than there is
    if isinstance(error, Unanswered):
        return True
    if not isinstance(error, OSError) or error.errno in (None, *_OF_THE_FILE):
        return False
    return not (isinstance(error, PermissionError) and path is not None and is_forbidden(path))


def is_forbidden(path: Path | str, mode: int | None = None) -> bool:
    """Whether permissions, its own or those of a folder above, forbid to read a file."""
    try:
        mode = os.stat(path).st_mode if mode is None else mode  # noqa: PTH116  (of very many)
    except OSError as error:
        return isinstance(error, PermissionError)
    return mode & 0o444 != 0o444 and not os.access(path, os.R_OK)  # a call that most files save


_HURRIES = ContextVar("_HURRIES", default=False)


@contextmanager
def hurrying(hurries: bool) -> Iterator[None]:
    """Let `patiently` try once alone, where waiting has shown to be of no use."""
    token = _HURRIES.set(hurries)
    try:
        yield
    finally:
        _HURRIES.reset(token)


def patiently(path: Path | str, read: Callable[[], Found]) -> Found:
    """Read a file, several times where it may be the machine that fails.

    Raises
    ------
    UnreadFile
        When it fails every time.
    """
    for wait in (*(() if _HURRIES.get() else WAITS), None):
        try:
            return read()
        except (OSError, MemoryError) as error:
            if not may_pass(error, getattr(error, "filename", None) or path):
                raise
            if wait is None or isinstance(error, Unanswered):  # who was asked often enough
                # a path into an archive stays one
                place = path if isinstance(path, Path) else Path(path)
                raise UnreadFile(place, _said(error)) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _said(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory is short"
    text = getattr(error, "strerror", None)
    return text.lower() if text else str(error)


def _has_room() -> bool:
    """Whether the system would give the memory that the largest picture takes."""
    try:
        mmap.mmap(-1, _PICTURE).close()
    except (OSError, MemoryError):
        return False
    return True

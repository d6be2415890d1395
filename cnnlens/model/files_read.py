"""Which files a user's code reads: what it makes of them is in no text of its own."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cnnlens.model.architectures.own_code import is_own

_CODE = {".py", ".pyc"}  # whose text counts without its comments, elsewhere
_OF_THE_SYSTEM = ("/proc/", "/sys/")  # they say another thing each time
_open: list[tuple[set[Path], bool]] = []  # who wants to know now, and whether of code, too


@contextmanager
def files_read(code: bool = False) -> Iterator[set[Path]]:
    """Collect the files that Python opens for reading meanwhile, other than installed ones; with
    `code`, those of code, too.

    What a library reads without Python's ``open``, as safetensors does, is not seen.
    """
    _listen()
    found: set[Path] = set()
    wanted = found, code
    _open.append(wanted)
    try:
        yield found
    finally:
        _open[:] = [one for one in _open if one is not wanted]  # equal sets are not the same one


@cache  # an audit hook stays as long as the process
def _listen() -> None:
    sys.addaudithook(_heard)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _open:
        return
    file, mode, flags = args
    writes = {*"wax+"} & {*mode} if mode else flags & (os.O_WRONLY | os.O_RDWR)
    if writes or not isinstance(file, str | bytes | os.PathLike):
        return
    path = Path(os.fsdecode(file)).absolute()
    if path.suffix != ".pyc" and is_own("", path):
        for found, code in _open:
            if code or path.suffix not in _CODE:
                found.add(path)


def contents(files: Iterable[Path]) -> list[list[str]]:
    """Return names of files and hashes of what they hold, in a fixed order, wherever they lie."""
    return sorted([file.name, _hash(file)] for file in files if is_lasting(file))


def is_lasting(file: Path) -> bool:
    """Whether a file says the same until it is written again."""
    return file.is_file() and not str(file).startswith(_OF_THE_SYSTEM)


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

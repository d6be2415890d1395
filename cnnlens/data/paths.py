"""What is asked of any path of a data set: in a folder, into an archive, or at an address."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from cnnlens.data.container import Container
from cnnlens.data.member_path import MemberPath, located
from cnnlens.data.seconds import await_after
from cnnlens.data.unread import UnreadFile, is_forbidden, patiently
from cnnlens.errors import CnnlensError

_LOOKED_AT = 16  # files of a data set whose content is read, at least, and twice as many at most
_END = 1 << 16  # bytes that are read of each end of one


def container_of(path: Path) -> Container | None:
    """Return what a path leads into; None of a path in a folder."""
    return path.container if isinstance(path, MemberPath) else None


def real_path(path: Path) -> Path:
    """Return a path without links; a link in a circle, which leads nowhere, stays."""
    if isinstance(path, MemberPath):
        return path.resolve()
    return Path(os.path.realpath(path))  # which `Path.resolve` refuses of such


def held(path: Path) -> Path:
    """Return a path whose content is read once, however often it is opened."""
    return path.held() if isinstance(path, MemberPath) and path.content is None else path


def file_source(path: Path) -> Path | IO[bytes]:
    """Return what other libraries open: the path, or a file where they know no such path."""
    return path.open("rb") if isinstance(path, MemberPath) else path


def file_state(path: Path | str, exact: bool = False) -> str:
    """Return a file's size and time, in seconds or `exact`, and whether it may not be read; of a
    member, its own state.

    Raises
    ------
    OSError
        When there is no such file.
    """
    if isinstance(path, MemberPath):
        return path.state
    found = os.stat(path)  # noqa: PTH116  (there may be hundreds of thousands)
    forbidden = "forbidden:" if is_forbidden(path, found.st_mode) else ""
    return f"{forbidden}{found.st_size}:{found.st_mtime_ns if exact else int(found.st_mtime)}"


def content_mark(path: Path | str) -> str:
    """Hash what tells a file from another of its size and time: the content, of a large one both
    its ends; empty where its state tells already, or nothing of it can be read.
    """
    place = path if isinstance(path, MemberPath) else Path(path)
    try:
        return patiently(place, lambda: _ends_mark(place))
    except UnreadFile:
        raise
    except (OSError, ValueError, CnnlensError):
        return ""


def _ends_mark(path: Path) -> str:
    is_told = isinstance(path, MemberPath) and path.is_told
    if is_told or not path.is_file():  # a pipe would be waited for
        return ""
    with path.open("rb") as file:
        start = file.read(_END)
        rest = file.seek(0, io.SEEK_END) - len(start)
        file.seek(-min(rest, _END), io.SEEK_END)
        return hashlib.sha256(start + file.read(_END)).hexdigest()[:16]


def state_of(
    files: Iterable[tuple[str, Path | str]], before: bytes = b"", *, exact: bool = False
) -> str:
    """Hash names, their files' sizes and modification times, and what is in some of the files,
    evenly spaced, after what came `before`.

    Folders that one loop wrote, as of clean and of noisy images, may agree in all names, sizes and
    times; to read every file would take as long as to decode it.

    Parameters
    ----------
    files : iterable of (str, path)
        Names, and where they are.
    before : bytes
        What else the hash stands for.
    exact : bool
        Times in nanoseconds instead of seconds: a file written twice within one is told apart, and
        copies on a disk with coarser times are others.
    """
    digest = hashlib.sha256(before)
    latest, apart = 0, 1
    read: list[Path | str] = []
    for number, (name, file) in enumerate(files):
        try:
            state = file_state(file, exact)
            if not (exact or isinstance(file, MemberPath)):
                latest = max(latest, int(state.rpartition(":")[2]))
        except (OSError, ValueError):
            state = "missing" if _is_lost(file) else file_state(file, exact)
        digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogateescape"))
        if number % apart == 0:
            read.append(file)
        if len(read) > 2 * _LOOKED_AT:
            read, apart = read[::2], 2 * apart
    with ThreadPoolExecutor(_LOOKED_AT) as pool:  # each may be far away
        digest.update("\n".join(pool.map(content_mark, read)).encode())
    await_after(latest)
    return digest.hexdigest()[:16]


def _is_lost(file: Path | str) -> bool:
    """Whether a file of which the system says nothing is gone, and not away for a moment."""
    try:
        patiently(file, lambda: file_state(file))
    except (OSError, ValueError):
        return True
    return False


def below(root: Path, name: str) -> Path | str:
    """Return a file below a folder, in whichever way is fast where there are very many."""
    return root / name if isinstance(root, MemberPath) else f"{root}/{name}"


def name_of(root: Path) -> str:
    """Name the data that is in a folder, an archive, or at an address."""
    found = container_of(root)
    if found is not None and isinstance(root, MemberPath) and root.is_whole:
        return found.title
    return re.sub(r"[{}*:]+", "", root.resolve().name)


def readers_of(root: Path, workers: int) -> int:
    """Return how many threads read: those that decode, or more where each waits long."""
    found = container_of(root)
    return max(workers, found.readers) if found is not None and workers else workers


def is_data(path: str) -> bool:
    """Whether a folder, or one in an archive, is where it was remembered to be."""
    try:
        return located(path).is_dir()
    except (CnnlensError, OSError):  # of a disk that went away, say
        return False


def is_there(root: Path) -> bool:
    """Whether a data folder, or what it lies in, can still be reached."""
    found = container_of(root)
    return root.is_dir() if found is None else found.is_there()

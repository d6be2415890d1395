"""What is asked of any path of a data set: in a folder, into an archive, or at an address."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from cnnlens.data.container import Container
from cnnlens.data.member_path import MemberPath, located
from cnnlens.data.seconds import await_after
from cnnlens.errors import CnnlensError


def container_of(path: Path) -> Container | None:
    """Return what a path leads into; None of a path in a folder."""
    return path.container if isinstance(path, MemberPath) else None


def held(path: Path) -> Path:
    """Return a path whose content is read once, however often it is opened."""
    return path.held() if isinstance(path, MemberPath) and path.content is None else path


def file_source(path: Path) -> Path | IO[bytes]:
    """Return what other libraries open: the path, or a file where they know no such path."""
    return path.open("rb") if isinstance(path, MemberPath) else path


def file_state(path: Path | str, exact: bool = False) -> str:
    """Return a file's size and time, in seconds or `exact`; of a member, its own state.

    Raises
    ------
    OSError
        When there is no such file.
    """
    if isinstance(path, MemberPath):
        return path.state
    found = os.stat(path)  # noqa: PTH116  (there may be hundreds of thousands)
    return f"{found.st_size}:{found.st_mtime_ns if exact else int(found.st_mtime)}"


def state_of(
    files: Iterable[tuple[str, Path | str]], before: bytes = b"", *, exact: bool = False
) -> str:
    """Hash names, and their files' sizes and modification times, after what came `before`.

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
    latest = 0
    for name, file in files:
        try:
            state = file_state(file, exact)
            if not (exact or isinstance(file, MemberPath)):
                latest = max(latest, int(state.rpartition(":")[2]))
        except (OSError, ValueError):
            state = "missing"
        digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogateescape"))
    await_after(latest)
    return digest.hexdigest()[:16]


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
    except CnnlensError:
        return False


def is_there(root: Path) -> bool:
    """Whether a data folder, or what it lies in, can still be reached."""
    found = container_of(root)
    return root.is_dir() if found is None else found.is_there()

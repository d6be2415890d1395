"""Locks between processes, also where a file system has none of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import filelock

_NONE = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_SOFT = ".soft.lock"
_PATIENCE = 20.0  # seconds to wait for a lock that is held for an instant


def is_lockless(folder: Path) -> bool:
    """Whether a file system gives no locks: Lustre mounted without ``flock``, for one."""
    try:
        import fcntl
    except ImportError:  # Windows has locks of another kind
        return False
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:  # which is said where something is to be written
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NONE
    finally:
        os.close(held)
    return False


def lock_at(path: Path, patience: float = 0) -> filelock.BaseFileLock:
    """Make a lock that is held on a file in a folder that is there.

    Where the file system has no locks, a file that stands beside it while it is held is one: of
    another name, since what a lock of the usual kind leaves holds nothing.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    patience : float
        Seconds to wait for another process; then `filelock.Timeout` is raised.
    """
    import filelock

    if is_lockless(path.parent):
        return filelock.SoftFileLock(path.with_suffix(_SOFT), timeout=patience)
    return filelock.FileLock(path, timeout=patience)


def or_remove(timeout: filelock.Timeout) -> str:
    """Say what frees a lock that a killed process may have left; empty of one that goes with it."""
    file = timeout.lock_file
    return f"; where none runs, remove {file}" if file.endswith(_SOFT) else ""


@contextmanager
def in_use(path: Path, alone: bool) -> Iterator[bool]:
    """Hold a file with all others that do so, for as long as the block runs or the process lives.

    Yields whether it is held: not where it was to be had `alone` first, and others hold it. Where
    there are no such locks nobody is seen.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield True
        return
    if is_lockless(path.parent):
        yield True
        return
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _is_held(fcntl, held, alone)
    finally:
        fcntl.flock(held, fcntl.LOCK_UN)  # processes forked meanwhile have it open, too
        os.close(held)


def _is_held(fcntl: Any, held: int, alone: bool) -> bool:
    try:
        if alone:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for an instant, so that two processes do not list over each other."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield
        return
    if is_lockless(folder):
        yield from _alone_softly(folder)
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _alone_softly(folder: Path) -> Iterator[None]:
    """Do so by a file; one that stays was left by a killed process, and is passed over."""
    import filelock

    lock = lock_at(folder / ".list.lock", _PATIENCE)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield
        return
    try:
        yield
    finally:
        lock.release()

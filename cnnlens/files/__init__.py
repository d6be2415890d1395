"""Files are written whole or not at all: a temporary name beside the target, then a rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError

_REASONS = {
    errno.ENOSPC: (
        "the disk is full",
        "free some space, or put the workspace elsewhere with -w DIR",
    ),
    errno.EFBIG: ("the file passes a size limit", "raise the limit (ulimit -f), or use -w DIR"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or use another -w DIR"),
    errno.EROFS: ("the file system is read-only", "choose a writable workspace with -w DIR"),
    errno.EACCES: ("permission denied", "choose a writable workspace with -w DIR"),
    errno.EPERM: ("operation not permitted", "choose a writable workspace with -w DIR"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another -w DIR"),
    errno.EISDIR: ("a folder is in the way", "remove it, or choose another -w DIR"),
    errno.EEXIST: ("a file is in the way", "remove it, or choose another -w DIR"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one, or a shorter -w DIR"),
}


# what `atomic` and `atomic_folder` call their work in progress: its target and the process at work
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]{6}\.(?P<end>tmp|old)")

_ROOMY = 200  # bytes of a file's name; systems take 255


def writing_error(path: Path, error: OSError) -> CnnlensError:
    """Turn an operating-system error met while writing `path` into a message a user can act on."""
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    named = Path(*(m["name"] if (m := _TEMPORARY.fullmatch(p)) else p for p in path.parts))
    return CnnlensError(f"cannot write {named}: {reason}", hint)


def reading_error(path: Path, error: OSError) -> CnnlensError:
    """Turn an operating-system error met while reading `path` into a message: it may be whole."""
    reason = {errno.EISDIR: "a folder is in its place", errno.EACCES: "permission denied"}.get(
        error.errno or 0, (error.strerror or str(error)).lower()
    )
    hint = "nothing was changed: try again"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "nothing was changed: see who may read it"
    if error.errno == errno.EISDIR:
        hint = "nothing was changed: move the folder away, or use another -w DIR"
    return CnnlensError(f"cannot read {path}: {reason}", hint)


class LostError(CnnlensError):
    """What a file held is lost: it is damaged, or not there. One that cannot be read is neither."""


def using_error(error: OSError) -> CnnlensError | None:
    """Turn an operating-system error of a file, or of a full disk, into a message; else None."""
    if error.filename:
        wrong = writing_error(Path(error.filename), error)
        return CnnlensError(wrong.message.replace("cannot write", "cannot use"), wrong.hint)
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        reason = (error.strerror or str(error)).lower()
        return CnnlensError(f"cannot write: {reason}", "free some space")
    if error.errno and (named := _OF_HDF5.search(str(error))):
        return using_error(OSError(error.errno, os.strerror(error.errno), named[1]))
    return None


_OF_HDF5 = re.compile(r"unable to \w+ file: name = '([^']+)'")  # which names files in words alone


def free_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """Give a name that is not taken: ``cat``, else ``cat-2``, ``cat-3``, …"""
    free, number = name, 2
    while is_taken(free):
        free, number = f"{name}-{number}", number + 1
    return free


def make_folder(path: Path) -> Path:
    """Create `path` and its parents, or say why that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error(path, error) from error
    return path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well and vanishes otherwise.

    Raises
    ------
    CnnlensError
        When the folder cannot be written to or the disk is full.
    """
    make_folder(path.parent)
    _clear_leftovers(path)
    temporary = path.with_name(f".{_at_work(path.name)}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno in _REASONS:
            raise writing_error(path, error) from error
        raise
    finally:
        with suppress(OSError):  # a read-only file system refuses even what is not there
            temporary.unlink(missing_ok=True)


def _at_work(name: str) -> str:
    """Name what is being written, shorter where a name leaves no room for more around it."""
    raw = os.fsencode(name)
    if len(raw) <= _ROOMY:
        return name
    start = raw[: _ROOMY // 2].decode("utf-8", "ignore")
    return f"{start}~{hashlib.sha256(raw).hexdigest()[:12]}"


def _clear_leftovers(path: Path) -> None:
    """Remove what a killed process left of `path`; bring back what it had moved aside."""
    name = _at_work(path.name)
    with suppress(OSError):
        for entry in list(path.parent.iterdir()):
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None or found["name"] != name or _is_running(int(found["pid"])):
                continue
            if found["end"] == "old" and not path.exists():
                entry.rename(path)
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or a number no process has
        return True
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` when the block ends well, else vanishes.

    Raises
    ------
    CnnlensError
        When it cannot be written.
    """
    make_folder(path.parent)
    _clear_leftovers(path)
    mark = f"{os.getpid()}-{secrets.token_hex(3)}"
    fresh, stale = (
        path.with_name(f".{_at_work(path.name)}.{mark}.{end}") for end in ("tmp", "old")
    )
    try:
        fresh.mkdir()
        yield fresh
        if path.exists():  # moved aside, so that the place is never half old, half new
            path.rename(stale)
        fresh.rename(path)
    except CnnlensError as error:
        if fresh.exists():
            raise
        # a reader missed its file: people know the folder's own name, not that of work in progress
        raise CnnlensError(f"{path} vanished while it was written", "begin again") from error
    except OSError as error:
        if error.errno in _REASONS:
            raise writing_error(path, error) from error
        raise
    finally:
        if stale.exists() and not path.exists():  # also when Ctrl-C came between the two renames
            stale.rename(path)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


Mark = tuple[int, int, int]


def marked(path: Path) -> Mark | None:
    """Tell a file from any that is written over it later, unread; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all; what is no Unicode in a name as an escape."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all."""
    write_text(path, encodable_json(document, "utf-8"))


def write_npz(path: Path, **arrays: Any) -> None:
    """Write arrays by name, compressed."""
    import numpy as np

    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def to_json(document: Any, only_ascii: bool = False) -> str:
    """Format a document as every JSON of cnnlens is formatted (and as ``--json`` prints it)."""
    return json.dumps(document, indent=2, ensure_ascii=only_ascii, allow_nan=False) + "\n"


def encodable_json(document: Any, encoding: str) -> str:
    """Format a document, with JSON's escapes where an encoding lacks what it names."""
    text = to_json(document)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # a file name that is no Unicode, for one
        return to_json(document, only_ascii=True)
    return text


def mark(value: Any) -> str:
    """Hash what may be long: equal marks, equal values."""
    return hashlib.sha256(to_json(value, only_ascii=True).encode()).hexdigest()[:16]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")


_REDO = "remove it, or redo the command with --force"


def read_json(path: Path, finite: bool = False, redo: str = _REDO) -> Any:
    """Read a JSON document; a missing, damaged or foreign file is named as such.

    Where it is to be written again, all its numbers must be `finite`, as JSON has them. `redo` is
    the way out where it is damaged.

    Raises
    ------
    LostError
        When it is missing or damaged.
    CnnlensError
        When the system does not let it be read.
    """
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_refuse if finite else None
        )
    except FileNotFoundError:
        raise LostError(f"{path} does not exist") from None
    except OSError as error:
        raise reading_error(path, error) from error
    except ValueError as error:
        raise LostError(f"{path} is damaged: {error}", redo) from error

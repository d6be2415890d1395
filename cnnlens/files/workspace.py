"""``workspace.json``: what a folder of results is about, read with care, written under a lock."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import LostError, read_json, write_json, writing_error
from cnnlens.files.locks import lock_at, or_remove

_FORMAT = 1
_PATIENCE = 60.0  # seconds to wait for another process, which holds the file for an instant
_FEW = 8  # items of a list that are written out in a command
_EMPTY: dict[str, Any] = {
    "format": _FORMAT,
    "model": None,
    "data": [],
    "layers": [],
    "commands": [],
}

_ANEW = (
    "use another -w DIR; a command with MODEL and --force makes it anew, keeps the results of just "
    "that model and clears those of any other"
)

# the keys that code here relies on, of each entry of a list
_ENTRIES = {"data": ("path", "name", "kind"), "layers": ("name", "place")}


def empty_document() -> dict[str, Any]:
    """Return what a folder holds of which nothing is known yet."""
    return copy.deepcopy(_EMPTY)


def read_document(folder: Path) -> dict[str, Any]:
    """Read what a folder is about; where there is no file, that is nothing.

    Raises
    ------
    LostError
        When it is damaged.
    CnnlensError
        When it cannot be read, or is of a newer cnnlens.
    """
    path = _path(folder)
    if not path.exists():
        return empty_document()
    document = read_json(path, redo=_ANEW)
    version = document.get("format", _FORMAT) if isinstance(document, dict) else 0
    if isinstance(version, int) and version > _FORMAT:
        raise CnnlensError(f"{path} was written by a newer cnnlens", "upgrade cnnlens")
    if not _is_sound(document):
        raise LostError(f"{path} is not a workspace of cnnlens, or damaged", _ANEW)
    return {**empty_document(), **document}


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Write it, with the versions of what wrote it; to be done while it is `locked`."""
    document["versions"] = versions()
    if "folders" in document:  # equal contents are equal bytes, whichever came first
        document["folders"] = document.pop("folders")
    write_json(_path(folder), document)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let other processes wait meanwhile, so that nobody erases what another one has recorded.

    Raises
    ------
    CnnlensError
        When another process does not let go of it, or the folder cannot be written to.
    """
    import filelock

    try:
        with lock_at(folder / ".workspace.lock", _PATIENCE):
            yield
    except filelock.Timeout as error:
        raise CnnlensError(
            f"{_path(folder)} is held by another process",
            f"wait for it, or use another -w DIR{or_remove(error)}",
        ) from None
    except OSError as error:
        raise writing_error(_path(folder), error) from error


def _path(folder: Path) -> Path:
    return folder / "workspace.json"


def versions() -> dict[str, str]:
    """Versions of what computes and writes."""
    return dict(_versions())


@cache  # to read them takes longer than to write what they are written into
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("cnnlens", "torch", "torchvision", "numpy", "h5py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---- what code relies on


def _is_sound(document: Any) -> bool:
    """Whether what a ``workspace.json`` holds is what code here relies on."""
    if not isinstance(document, dict) or not isinstance(document.get("format", _FORMAT), int):
        return False
    lists = ("commands", "folders", *_ENTRIES)
    if not all(isinstance(document.get(name, []), list) for name in lists):
        return False
    model = document.get("model")
    if model is not None and not (
        _has_texts(model, ("spec", "fingerprint")) and isinstance(model.get("options", {}), dict)
    ):
        return False
    return all(
        _has_texts(entry, keys) and _is_inside(entry["name"])
        for name, keys in _ENTRIES.items()
        for entry in document.get(name, [])
    )


def _is_inside(name: str) -> bool:
    """Whether a name stays in the folder that it names something in."""
    return name not in ("", ".", "..") and "/" not in name


def _has_texts(entry: Any, keys: tuple[str, ...]) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys)


# ---- the commands in it


def as_call(name: str, values: Mapping[str, Any]) -> str:
    """Write a call in Python as one would type it; what is no plain value is named by its type."""
    words = [f"{k}={_word(v)}" for k, v in values.items()]
    return f"lens.{name.replace('-', '_')}({', '.join(words)})"


def _word(value: Any) -> str:
    plain = (str, int, float, Path)
    if isinstance(value, (list, tuple)):
        few = len(value) <= _FEW and all(isinstance(one, plain) for one in value)
        return repr(value) if few else f"<{len(value)} items>"
    if not isinstance(value, plain):
        return f"<{type(value).__name__}>"
    return repr(str(value) if isinstance(value, Path) else value)

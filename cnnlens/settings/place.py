"""Where a MODEL lies: names of files that hold in every folder, and which of them are one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnlens.errors import UsageError


def given_path(name: str, value: Any) -> Path:
    """Take a path that Python gives under a name, as it is meant where that is done.

    Raises
    ------
    UsageError
        When it is none.
    """
    try:
        return Path(value).expanduser().absolute()
    except (TypeError, RuntimeError) as error:  # another type; the home of nobody
        raise UsageError(f"{name}={value!r} is no path: {error}", "give a str or a Path") from None


def portable(spec: str) -> str:
    """Make a MODEL that names a file independent of the current folder.

    A link to weights stays one, since what belongs to them lies beside it: a hub's cache is made of
    links. Code is the same by whichever link.
    """
    file, colon, name = spec.rpartition(":")
    path = Path(spec)
    if path.exists():
        return str(path.resolve()) if path.suffix == ".py" else _absolute(path)
    if colon and file.endswith(".py") and Path(file).exists():
        return f"{Path(file).resolve()}:{name}"
    return spec


def _absolute(path: Path) -> str:
    plain = os.path.abspath(path)  # noqa: PTH100  (Path.absolute leaves `..` in)
    with suppress(OSError):
        if Path(plain).samefile(path):
            return plain
    return str(path.parent.resolve() / path.name)  # `..` behind the link of a folder


def same_place(one: str, other: str) -> bool:
    """Whether two portable MODELs are the same file, with the same beside it.

    Two links to one file are not: they may lie in different folders.
    """
    if one == other:
        return True
    real = os.path.realpath(one)
    if real != os.path.realpath(other):
        return False
    return _in_real_folder(one) == _in_real_folder(other) or real in (one, other)


def _in_real_folder(spec: str) -> str:
    folder, name = os.path.split(spec)
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118

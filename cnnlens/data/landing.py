"""A folder lands whole or not at all: filled under a temporary name beside it, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic_folder


@contextmanager
def whole_folder(out: Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends well, else vanishes.

    Raises
    ------
    CnnlensError
        When `out` is in the way: a file, or a folder with something in it. With `force` an
        earlier data set (a folder with ``index.csv``) is replaced; anything else never is.
    """
    out = Path(os.path.abspath(out))  # so that "." and "x/.." have a name  # noqa: PTH100
    _check_free(out, force)
    with atomic_folder(out) as folder:
        yield folder
        _check_free(out, force)  # something may have come there meanwhile


def _check_free(out: Path, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir() or out.is_symlink():
        raise CnnlensError(f"{out} exists and is not a folder", "choose another place")
    if not any(out.iterdir()):
        return
    if not force:
        raise CnnlensError(
            f"{out} is not empty", "choose another folder, or replace it with --force"
        )
    if not (out / "index.csv").is_file():
        raise CnnlensError(
            f"{out} is not empty and holds no data set that could be replaced",
            "choose another folder",
        )

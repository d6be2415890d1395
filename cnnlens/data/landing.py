"""A folder lands whole or not at all: filled under a temporary name beside it, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.files import make_folder, writing_error


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
    make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        _check_free(out, force)
        _put(temporary, out)
    except OSError as error:
        raise writing_error(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def _put(temporary: Path, out: Path) -> None:
    """Rename, with an earlier folder moved aside, so that the place is never half old, half new."""
    aside = temporary.with_suffix(".old")
    if out.exists():
        out.rename(aside)
    try:
        temporary.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)

"""Folders for what other libraries keep, where those that they would take may not be written.

As for a user without a home, in a container whose file system is read-only. numba then refuses to
be imported by UMAP, and matplotlib complains.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

_COMPILED = ("umap", "pynndescent")  # packages for which numba keeps what it compiles


def lend_to_matplotlib() -> None:
    """Give matplotlib a folder for as long as this process lasts, if it needs one."""
    if os.environ.get("MPLCONFIGDIR") or not sys.platform.startswith(("linux", "freebsd")):
        return
    usual = (("XDG_CONFIG_HOME", "~/.config"), ("XDG_CACHE_HOME", "~/.cache"))
    folders = [Path(os.environ.get(name) or place) for name, place in usual]
    if not all(_may_be_written(folder / "matplotlib") for folder in folders):
        os.environ["MPLCONFIGDIR"] = _for_now("matplotlib")


def lend_to_numba() -> None:
    """Give numba a folder for as long as this process lasts, if it needs one."""
    import numba
    import platformdirs

    if numba.config.CACHE_DIR or _may_be_written(
        Path(platformdirs.user_cache_dir("numba", appauthor=False))
    ):
        return
    if not all(_may_be_written(folder / "__pycache__") for folder in _packages(_COMPILED)):
        numba.config.CACHE_DIR = _for_now("numba")


def _packages(names: Iterable[str]) -> Iterable[Path]:
    for name in names:
        if spec := importlib.util.find_spec(name):
            yield from map(Path, spec.submodule_search_locations or ())


def _may_be_written(folder: Path) -> bool:
    """Whether a folder, which need not be there yet, may be made and written to."""
    try:
        folder = folder.expanduser()
    except RuntimeError:  # nobody knows where home is
        return False
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _for_now(name: str) -> str:
    folder = tempfile.mkdtemp(prefix=f"cnnlens-{name}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

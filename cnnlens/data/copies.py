"""Files that are copies of a data set's, whatever these are called and wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

_MOST = 256  # files of one size that are read; uncompressed images are all of one, and no hint


class Copies:
    """Finds files with the content of a given one. Only those of its very size are read.

    Parameters
    ----------
    files : iterable of pathlib.Path
        Where to look; those that cannot be read are no copies.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = files

    @cached_property
    def _by_size(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        for file in self._files:
            if (size := _size(file)) is not None:
                found.setdefault(size, []).append(file)
        return found

    def of(self, path: Path) -> list[Path]:
        """Those that hold just what is in a file; none where there are too many of its size."""
        size = _size(path)
        alike = self._by_size.get(size, []) if size else []
        if not alike or len(alike) > _MOST:
            return []
        wanted = path.read_bytes()
        return [file for file in alike if _content(file) == wanted]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # an image in memory, or one that is gone
        return None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None

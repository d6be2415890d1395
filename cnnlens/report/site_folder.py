"""The folder that a site is written to: whole or not at all, and in nobody else's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import atomic_folder, read_json

MARK = "site.json"
MAKER = "cnnlens"
_FOLDERS = ("units", "images", "pictures", "report_files")
_FILES = (MARK, "index.html", "report.html", "site.css", "site.js", "units.js", ".nojekyll")
_ENDINGS = (".html", ".json", ".webp", ".csv", ".png", ".svg")
_ELSEWHERE = "name another folder with --site DIR"


@contextmanager
def site_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends well.

    What is there already is replaced where it is a site of ours and nothing else.

    Raises
    ------
    UsageError
        When `path` is anything else; it is left as it is.
    CnnlensError
        When it cannot be written.
    """
    folder = path.resolve()
    check_folder(folder, path)
    with atomic_folder(folder) as fresh:
        yield fresh


def check_folder(folder: Path, named: Path) -> None:
    """Raise UsageError where a site cannot take a folder's place (see `site_folder`)."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{named} is a file", _ELSEWHERE)
    if Path.cwd().is_relative_to(folder):
        raise UsageError(f"{named} is where this command runs", f"go elsewhere, or {_ELSEWHERE}")
    if not any(folder.iterdir()):
        return
    if not _is_ours(folder):
        raise UsageError(
            f"{named} holds something else than a site of cnnlens; it is left as it is",
            _ELSEWHERE,
        )
    if foreign := next(_foreign(folder), None):
        raise UsageError(
            f"{named} holds {foreign.relative_to(folder)}, which is no part of its site; "
            "it is left as it is",
            f"move that elsewhere, or {_ELSEWHERE}",
        )


def _is_ours(folder: Path) -> bool:
    try:
        document = read_json(folder / MARK)
    except CnnlensError:
        return False
    return isinstance(document, dict) and document.get("made_by") == MAKER


def _foreign(folder: Path) -> Iterator[Path]:
    """Find what no site has."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if here == folder:
            yield from (here / name for name in folders if name not in _FOLDERS)
            yield from (here / name for name in files if name not in _FILES)
        else:
            yield from (here / name for name in files if not name.endswith(_ENDINGS))

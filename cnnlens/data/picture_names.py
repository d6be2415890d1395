"""What pictures made of images are called, and how a path is written without its machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnlens.data.remote import is_address

_LONGEST = 230  # bytes of a picture's name without its ending; systems take 255 with it


def picture_names(paths: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[str]:
    """Name pictures by their images' stems, with as many parent folders as make them unique.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        All different.
    taken : mapping of str to str, optional
        Names that are in use already, and the place (see `GivenImage.mark`) of each one's image.

    Returns
    -------
    list of str
        ``cat`` for ``a/cat.jpg``; ``a__cat`` where ``b/cat.jpg`` is there too. Where images differ
        in nothing but their ending, it joins the name: ``cat.jpg``, ``cat.png``. One too long for
        a file's name is cut, and told apart by a hash.
    """
    taken = taken or {}
    real = [path.resolve() for path in paths]
    known = {place: name for name, place in taken.items()}  # an image keeps the name it has
    return [
        known.get(place_of(path)) or _unique(path, [p for p in real if p != path], taken)
        for path in real
    ]


def _unique(path: Path, others: list[Path], taken: Mapping[str, str]) -> str:
    depth = len(path.parts) - 1
    for stem in (True, False):
        for parents in range(depth):
            name = _name(path, parents, stem)
            clash = any(_name(other, parents, stem) == name for other in others)
            if not clash and taken.get(name, place_of(path)) == place_of(path):
                return name
    return _name(path, depth, False)


def _name(path: Path, parents: int, stem: bool) -> str:
    folders = path.parts[1:-1]
    above = folders[len(folders) - parents :] if parents else ()
    return fitting("__".join([*above, path.stem if stem else path.name]))


def fitting(name: str) -> str:
    """Cut a picture's name where it leaves no room for an ending; a hash tells it apart."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST:
        return name
    start = raw[: _LONGEST - 7].decode("utf-8", "ignore")
    return f"{start}~{hashlib.sha256(raw).hexdigest()[:6]}"


def place_of(path: Path) -> str:
    """Tell an image by where it is, without saying where."""
    text = str(path.resolve()).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def shown_path(path: Path) -> str:
    """Write a path without the machine it is on: as typed, or its last folder and its name."""
    whole = path.is_absolute() or is_address(str(path))
    return str(path) if not whole else "/".join(path.parts[-2:]).lstrip("/")

"""What pictures made of images are called, and how a path is written without its machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache, partial
from pathlib import Path

from cnnlens.data.addresses import is_address
from cnnlens.data.member_path import MemberPath
from cnnlens.data.paths import file_state, real_path

_LONGEST = 230  # bytes of a picture's name without its ending; systems take 255 with it


def picture_names(paths: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[str]:
    """Name pictures by their images' stems, with as many parent folders as make them unique.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        All different.
    taken : mapping of str to str, optional
        Names that are in use already, and the mark (see `mark_of`) of each one's image.

    Returns
    -------
    list of str
        ``cat`` for ``a/cat.jpg``; ``a__cat`` where ``b/cat.jpg`` is there too. Where images differ
        in nothing but their ending, it joins the name: ``cat.jpg``, ``cat.png``. One too long for
        a file's name is cut, and told apart by a hash. An image keeps the name that it has, also
        where it was replaced, or where its folder was moved.
    """
    taken = taken or {}
    real = [real_path(path) for path in paths]
    at_place = {place_in(mark): name for name, mark in taken.items()}
    found = {path: at_place[at] for path in real if (at := place_of(path)) in at_place}
    free = _by_content(taken, {*found.values()})
    often = cache(partial(_often, {*real}))
    for path in real:
        if path not in found:
            name = _moved(path, free.get(content_in(mark_of(path)), [])) if free else None
            found[path] = name or _unique(path, often, taken)
    return [found[path] for path in real]


def _by_content(taken: Mapping[str, str], spoken: set[str]) -> dict[str, list[str]]:
    """Names in use that nobody has spoken for, by what is in their images."""
    found: dict[str, list[str]] = {}
    for name, mark in taken.items():
        if name not in spoken and (content := content_in(mark)):
            found.setdefault(content, []).append(name)
    return found


def _moved(path: Path, same: list[str]) -> str | None:
    """Take the name that a file had elsewhere from those of equal files; one renamed has none."""
    for name in same:
        if name.rpartition("__")[2] in (path.stem, path.name):
            same.remove(name)  # copies have a name each
            return name
    return None


def _often(paths: Collection[Path], parents: int, stem: bool) -> Counter[str]:
    """Count the names that images have with so many folders, all at once: there may be many."""
    return Counter(_name(path, parents, stem) for path in paths)


def _unique(
    path: Path, often: Callable[[int, bool], Counter[str]], taken: Mapping[str, str]
) -> str:
    depth = len(path.parts) - 1
    for stem in (True, False):
        for parents in range(depth):
            name = _name(path, parents, stem)
            if often(parents, stem)[name] == 1 and name not in taken:
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
    text = str(real_path(path)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def mark_of(path: Path) -> str:
    """Tell an image by where it is and what is in it: equal after the @, equal content.

    The place is a hash, since what is shared says nothing of the machine it was made on. An image
    that cannot be read, which is said when its turn comes, equals no other.
    """
    place = place_of(path)
    try:
        return f"{place}@{_content(path, file_state(path, exact=True))}"
    except OSError:
        return f"{place}@unreadable {place}"


def place_in(mark: str) -> str:
    """The place that a mark says; those of earlier versions say no content."""
    return re.split("[@:]", mark, maxsplit=1)[0]


def content_in(mark: str) -> str:
    """The content that a mark says; empty for one of an earlier version."""
    return mark.partition("@")[2].partition(":")[0]


@lru_cache(maxsize=1 << 17)  # more than are named: each file is read once
def _content(path: Path, state: str) -> str:
    """Hash a file's content; of what lies in an archive or at an address, its checksum if known."""
    if isinstance(path, MemberPath):
        known = state.encode("utf-8", "surrogateescape")
        if not path.has_checksum:
            with suppress(OSError):  # it cannot be read, which is said when its turn comes
                known = path.read_bytes()
        return hashlib.sha256(known).hexdigest()[:16]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def shown_path(path: Path) -> str:
    """Write a path without the machine it is on: as typed, or its last folder and its name."""
    whole = path.is_absolute() or is_address(str(path))
    return str(path) if not whole else "/".join(path.parts[-2:]).lstrip("/")

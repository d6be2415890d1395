"""What reading a whole data set found; how every image of it is looked at, and what is odd."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnlens.data.ahead import read_ahead
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.data.unread import UnreadFile, hurrying

_AHEAD = 64
_HOPELESS = 3  # images that cannot be read one after the other, until none is waited for
_NAMED = 5  # things that a note names before it counts the rest


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `where` is a row of a table or an image's path."""

    where: str
    what: str


@dataclass(frozen=True)
class Report:
    """The outcome of reading a data set.

    Attributes
    ----------
    root, kind : str
        The folder that was read and what it is ("images", "classes", "broden", "parts").
    images : int
        Rows of ``index.csv``, or image files.
    checked : int
        Those that could be looked at one by one; malformed rows could not.
    problems : tuple of Problem
        What makes `dissect` skip an image or refuse the data set, in the data's order.
    notes : tuple of str
        Oddities that do no harm.
    categories : int
        Number of class folders, where there are some.
    """

    root: str
    kind: str
    images: int
    checked: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    categories: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def summary(self) -> str:
        """The outcome in a line."""
        count = len(self.problems)
        classes = f"{self.categories} class{'' if self.categories == 1 else 'es'}"
        kind = classes if self.categories else self.kind
        return (
            f"{self.root}: {kind}, {self.checked} of {self.images} checked, "
            f"{count or 'no'} problem{'' if count == 1 else 's'}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and strings, for JSON."""
        return {**asdict(self), "ok": self.ok}


def looked_at(
    images: ImageSet,
    look: Callable[[int], list[str]],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, str]]:
    """Look at every image in threads; yield what is wrong in the data's order."""
    unread = 0

    def seen(index: int) -> list[str]:
        nonlocal unread
        try:
            with hurrying(unread >= _HOPELESS):
                found = look(index)
        except UnreadFile as away:
            unread += 1
            return [f"{away.path.name} cannot be read: {away.reason}"]
        unread = 0
        return found

    total = len(images.paths)
    with closing(read_ahead(seen, range(total), os.cpu_count() or 1, _AHEAD)) as found:
        for index, faults in enumerate(found):
            yield from ((index, what) for what in faults)
            if progress is not None:
                progress(index + 1, total)


def bad_image(images: ImageSet, index: int) -> list[str]:
    """Say why an image cannot be read."""
    try:
        images.load(index)
    except DamagedImage as damage:
        return [f"image {damage.reason}"]
    return []


def named(what: str, names: list[str]) -> str:
    """Name the first of many things."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}: {', '.join(names[:_NAMED])}{more}"


# -- what is odd about a folder's images and does no harm by itself: said, never mended -----------

_TINY = 8  # pixels of a shorter side
_SAME = 3  # paths of files of equal content
_LONG = 4  # times the shorter side


def odd_sizes(images: ImageSet, sizes: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    """Name images that little is left of, by the width and height of each that can be read."""
    shown = {k: f"{images.paths[k]} ({h}×{w})" for k, (w, h) in sorted(sizes.items())}
    tiny = [shown[k] for k in shown if min(sizes[k]) < _TINY]
    long = [shown[k] for k in shown if max(sizes[k]) > _LONG * min(sizes[k])]
    if tiny:
        yield named(f"images of less than {_TINY} pixels a side", tiny)
    if long and not images.aligned:
        yield named("images so long that a crop of their centre shows little", long)


def same_images(images: ImageSet) -> Iterator[str]:
    """Name images that are there several times, those of several classes first."""
    of = dict(zip(images.paths, images.image_categories or images.paths, strict=True))
    groups = same_files(images.root, images.paths)
    apart = [one for one in groups if images.image_categories and len({of[p] for p in one}) > 1]
    if apart:
        yield named("the same image in several classes", list(map(equated, apart)))
    if again := [equated(one) for one in groups if one not in apart]:
        yield named("the same image several times", again)


def same_files(root: Path, paths: Sequence[str]) -> list[tuple[str, ...]]:
    """Group files of equal content; only those of equal size are read."""
    by_size = _grouped(paths, lambda path: (root / path).stat().st_size)
    return [
        same
        for one in by_size
        for same in _grouped(one, lambda path: hashlib.sha256((root / path).read_bytes()).digest())
    ]


def equated(paths: Sequence[str]) -> str:
    """Write files of equal content."""
    more = f" and {len(paths) - _SAME} more" if len(paths) > _SAME else ""
    return " = ".join(paths[:_SAME]) + more


def _grouped(paths: Sequence[str], key: Callable[[str], object]) -> list[tuple[str, ...]]:
    """Group paths by a key; those that stand alone or cannot be read are left out."""
    found: dict[object, list[str]] = {}
    for path in paths:
        with suppress(OSError):
            if value := key(path):
                found.setdefault(value, []).append(path)
    return [tuple(one) for one in found.values() if len(one) > 1]

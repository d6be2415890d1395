"""What reading a whole data set found, and how every image of it is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from cnnlens.data.batches import read_ahead
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage

_AHEAD = 64
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
    total = len(images.paths)
    with closing(read_ahead(look, range(total), os.cpu_count() or 1, _AHEAD)) as found:
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

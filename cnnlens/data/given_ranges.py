"""Which values become black and white in deep images that were named one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnlens.data.given import GivenImage
from cnnlens.data.paths import real_path
from cnnlens.data.ranges import NO_RANGES, Bounds, Ranges

_Noted = tuple[Ranges, list[str]]


@dataclass(frozen=True)
class KnownData:
    """A data set that a workspace knows, and how deep its files are taken.

    Attributes
    ----------
    name : str
        What it is called there.
    path : str
        Where it is.
    split : str
        The part of it that was read; empty for all.
    ranges : Ranges
        Which of its values become black and white.
    """

    name: str
    path: str
    split: str = ""
    ranges: Ranges = NO_RANGES

    @classmethod
    def of_entries(cls, entries: Iterable[Mapping[str, Any]]) -> list[KnownData]:
        """Read a workspace's entries."""
        return [
            cls(e["name"], e["path"], e.get("split") or "", Ranges.from_dict(e.get("range") or {}))
            for e in entries
        ]

    def above(self, path: str) -> int:
        """Say how much of an image's path leads to this data set: 0 where it is not in it."""
        root = self.path.rstrip("/")
        inner = f"{root}/{self.split}" if self.split else root
        return next((len(at) for at in (inner, root) if path.startswith(f"{at}/")), 0)


def with_ranges(
    images: Sequence[GivenImage], bounds: Bounds | None, data: Sequence[KnownData]
) -> tuple[list[GivenImage], list[str]]:
    """Find which values of deep images become black and white; say it.

    Parameters
    ----------
    images : sequence of GivenImage
        As named.
    bounds : (float, float), optional
        The range of all of them.
    data : sequence of KnownData
        That were used before, the last one last. Images in one of them are taken as it is; those
        in none as the last deep one, where they stay within its range, else they have their own,
        together.

    Returns
    -------
    list of GivenImage
        The images, in their order.
    list of str
        What is to be said.
    """
    of: dict[KnownData | None, list[int]] = {}
    for place, image in enumerate(images):
        of.setdefault(None if bounds else _holding(image, data), []).append(place)
    last = next((one for one in reversed(data) if one.ranges), None)
    found, notes = [*images], list[str]()
    for held, places in of.items():
        some = [images[place] for place in places]
        ranges, said = _ranges_of(some, bounds, held or last, within=held is None)
        notes += [note for note in said if note not in notes]
        for place in places if ranges else ():
            found[place] = replace(images[place], ranges=ranges)
    return found, notes


def _holding(image: GivenImage, data: Sequence[KnownData]) -> KnownData | None:
    """Find the data set that an image is in: of several the innermost, then the last used."""
    path = str(real_path(image.path))
    held = max(reversed(data), key=lambda one: one.above(path), default=None)
    return held if held is not None and held.above(path) else None


def _ranges_of(
    images: Sequence[GivenImage], bounds: Bounds | None, data: KnownData | None, within: bool
) -> _Noted:
    """Find the ranges of some images: the data set's, `within` which they may have to stay."""
    from cnnlens.data.survey import survey

    found, _, notes = survey([image.path for image in images], bounds)
    if data is None:
        return found, notes
    taken = {
        kind: wide
        for kind, low, high in found.known
        if (wide := data.ranges.of(kind)) and (not within or wide[0] <= low < high <= wide[1])
    }
    if not taken or (within and all((kind, *wide) in found.known for kind, wide in taken.items())):
        return found, notes
    known = tuple((kind, *taken.get(kind, (low, high))) for kind, low, high in found.known)
    words = f"black to white are the values that they are in {data.name}"
    return replace(found, known=known), [words]

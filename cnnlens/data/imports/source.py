"""What a kind of data set gives to be imported: its images, and how their labels are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnnlens.data.tables import Cells, Numbers
from cnnlens.data.walk import list_files
from cnnlens.files import free_name

PLANES = "labels"  # the folder of the label planes, below images/
NAMED = 5  # things that a note names before it counts the rest

Size = tuple[int, int]  # (height, width)
Left = tuple[str, str]  # an image that is left out, and why


class Unusable(Exception):  # noqa: N818
    """An image cannot be imported: it is left out, counted and named."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Read:
    """The labels of one image: cells by category; what has no name and counts as nothing; and what
    else is to be said, with the number of images.
    """

    cells: Cells
    odd: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Photo:
    """One image: its file, its name below ``images/``, its split, and how its labels are read.

    `labels` raises `Unusable` where they cannot be read.
    """

    file: Path
    name: str
    split: str
    labels: Callable[[], Read]


@dataclass
class Source:
    """A data set to be imported.

    Attributes
    ----------
    numbers : mapping
        Label names by number, per category; numbers are unique over all categories.
    photos : sequence of Photo
        Its images, in the order of the rows to be written.
    left_out : list of (image, reason)
        Images that are known to be of no use.
    notes : list of str
        What was assumed, for the user.
    """

    numbers: Numbers
    photos: Sequence[Photo]
    left_out: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# ---- what the kinds of data sets have in common


def pictures(folder: Path) -> list[str]:
    """List the images below a folder, masks included: paths relative to it, in a fixed order."""
    return list(list_files(folder).images)


def by_stem(paths: Iterable[str]) -> tuple[dict[str, str], list[Left]]:
    """Paths by themselves without ending; of several that differ in it alone, the first."""
    found: dict[str, str] = {}
    left: list[Left] = []
    for path in paths:
        first = found.setdefault(stem_of(path), path)
        if first != path:
            left.append((path, f"{first} bears the same name"))
    return found, left


def stem_of(path: str) -> str:
    """A path without its ending."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def number(names: Sequence[str], first: int = 1) -> dict[int, str]:
    """Number names from `first` on; blanks and new lines in them become one blank."""
    return {n: " ".join(name.split()) or f"label {n}" for n, name in enumerate(names, first)}


def stacked(masks: Mapping[int, np.ndarray], size: Size) -> list[np.ndarray | int]:
    """Lay masks on as few planes as take them without overlap; one empty plane where none is.

    Parameters
    ----------
    masks : mapping
        (sh, sw) bool by label number.
    size : (int, int)
        (sh, sw).
    """
    planes = [np.zeros(size, np.uint16)]
    for value, mask in masks.items():
        free = (plane for plane in planes if not plane[mask].any())
        plane = next(free, None)
        if plane is None:
            planes.append(plane := np.zeros(size, np.uint16))
        plane[mask] = value
    return list(planes)


_UNSAFE = re.compile(r"[\x00-\x1f\x7f;\\\ud800-\udfff]")  # what tables or file systems trip over


def safe_names(names: Iterable[str]) -> list[str]:
    """Make names below ``images/`` that a table can hold, all different."""
    used: set[str] = set()
    made = []
    for name in names:
        parts = [_UNSAFE.sub("_", part).strip() or "_" for part in name.split("/")]
        parts = [f"{part}_" if part in ("..", ".") else part for part in parts]
        parts[0] += "_" if parts[0] == PLANES and len(parts) > 1 else ""
        stem, dot, ending = "/".join(parts).rpartition(".")
        fresh = free_name(stem, lambda s, end=dot + ending: s + end in used)  # type: ignore[misc]
        made.append(fresh + dot + ending)
        used.add(made[-1])
    return made


def lists(root: Path) -> str:
    """Name what a folder holds, for an error."""
    held = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
    return f"found {', '.join(held[:NAMED])}{more}" if held else "it is empty"


_SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_SPLIT = re.compile(r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])")


def split_of(text: str) -> str:
    """Find the name of a split in a name or a path; empty where there is none."""
    found = _SPLIT.search(text.lower())
    return _SPLITS.get(found[1], found[1]) if found else ""

"""Which of VOC-Part's parts count as one, as Zhang et al., CVPR 2018, §5.2.1, list them."""

from __future__ import annotations

import csv
from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv

TABLE = "part_merges.csv"  # a user's own, beside Annotations_Part: category, part, merged

Merges = dict[str, dict[str, str]]  # category → part as annotated → part as counted

_EYES = ("leye", "reye")
_EARS = ("lear", "rear")
_TORSO = ("torso", "neck")


def _legs(side: str, *segments: str) -> list[str]:
    """Left and right legs of one side, front (f) or back (b)."""
    return [f"{lr}{side}{segment}" for lr in "lr" for segment in segments]


def _with_paws() -> dict[str, list[str]]:
    return {
        "head": ["head", *_EYES, *_EARS, "nose", "muzzle"],
        "torso": [*_TORSO],
        "front legs": _legs("f", "leg", "pa"),
        "back legs": _legs("b", "leg", "pa"),
        "tail": ["tail"],
    }


def _with_hooves() -> dict[str, list[str]]:
    return {
        "head": ["head", *_EYES, *_EARS, "nose", "muzzle", "lhorn", "rhorn"],
        "torso": [*_TORSO],
        "front legs": _legs("f", "uleg", "lleg", "ho"),
        "back legs": _legs("b", "uleg", "lleg", "ho"),
    }


_BIRD = {
    "head": ["head", "beak", *_EYES],
    "torso": [*_TORSO, "lwing", "rwing"],
    "leg": ["lleg", "rleg", "lfoot", "rfoot"],
    "tail": ["tail"],
}
_MERGED = {
    "bird": _BIRD,
    "cat": _with_paws(),
    "cow": _with_hooves(),
    "dog": _with_paws(),
    "horse": _with_hooves(),
    "sheep": _with_hooves(),
}
PAPER: Merges = {
    category: {part: name for name, parts in merged.items() for part in parts}
    for category, merged in _MERGED.items()
}


def read_merges(root: Path) -> Merges:
    """Read a data set's own table where it has one, else the paper's.

    Raises
    ------
    CnnlensError
        When the table is damaged or empty.
    """
    path = root / TABLE
    if not path.exists():
        return PAPER
    found: Merges = {}
    for row in read_csv(path, ("category", "part", "merged")):
        found.setdefault(row["category"], {})[row["part"]] = row["merged"]
    if not found:
        raise CnnlensError(f"{path} is empty", "remove it, and the paper's merges count")
    return found


def write_merges(path: Path) -> None:
    """Write the paper's table, to be edited."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["category", "part", "merged"])
        writer.writerows([c, p, m] for c, parts in PAPER.items() for p, m in parts.items())

"""Half of each class's images choose, on the other half it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cnnlens.errors import CnnlensError


@dataclass(frozen=True, eq=False)
class Halves:
    """Positions of the images that rank units, and of those held out."""

    rank: list[int]
    held: list[int]


def halves(paths: Sequence[str], categories: Sequence[str], seed: int) -> Halves:
    """Part every class's images in two, by a hash of their paths.

    Raises
    ------
    CnnlensError
        When there is one class only, or one image of a class.
    """
    of: dict[str, list[int]] = {}
    for row, category in enumerate(categories):
        of.setdefault(category, []).append(row)
    if len(of) < 2:
        raise CnnlensError(
            f"all images are of one class, {next(iter(of), 'none')}",
            "what a class loses is measured against others: give images of two or more",
        )
    if lone := [name for name, rows in of.items() if len(rows) < 2]:
        raise CnnlensError(
            f"there is one image of {', '.join(lone[:3])}",
            "half of a class's images rank units, half are held out: give two or more that differ",
        )
    rank, held = [], []
    for rows in of.values():
        rows.sort(
            key=lambda row: sha256(f"{seed}:{paths[row]}".encode(errors="surrogateescape")).digest()
        )
        rank += rows[: len(rows) // 2]
        held += rows[len(rows) // 2 :]
    return Halves(sorted(rank), sorted(held))

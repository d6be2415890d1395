"""What `units` found on one layer, as Python and notebooks have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnlens.errors import plain
from cnnlens.files.tables import columns
from cnnlens.measure.category_chance import stands_out
from cnnlens.measure.dissected_units import Histogram
from cnnlens.measure.responses import UnitResponse
from cnnlens.report.seen import Seen
from cnnlens.report.shown import Shown, UnitResults


class Bin(NamedTuple):
    """Images whose peaks lie in a part of the range."""

    low: float
    high: float
    images: int
    share: float  #: of all images
    examples: list[Seen]  #: some of them


@dataclass(frozen=True, eq=False)
class Unit(UnitResponse, Shown):
    """One row of ``units.csv``, and what else is known of the unit.

    Attributes
    ----------
    top, bottom : list of Seen
        Images of its highest and its lowest peaks.
    bins : list of Bin
        Over the range of its peaks.
    makeup : list of (str, int)
        Its classes: how many of its 100 highest peaks are on images of each, the most first; empty
        where there are none.
    counts : mapping of str to int
        How many of all images are of each category; empty where that is not known.
    neighbours : list of (str, int, float)
        Units that respond alike: layer, unit, correlation.
    histogram : Histogram
        Of all its values.
    folder : pathlib.Path
        That of its layer.
    """

    top: list[Seen]
    bottom: list[Seen]
    bins: list[Bin]
    makeup: list[tuple[str, int]]
    counts: Mapping[str, int]
    neighbours: list[tuple[str, int, float]]
    histogram: Histogram
    folder: Path

    @property
    def chance(self) -> float | None:
        """The share of its category among all images; None where that is not known."""
        count = self.counts.get(self.category)
        return None if count is None else count / sum(self.counts.values())

    @property
    def stands_out(self) -> bool:
        """Whether its category is more frequent among its highest peaks than by chance, as far as
        that is known.
        """
        count = self.counts.get(self.category)
        if count is None or not self.makeup:
            return bool(self.category)
        drawn, images = sum(n for _, n in self.makeup), sum(self.counts.values())
        return stands_out(self.makeup[0][1], drawn, count, images, len(self.counts))

    @property
    def words(self) -> str:
        """What it responds to, for people."""
        if self.dead:
            return f"unit {self.unit}: dead, never above 0"
        said = [f"unit {self.unit}: peak {plain(self.peak_max)}", f"{self.density:.1%} above 0"]
        if self.category:
            said.append(share_said(self.category, self.category_share, self.chance))
        return ", ".join(said)

    def table(self) -> list[dict[str, Any]]:
        """Give its row of ``units.csv``."""
        return [cells(self)]


def share_said(category: str, share: float | None, chance: float | None) -> str:
    """Say how many of its top images a category takes, beside how many of all images it takes."""
    beside = "" if chance is None else f" ({chance:.0%} of all)"
    return f"{category} in {share or 0:.0%} of its top images{beside}"


def cells(unit: UnitResponse) -> dict[str, Any]:
    """Give a unit's row of ``units.csv``."""
    return {name: getattr(unit, name) for name in columns(UnitResponse)}


@dataclass(frozen=True, eq=False)
class UnitsResult(UnitResults[Unit]):
    """Everything units found on one layer; ``found[12]`` is its unit 12.

    Attributes
    ----------
    name, folder, summary, units
        The layer, its folder, ``summary.json``, rows of ``units.csv``.
    images : list of str
        What the rows in the arrays are.
    arrays : dict of str to numpy.ndarray
        The arrays of ``units.h5``, by name.
    files : list of pathlib.Path or None
        The pictures of `images`.
    looked : dict of str to numpy.ndarray
        The arrays of ``pictures.h5``; empty where no page was wanted.
    """

    images: list[str]
    arrays: dict[str, np.ndarray]
    files: list[Path | None]
    looked: dict[str, np.ndarray]

    def column(self, name: str) -> np.ndarray:
        """Give a column of numbers, (C,) float64, NaN where a unit has none."""
        return np.array([getattr(unit, name) for unit in self.units], float)

    def strongest(self, image: str) -> list[tuple[int, float, tuple[int, int]]]:
        """List the units that come nearest to their highest peaks on an image, best first: unit,
        peak, its row and column on the map. Empty where that is not known.
        """
        if not self.looked or (row := self._row_of.get(image)) is None:
            return []
        keys = ("image_units", "image_peak", "image_place")
        units, peaks, places = (self.looked[key][row] for key in keys)
        return [
            (int(unit), float(peak), (int(y), int(x)))
            for unit, peak, (y, x) in zip(units, peaks, places, strict=True)
            if unit >= 0
        ]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.images)}

    def best(self, count: int | None = None) -> list[Unit]:
        """List the units of highest peak; dead ones are left out."""
        alive = [unit for unit in self.units if not unit.dead]
        return sorted(alive, key=lambda unit: (-unit.peak_max, unit.unit))[:count]

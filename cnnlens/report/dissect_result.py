"""What `dissect` found on one layer, as Python and notebooks have it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.files.tables import columns
from cnnlens.measure.dissected_units import ConceptExtent, DissectedUnit, Histogram, TopImage
from cnnlens.report.seen import Seen
from cnnlens.report.shown import Fact, Picture, Shown, UnitResults

_FORMULA = ("formula", "formula_length", "formula_iou", "formula_p_value")  # where looked for


@dataclass(frozen=True, eq=False)
class Unit(DissectedUnit, Shown):
    """One row of ``units.csv``, its numbers digit by digit, and what else is known of the unit.

    Attributes
    ----------
    top : tuple of TopImage
        Images that excite it most, best first.
    histogram : Histogram or None
        Of its activations.
    picture : pathlib.Path or None
        Its top images side by side.
    seen : list of Seen
        Its top images, where those are kept one by one.
    exam : str or None
        How its label did in `exam`, where it was examined.
    """

    top: tuple[TopImage, ...] = ()
    histogram: Histogram | None = None
    picture: Path | None = None
    seen: list[Seen] = field(default_factory=list)
    exam: str | None = None

    @property
    def deadness(self) -> str:
        """Whether it never or hardly ever fires: "dead", "nearly dead" or ""."""
        if self.histogram is not None and self.histogram.is_constant:
            return "dead"
        return "nearly dead" if self.threshold == 0 else ""

    def table(self) -> list[dict[str, Any]]:
        """Give its row of ``units.csv``."""
        return [cells(self)]

    def _title(self) -> str:
        return self.words

    def _facts(self) -> Iterable[Fact]:
        found = [best for best in self.by_category if best.label]
        if self.formula_words:
            yield "best formula", self.formula_words, ""
        yield from ((f"best {one.category}", f"{one.label} {one.iou:.3f}", "") for one in found)

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [("", self.picture)] if self.picture else []


def cells(unit: DissectedUnit) -> dict[str, Any]:
    """Give a unit's row of ``units.csv``, column by column."""
    row = {name: getattr(unit, name) for name in columns(DissectedUnit)}
    last, formula = {"p_value": row.pop("p_value")}, {name: row.pop(name) for name in _FORMULA}
    for best in unit.by_category:
        row |= {f"{best.category}_label": best.label, f"{best.category}_iou": best.iou}
    return {**row, **last, **(formula if unit.formula is not None else {})}


@dataclass(frozen=True, eq=False)
class DissectResult(UnitResults[Unit]):
    """Everything dissect found on one layer; ``found[12]`` is its unit 12.

    Attributes
    ----------
    name, folder, summary, units
        The layer, its folder, ``summary.json``, rows of ``units.csv``.
    categories : list of str
        In the data's order.
    concepts : list of ConceptExtent
        Rows of ``concepts.csv``.
    scores : numpy.ndarray or None
        (units, concepts) float32: every IoU, in the order of `units` and `concepts`.
    """

    categories: list[str]
    concepts: list[ConceptExtent]
    scores: np.ndarray | None

    @cached_property
    def iou(self) -> np.ndarray:
        """(C,) float64: each unit's best IoU."""
        return self.column("iou")

    @property
    def labels(self) -> list[str]:
        """Each unit's best concept; empty where nothing overlaps."""
        return [unit.label for unit in self.units]

    @property
    def is_detector(self) -> np.ndarray:
        """(C,) bool: whether the best IoU reaches the limit."""
        return np.array([unit.is_detector for unit in self.units], bool)

    @property
    def p_value(self) -> np.ndarray:
        """(C,) float64: NaN where chance was not computed."""
        return self.column("p_value")

    @property
    def has_p(self) -> bool:
        """Whether the units were held against chance."""
        return any(unit.p_value is not None for unit in self.units)

    def best(self, count: int | None = None) -> list[Unit]:
        """List the units of highest IoU; ties go to the lower number."""
        return sorted(self.units, key=lambda unit: (-unit.iou, unit.unit))[:count]

    def _title(self) -> str:
        return f"What the units of {self.name} detect"

    def _facts(self) -> Iterable[Fact]:
        chance = self.summary.get("chance") or {}
        yield "units", str(len(self)), ""
        for key, digits in (("detectors", 1), ("unique_detectors", 1), ("mean_iou", 4)):
            value, by_chance = self.summary.get(key), chance.get(key)
            shown = "–" if value is None else f"{value:.{digits if key == 'mean_iou' else 0}f}"
            words = "" if by_chance is None else f"{by_chance:.{digits}f}"
            yield key.replace("_", " "), shown, words

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(unit.words, unit.picture) for unit in self.best(12)]

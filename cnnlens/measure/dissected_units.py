"""What dissection says of each unit, of each concept and of top images: the rows of its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.measure.dissection import Dissection

NEAR = 8  # concepts shown per unit, and units per concept, at least
NEAR_SHARE = 0.8  # of the best IoU: every concept above it is shown too
NEAR_LIMIT = 24


@dataclass(frozen=True)
class Best:
    """A unit's best concept within one category; `label` is empty where nothing overlaps."""

    label: str
    category: str
    iou: float


@dataclass(frozen=True)
class TopImage:
    """An image that excites a unit, its peak, and where on the map."""

    unit: int
    rank: int
    image: str
    peak: float | None
    y: int | None
    x: int | None


@dataclass(frozen=True)
class ConceptExtent:
    """How much there is of a concept, and its best unit."""

    label: str
    category: str
    pixels: int | None = None
    images: int | None = None
    best_unit: int | None = None
    best_iou: float | None = None


@dataclass(frozen=True, eq=False)
class Histogram:
    """A unit's activations: counts per bin and the bins' edges, one more than counts."""

    counts: np.ndarray
    edges: np.ndarray

    @property
    def is_constant(self) -> bool:
        """Whether there is one value everywhere."""
        return int(np.count_nonzero(self.counts)) <= 1

    def merged(self, most: int) -> dict[str, list[Any]] | None:
        """Give `counts` and `edges` of at most so many bins; None where an edge is not finite."""
        if not np.isfinite(self.edges).all():
            return None
        starts = np.arange(0, len(self.counts), -(-len(self.counts) // most))
        edges = [*self.edges[starts], self.edges[-1]]
        counts = np.add.reduceat(self.counts, starts).tolist()
        return {"counts": counts, "edges": [float(f"{edge:.5g}") for edge in edges]}


@dataclass(frozen=True, eq=False)
class DissectedUnit:
    """What was found of a unit.

    Attributes
    ----------
    unit : int
        Counted from 0.
    threshold : float or None
        Activations above it make the unit's mask.
    label, category : str
        Its best concept; empty where nothing overlaps.
    iou : float
        With that concept.
    is_detector : bool
        Whether the IoU reaches the limit.
    p_value : float or None
        Share of shuffled units of a like mask that are as far above what chance gives them; 1 of a
        dead unit.
    formula : str or None
        Its best formula of concepts, ``(car OR bus) AND NOT road``; empty where nothing overlaps;
        None where none was looked for, as with the three that follow.
    formula_length : int or None
        How many concepts it has.
    formula_iou : float or None
        With its mask.
    formula_p_value : float or None
        Share of the same whose formula gains as much over their best concept.
    by_category : tuple of Best
        Its best concept within each category.
    """

    unit: int
    threshold: float | None
    label: str
    category: str
    iou: float
    is_detector: bool
    p_value: float | None
    formula: str | None = None
    formula_length: int | None = None
    formula_iou: float | None = None
    formula_p_value: float | None = None
    by_category: tuple[Best, ...] = ()

    @property
    def words(self) -> str:
        """What it detects, for people."""
        sure = "" if self.p_value is None else f", p {self.p_value:.2g}"
        kind = f" ({self.category})" if self.category else ""
        return f"unit {self.unit}: {self.label or 'no concept'}{kind}, IoU {self.iou:.3f}{sure}"

    @property
    def formula_words(self) -> str:
        """What its best formula is, for people; empty where there is none."""
        if not self.formula or self.formula_iou is None:
            return ""
        if self.formula_length == 1:
            return f"none fits better than {self.label}"
        p_value = self.formula_p_value
        sure = "" if p_value is None else f"; p of the gain {p_value:.2g}"
        alone = f"{self.label} alone {self.iou:.3f}"
        return f"{self.formula}, IoU {self.formula_iou:.3f} ({alone}){sure}"


def units_of(dissection: Dissection) -> Iterator[DissectedUnit]:
    """Give what was found of each unit."""
    names, p_values = dissection.concepts.names, dissection.p_values
    categories = dissection.concepts.categories
    within = [dissection.best_within(number) for number in range(len(categories))]
    for unit in range(dissection.units):
        best, iou = int(dissection.best[unit]), float(dissection.best_iou[unit])
        yield DissectedUnit(
            unit=unit,
            threshold=float(dissection.thresholds[unit]),
            label=names[best].label if best >= 0 else "",
            category=names[best].category if best >= 0 else "",
            iou=iou,
            is_detector=best >= 0 and iou >= dissection.settings.min_iou,
            p_value=None if p_values is None else float(p_values[unit]),
            by_category=tuple(
                Best(names[won[unit]].label if won[unit] >= 0 else "", name, float(scores[unit]))
                for name, (won, scores) in zip(categories, within, strict=True)
            ),
            **_formula_of(dissection, unit),
        )


def _formula_of(dissection: Dissection, unit: int) -> dict[str, Any]:
    formulas = dissection.formulas
    if formulas is None:
        return {}
    found, p_values = formulas.found[unit], formulas.p_values
    return {
        "formula": found.formula.words(dissection.concepts.words) if found else "",
        "formula_length": len(found.formula) if found else 0,
        "formula_iou": found.iou if found else 0.0,
        "formula_p_value": None if p_values is None else float(p_values[unit]),
    }


def concepts_of(dissection: Dissection) -> Iterator[ConceptExtent]:
    """Give what was found of each concept."""
    known, scores = dissection.concepts, dissection.iou
    for k, (concept, best) in enumerate(zip(known.names, scores.argmax(axis=0), strict=True)):
        iou = float(scores[best, k])
        yield ConceptExtent(
            concept.label,
            concept.category,
            pixels=int(known.pixels[k]),
            images=int(known.images[k]),
            best_unit=int(best) if iou > 0 else None,
            best_iou=iou,
        )


def top_of(dissection: Dissection, paths: Sequence[str]) -> Iterator[TopImage]:
    """Give each unit's top images, best first; `paths` names all images in the data's order."""
    top = dissection.top
    assert top is not None
    for unit in range(dissection.units):
        for rank, position in enumerate(top.positions[unit]):
            if position >= 0:
                y, x = np.unravel_index(top.maps[unit, rank].argmax(), top.maps.shape[2:])
                peak = float(top.peaks[unit, rank])
                yield TopImage(unit, rank, paths[position], peak, int(y), int(x))


def near_best(scores: np.ndarray) -> list[tuple[int, float]]:
    """Choose the highest of (n,) IoU values: the first `NEAR`, and all within reach of the best.

    Returns
    -------
    list of (int, float)
        Index and score, best first, ties by index, zeros left out, at most `NEAR_LIMIT`.
    """
    order = np.argsort(-scores, kind="stable")[:NEAR_LIMIT]
    floor = NEAR_SHARE * float(scores[order[0]]) if len(order) else 0.0
    return [
        (int(index), float(f"{scores[index]:.6g}"))
        for rank, index in enumerate(order)
        if scores[index] > 0 and (rank < NEAR or scores[index] >= floor)
    ]


# -- units beside each other ---------------------------------------------------------------------


def unit_table(units: Sequence[DissectedUnit]) -> tuple[list[str], list[list[object]]]:
    """Give columns and rows of a table of units, one or more; p-values where they are known."""
    columns = ["unit", "label", "category", "IoU"]
    rows: list[list[object]] = [[u.unit, u.label, u.category, round(u.iou, 4)] for u in units]
    if units[0].p_value is not None:
        columns.append("p")
        rows = [[*row, u.p_value] for row, u in zip(rows, units, strict=True)]
    if units[0].formula is not None:
        columns += ["formula", "IoU"]
        rows = [
            [*row, u.formula, round(u.formula_iou or 0.0, 4)]
            for row, u in zip(rows, units, strict=True)
        ]
    if units[0].formula_p_value is not None:
        columns.append("p of the gain")
        rows = [[*row, u.formula_p_value] for row, u in zip(rows, units, strict=True)]
    return columns, rows


def formulas_said(summary: Mapping[str, Any]) -> str:
    """Say what formulas add on a layer, from its summary; empty where none were looked for."""
    found, units = summary.get("formulas") or {}, summary.get("units")
    if units is None or None in (found.get("longer"), found.get("mean_gain")):
        return ""
    better = f"formulas fit {found['longer']} of {units} units better than one concept"
    gain = f"{better}, mean gain in IoU {found['mean_gain']:.4f}"
    if None in (found.get("beyond_chance"), found.get("mean_gain_by_chance")):
        return gain
    chance = f"by chance {found['mean_gain_by_chance']:.4f}"
    tested = units if found.get("tested") is None else found["tested"]
    few = f"{0.05 * tested:.0f} would by chance"
    return f"{gain}, {chance}; {found['beyond_chance']} gain with p < 0.05, {few}"


def one_per_concept(units: Sequence[DissectedUnit]) -> list[int]:
    """List the first unit of every concept among units, by number, in their order."""
    first: dict[str, int] = {}
    for unit in units:
        first.setdefault(unit.label, unit.unit)
    return list(first.values())

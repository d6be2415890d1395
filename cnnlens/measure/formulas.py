"""Formulas of concepts: a unit's mask as ``(car OR bus) AND NOT road``.

A beam search over AND, OR and AND NOT, by the IoU of the unit's mask with the formula's, from the
best single concepts; every formula grows at its end, by one concept more. All of it are sums over
combinations of labels (see `combinations`), exact.

What is annotated decides what counts, as for a single concept: AND NOT holds only in images that
carry ground truth of the concept's category, and a unit's mask pixels count in images that carry
ground truth of *any* of a formula's categories. So a longer formula never makes mask pixels
disappear. Formulas whose mask is one of their parts', and AND NOT of what is not there, are left
out: they say nothing new.

Longer formulas gain by chance. The same search with shuffled label maps (`Combinations.shuffled`)
says how much: p = (1 + #{null ≥ gain}) / (1 + units · shuffles) of a unit's gain over its best
single concept, pooled over units as the p-values of single concepts are (see `pooled_chance`).

Mu and Andreas, "Compositional Explanations of Neurons", NeurIPS 2020, §3.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from cnnlens.measure.combinations import Combinations, Overlap
from cnnlens.measure.iou import ratios
from cnnlens.measure.masks import compiled
from cnnlens.measure.pooled_chance import NOTHING, p_values

OR, AND, AND_NOT = "OR", "AND", "AND NOT"
OPERATIONS = (OR, AND, AND_NOT)
_CACHED = 2048  # formulas of which is remembered how large longer ones are: 24 · K bytes each


@dataclass(frozen=True)
class Formula:
    """A concept, and what is done with others, step by step: ((a OR b) AND NOT c)."""

    first: int
    steps: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        return 1 + len(self.steps)

    @property
    def concepts(self) -> list[int]:
        """All that occur in it."""
        return [self.first, *(concept for _, concept in self.steps)]

    def grown(self, operation: str, concept: int) -> Formula:
        """Return it with one step more."""
        return Formula(self.first, (*self.steps, (operation, concept)))

    @property
    def same(self) -> Hashable:
        """What formulas that differ in the order of their parts alone have in common."""
        kind, parts = AND, frozenset[Hashable]([(False, self.first)])
        for number, (operation, concept) in enumerate(self.steps):
            now = OR if operation == OR else AND
            if now != kind and number:
                parts = frozenset([(False, (kind, parts))])
            kind, parts = now, parts | {(operation == AND_NOT, concept)}
        return kind, parts

    def words(self, names: Sequence[str]) -> str:
        """Write it, brackets where AND and OR meet."""
        text, kind = names[self.first], ""
        for operation, concept in self.steps:
            now = OR if operation == OR else AND
            text = f"({text})" if kind not in ("", now) else text
            text, kind = f"{text} {operation} {names[concept]}", now
        return text


@dataclass(frozen=True)
class Scored:
    """A formula and its IoU with a unit's mask."""

    formula: Formula
    iou: float


class Search:
    """Looks for formulas of up to `length` concepts, keeping the best `beam` of every length.

    Parameters
    ----------
    table : Combinations
        Labels of the data set.
    order : numpy.ndarray
        Concept indices in order of preference, where scores are equal.
    length, beam : int
        How far and how widely to look.
    """

    def __init__(self, table: Combinations, order: np.ndarray, length: int, beam: int) -> None:
        self._table, self._order = table, order
        self._length, self._beam = length, beam
        self._all = table.overlap(np.arange(len(table.pixels)), table.pixels)
        self._longer = lru_cache(_CACHED)(self._longer_than)

    def best(self, rows: np.ndarray, counts: np.ndarray) -> tuple[Scored | None, float]:
        """Find a unit's best formula, and the IoU of its best single concept.

        Parameters
        ----------
        rows, counts : numpy.ndarray
            (n,) int64: its mask pixels in rows of the table.

        Returns
        -------
        (Scored or None, float)
            None and 0 where the mask shares nothing with any concept.
        """
        unit = _Unit(self._table, rows, counts)
        beam = fresh = self._singles(unit)
        if not beam:
            return None, 0.0
        single = beam[0].iou
        for length in range(2, self._length + 1):
            met = set[Hashable]()
            for one in fresh:
                least = beam[-1].iou if len(beam) == self._beam else 0.0
                for new in self._grown(unit, one.formula, least):
                    if (same := new.formula.same) not in met:
                        met.add(same)
                        beam = [*beam, new]
                beam = sorted(beam, key=lambda s: -s.iou)[: self._beam]
            fresh = [one for one in beam if len(one.formula) == length]
            if not fresh:
                break
        return beam[0], single

    def _singles(self, unit: _Unit) -> list[Scored]:
        shared, area = unit.all.concepts, self._all.concepts
        iou = ratios(shared, unit.fires(())[self._table.category_of] + area - shared)
        ranked = self._order[np.argsort(-iou[self._order], kind="stable")[: self._beam]]
        return [Scored(Formula(int(k)), float(iou[k])) for k in ranked if iou[k] > 0]

    def _grown(self, unit: _Unit, formula: Formula, least: float) -> Iterator[Scored]:
        """Give the best formulas that are one step longer, of an IoU above `least`."""
        longer, inside = self._longer(formula), unit.overlap(formula)
        category_of, order = self._table.category_of, self._order
        categories = tuple(sorted({int(c) for c in category_of[formula.concepts]}))
        parts = inside.pixels, inside.concepts, inside.categories, unit.all.concepts
        iou = _scores(*parts, longer, unit.fires(categories), category_of, order)  # (3 · K,)
        if len(iou) > self._beam:
            # the best so many; all of the last one's rank, so that ties go by preference
            least = max(least, np.nextafter(np.partition(iou, -self._beam)[-self._beam], 0))
        places = np.flatnonzero(iou > least)
        for place in places[np.argsort(-iou[places], kind="stable")]:
            operation, concept = divmod(int(place), len(order))
            grown = formula.grown(OPERATIONS[operation], int(order[concept]))
            yield Scored(grown, float(iou[place]))

    def _longer_than(self, formula: Formula) -> np.ndarray:
        """Count the pixels of every formula one step longer, (3, K) int64.

        0 where it does not differ from its parts: one of them holds the other, or AND NOT takes
        nothing away but what is not annotated.
        """
        whole, single = self._extent(formula), self._all.concepts
        meets = whole.concepts
        left = whole.categories[self._table.category_of] - meets
        beyond = (meets < whole.pixels) & (meets < single)
        either = np.where(beyond, whole.pixels + single - meets, 0)
        longer = np.stack([either, np.where(beyond, meets, 0), np.where(meets > 0, left, 0)])
        longer[:, formula.concepts] = 0
        return longer

    def _extent(self, formula: Formula) -> Overlap:
        table = self._table
        rows = table.rows_of[formula.first]
        for operation, concept in formula.steps:
            if operation == OR:
                rows = np.union1d(rows, table.rows_of[concept])
        rows = rows[_holds(table, rows, formula)]
        return table.overlap(rows, table.pixels[rows])


class _Unit:
    """A unit's mask pixels."""

    def __init__(self, table: Combinations, rows: np.ndarray, counts: np.ndarray) -> None:
        self._table, self._rows, self._counts = table, rows, counts
        self.all = table.overlap(rows, counts)
        weights = np.bincount(table.pattern[rows], counts, len(table.patterns))
        self._patterns = weights.astype(np.int64)  # (Q,)
        self._fires: dict[tuple[int, ...], np.ndarray] = {}

    def overlap(self, formula: Formula) -> Overlap:
        """Count its pixels where a formula holds."""
        true = _holds(self._table, self._rows, formula)
        return self._table.overlap(self._rows[true], self._counts[true])

    def fires(self, categories: tuple[int, ...]) -> np.ndarray:
        """Count its pixels in images that carry one of `categories`, or one more, by that one."""
        if categories not in self._fires:
            patterns = self._table.patterns
            any_of = patterns[:, list(categories)].any(axis=1, keepdims=True)  # (Q, 1)
            self._fires[categories] = self._patterns @ (patterns | any_of)
        return self._fires[categories]


def _holds(table: Combinations, rows: np.ndarray, formula: Formula) -> np.ndarray:
    """Say in which rows a formula holds, (n,) bool."""
    true = table.show(rows, formula.first)
    for operation, concept in formula.steps:
        shows = table.show(rows, concept)
        if operation == OR:
            true = true | shows
        else:
            true = true & (shows if operation == AND else table.carry(rows, concept) & ~shows)
    return true


@compiled
def _scores(pixels, concepts, categories, single, longer, fires, category_of, order):
    """IoU of a unit's mask with every longer formula, by operation, then in `order`."""
    many = len(order)
    iou = np.zeros(3 * many)
    for place, concept in enumerate(order):
        category, both = category_of[concept], concepts[concept]
        shared = (pixels + single[concept] - both, both, categories[category] - both)
        for operation in range(3):
            if longer[operation, concept] > 0:
                union = fires[category] + longer[operation, concept] - shared[operation]
                if union > 0:
                    iou[operation * many + place] = shared[operation] / union
    return iou


# -- of a layer ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Formulas:
    """The best formula of each unit of a layer.

    Attributes
    ----------
    found : list of Scored or None
        None where nothing overlaps.
    single : numpy.ndarray
        (C,) float64: IoU of the best single concept.
    null : numpy.ndarray
        (shuffles, C) float64: gains over the best single concept with shuffled labels.
    kinds : numpy.ndarray
        (C,) int64: equal where units share a null (see `kinds_of`).
    """

    found: list[Scored | None]
    single: np.ndarray
    null: np.ndarray
    kinds: np.ndarray

    @classmethod
    def of(cls, found: Sequence[tuple[Scored | None, float]], kinds: np.ndarray) -> Formulas:
        """Arrange searches: of all units with the labels as they are, then with each shuffle."""
        units = len(kinds)
        single = np.array([iou for _, iou in found])
        gains = np.array([0.0 if one is None else one.iou for one, _ in found]) - single
        null = gains[units:].reshape(-1, units)
        return cls([one for one, _ in found[:units]], single[:units], null, kinds)

    @property
    def iou(self) -> np.ndarray:
        """(C,) float64."""
        return np.array([0.0 if one is None else one.iou for one in self.found])

    @cached_property
    def p_values(self) -> np.ndarray | None:
        """(C,) float64: chance of as large a gain; None without shuffles."""
        if not len(self.null):
            return None
        return p_values(self.iou - self.single, self.null, self.kinds)

    def summary(self) -> dict[str, Any]:
        """Say in a few numbers what formulas add."""
        longer = np.array([one is not None and len(one.formula) > 1 for one in self.found])
        summary = {"longer": int(longer.sum()), "mean_iou": float(self.iou.mean())}
        if self.p_values is None:
            return {**summary, "mean_gain": float((self.iou - self.single).mean())}
        beyond = int((longer & (self.p_values < 0.05)).sum())
        return {
            **summary,
            "mean_gain": float((self.iou - self.single).mean()),
            "mean_gain_by_chance": float(self.null.mean()),
            "tested": int((self.kinds != NOTHING).sum()),
            "beyond_chance": beyond,
        }

"""Network Dissection once more: slow, dense, in float64, following the text and nothing else."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

Item = np.ndarray | int  # a plane (h, w) of label numbers, or the number of an image-level label


@dataclass
class Picture:
    """One image: the size of its label maps, and per category the items of its index cell."""

    size: tuple[int, int]
    cells: dict[str, list[Item]]


@dataclass
class World:
    """A data set: categories in order, declared[number] = categories, home[number] when pooled."""

    categories: list[str]
    declared: dict[int, list[str]]
    home: dict[int, str]
    pictures: list[Picture]

    def concepts(self, pooled: bool) -> list[tuple[str, int]]:
        pairs = []
        for category in self.categories:
            for number in sorted(self.declared):
                named = [self.home[number]] if pooled else self.declared[number]
                if category in named:
                    pairs.append((category, number))
        return pairs


def threshold(values: np.ndarray, share: Fraction) -> float:
    """Smallest recorded value v with #{a > v} ≤ share · how many there are."""
    ordered = np.sort(values.ravel())
    for v in np.unique(ordered):
        above = len(ordered) - int(np.searchsorted(ordered, v, side="right"))
        if Fraction(above) <= share * len(ordered):
            return v + v.dtype.type(0)  # -0 and 0 are one: which of them was found says the order
    raise AssertionError("the largest value always qualifies")


def _between(source: int, out: int) -> list[tuple[int, int, float]]:
    places = []
    for i in range(out):
        at = max((i + 0.5) * source / out - 0.5, 0.0)
        low = min(int(np.floor(at)), source - 1)
        places.append((low, min(low + 1, source - 1), at - low))
    return places


def upsampled(map_: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, half-pixel centres, edges clamped."""
    map_ = map_.astype(np.float64)
    tall = np.zeros((size[0], map_.shape[1]))
    for i, (top, bottom, down) in enumerate(_between(map_.shape[0], size[0])):
        tall[i] = map_[top] + (map_[bottom] - map_[top]) * down
    out = np.zeros(size)
    for j, (left, right, along) in enumerate(_between(map_.shape[1], size[1])):
        out[:, j] = tall[:, left] + (tall[:, right] - tall[:, left]) * along
    return out


def truths(world: World, picture: Picture, pooled: bool) -> dict[tuple[str, int], np.ndarray]:
    """Each concept's pixels (h, w) bool; planes are OR-ed, label 0 is nothing."""
    found = {}
    for category, number in world.concepts(pooled):
        mask = np.zeros(picture.size, bool)
        for cell, items in picture.cells.items():
            if cell != category and not pooled:
                continue
            for item in items:
                mask |= item == number
        found[category, number] = mask
    return found


@dataclass
class Tally:
    """I[unit][concept], A[unit][category] in pixels."""

    I: dict = field(default_factory=dict)  # noqa: E741
    A: dict = field(default_factory=dict)

    def add(self, unit: int, mask: np.ndarray, category: str, here: dict, touched: bool) -> None:
        """Count one unit's mask against one category's concepts on one image that carries it."""
        touches = False
        for (c, number), truth in here.items():
            if c == category:
                both = int((mask & truth).sum())
                touches |= both > 0
                key = (unit, (c, number))
                self.I[key] = self.I.get(key, 0) + both
        if touches or not touched:
            self.A[unit, category] = self.A.get((unit, category), 0) + int(mask.sum())


@dataclass
class Answer:
    concepts: list[tuple[str, int]]
    thresholds: list[float]
    tally: Tally
    G: dict
    images_with: dict
    null: list[Tally]
    ranges: list[tuple[float, float]]

    def iou(self, tally: Tally, unit: int, concept: tuple[str, int]) -> float:
        i = tally.I.get((unit, concept), 0)
        union = tally.A.get((unit, concept[0]), 0) + self.G[concept] - i
        return i / union if union else 0.0

    def best(self, tally: Tally, unit: int, only: str = "") -> tuple[tuple[str, int] | None, float]:
        """The best concept: ties go to the lowest label number, then to the first category."""
        order = [c for c, _ in self.concepts]
        ranked = sorted(self.concepts, key=lambda k: (k[1], order.index(k[0])))
        winner, most = None, 0.0
        for concept in ranked:
            if only in ("", concept[0]) and self.iou(tally, unit, concept) > most:
                winner, most = concept, self.iou(tally, unit, concept)
        return winner, most

    def detectors(self, tally: Tally, min_iou: float, only: str = "") -> list[tuple[str, int]]:
        found = [self.best(tally, u, only) for u in range(len(self.thresholds))]
        return [c for c, iou in found if c is not None and iou >= min_iou]

    def mean_iou(self, tally: Tally) -> float:
        return float(np.mean([self.best(tally, u)[1] for u in range(len(self.thresholds))]))

    def alike(self, unit: int, other: int) -> bool:
        """Whether two units' masks cover so much alike that they share a null."""
        full, few = [], []
        for u in (unit, other):
            (lowest, highest), limit = self.ranges[u], self.thresholds[u]
            if limit >= highest:
                return False  # nothing is above the threshold
            if limit > lowest:
                full.append(u)
            else:
                few.append(sum(n for (v, _), n in self.tally.A.items() if v == u))
        if full:
            return len(full) == 2
        power = 1
        while power * 2 <= max(few):
            power *= 2
        return min(few) >= power or max(few) == 0

    def p_value(self, unit: int) -> float:
        units = [u for u in range(len(self.thresholds)) if self.alike(u, unit)]
        by_chance = {u: [self.best(t, u)[1] for t in self.null] for u in {*units, unit}}
        null = [
            apart(one, by_chance[u], spread_of_others(by_chance, units, u), at)
            for u in units
            for at, one in enumerate(by_chance[u])
        ]
        usual = spread_of_others(by_chance, units, unit)
        observed = apart(self.best(self.tally, unit)[1], by_chance[unit], usual)
        return (1 + sum(n >= observed for n in null)) / (1 + len(null))


def spread_of_others(by_chance: dict[int, list[float]], units: list[int], unit: int) -> float:
    """The mean variance over the shuffles of the other units; -1 where one cannot say."""
    others = [by_chance[u] for u in units if u != unit]
    if not others or len(others[0]) < 3:
        return -1
    return statistics.mean(statistics.variance(one) for one in others)


def apart(value: float, shuffles: list[float], usual: float, without: int | None = None) -> float:
    """How many standard deviations a value lies above a unit's shuffles, less one of them; the
    usual variance counts as one shuffle more.
    """
    others = [one for at, one in enumerate(shuffles) if at != without]
    if usual < 0:
        return value
    if value == 0:
        return -math.inf
    mean = statistics.mean(others)
    squares = sum((one - mean) ** 2 for one in others)
    spread = math.sqrt((squares + usual) / len(others))
    if spread < 1e-12:
        return math.inf if value > mean + 1e-12 else -math.inf
    return round((value - mean) / spread, 9)


def carries(picture: Picture, category: str, here: dict, pooled: bool) -> bool:
    if pooled:  # the older tool: where it has a concept
        return any(c == category and truth.any() for (c, _), truth in here.items())
    return bool(picture.cells.get(category))


def dissect(
    world: World, maps: np.ndarray, share: Fraction, ndlite: bool, shuffles: int, seed: int
) -> Answer:
    """Dissect maps (N, C, H, W), one map per picture of the world."""
    units = maps.shape[1]
    thresholds = [threshold(maps[:, u], share) for u in range(units)]
    all_truths = [truths(world, p, ndlite) for p in world.pictures]
    concepts = world.concepts(ndlite)
    tally, null = Tally(), []
    carriers = {
        c: [n for n, p in enumerate(world.pictures) if carries(p, c, all_truths[n], ndlite)]
        for c in world.categories
    }
    same = {c: dict(zip(carriers[c], carriers[c], strict=True)) for c in world.categories}
    _count(tally, world, maps, thresholds, all_truths, same, ndlite)
    for number in range(shuffles):
        dealt = {}
        for index, category in enumerate(world.categories):
            generator = np.random.default_rng([seed, number, index])
            among = np.array(carriers[category], np.int64)
            donors = generator.permutation(among).tolist()
            dealt[category] = dict(zip(carriers[category], donors, strict=True))
        null.append(Tally())
        _count(null[-1], world, maps, thresholds, all_truths, dealt, ndlite)
    return Answer(
        concepts,
        thresholds,
        tally,
        {k: sum(int(t[k].sum()) for t in all_truths) for k in concepts},
        {k: sum(bool(t[k].any()) for t in all_truths) for k in concepts},
        null,
        [(float(maps[:, u].min()), float(maps[:, u].max())) for u in range(units)],
    )


def _count(tally, world, maps, thresholds, all_truths, dealt, ndlite):
    for category in world.categories:
        for image, donor in dealt[category].items():
            for unit, limit in enumerate(thresholds):
                up = upsampled(maps[image, unit], world.pictures[donor].size)
                mask = up > float(limit)
                tally.add(unit, mask, category, all_truths[donor], ndlite)

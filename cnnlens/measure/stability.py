"""Do a layer's units follow an object's parts? Everything that is measured of it, with its chance.

Instability alone misleads: a unit that always fires at the image's centre scores low, as does a
dead one, whose arg-max is the corner. So beside it stand the same figure for shuffled, random and
central places, how far peaks lie from the centre, dead units, and how well a unit tells its
category from the others.

Zhang et al., "Interpretable Convolutional Neural Networks", CVPR 2018, §5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from fractions import Fraction

import numpy as np

from cnnlens.activations.sources import Observer, Source
from cnnlens.data.parts import PartSet
from cnnlens.errors import CnnlensError
from cnnlens.measure.masks import TopValues
from cnnlens.measure.part_measures import (
    FEWEST,
    Baselines,
    Category,
    Instability,
    PartCounter,
    PartMaskCache,
    categories,
    smallest,
)
from cnnlens.measure.selectivity import area_under_curve, shuffled_selectivity
from cnnlens.measure.stable_units import Stability
from cnnlens.measure.top import PeakLocations
from cnnlens.model.receptive_field import Fields
from cnnlens.progress import Step, followed
from cnnlens.settings import StabilitySettings

_ROUNDING = 1e-12  # of the diagonal: the same distances, summed in another order


def stability(
    source: Source,
    data: PartSet,
    fields: Sequence[Fields],
    size: tuple[int, int],
    settings: StabilitySettings | None = None,
    negatives: Source | None = None,
    progress: Callable[[Step], None] | None = None,
) -> list[Stability]:
    """Measure layers, in one sweep over their activations, or two where there are part masks.

    Parameters
    ----------
    source : Source
        Activations of the layers over the objects of `data`.
    data : PartSet
        Categories and parts.
    fields : sequence of (Field, Field)
        Receptive fields of each layer.
    size : (int, int)
        Height and width of the input.
    settings : StabilitySettings, optional
        Quantiles, shuffles, how a unit's category is found.
    negatives : Source, optional
        The same layers over images of no category.
    progress : callable, optional
        Called often with a Step.

    Returns
    -------
    list of Stability
        One per layer.

    Raises
    ------
    CnnlensError
        When no part is shown on ten images of a category.
    """
    steps = stability_steps(source, data, fields, size, settings or StabilitySettings(), negatives)
    return followed(steps, progress)


def stability_steps(
    source: Source,
    data: PartSet,
    fields: Sequence[Fields],
    size: tuple[int, int],
    settings: StabilitySettings,
    negatives: Source | None,
) -> Generator[Step, None, list[Stability]]:
    """Do what `stability` does, step by step, for callers that want to stop in between."""
    book = PartMaskCache(data, size) if data.masks is not None else None
    wide = settings.wide or (book.share() if book else 0.0)
    shares = [settings.quantile, wide] if book and wide else []
    firsts = [
        _First(shape, limit, len(data.paths), shares)
        for shape, limit in zip(source.shapes, source.limits, strict=True)
    ]
    for step in source.sweep(firsts):
        yield Step(step.done, step.total, "peaks")
    others: Sequence[PeakLocations | None] = [None] * len(firsts)
    if negatives is not None:
        others = yield from _peaks_of(negatives)
    layers = [
        _Layer(first, other, data, one, size, settings)
        for first, other, one in zip(firsts, others, fields, strict=True)
    ]
    done, every = 0, sum(layer.units for layer in layers)
    for layer in layers:
        for unit in range(layer.units):
            layer.measure(unit)
            done += 1
            yield Step(done, every, "stability", unit="units")
    observers: list[Observer] = []
    for layer in layers:
        layer.prepare_parts(book if shares else None, shares)
        observers.append(layer.observe)
    if shares:
        for step in source.sweep(observers):
            yield Step(step.done, step.total, "parts")
    return [layer.result() for layer in layers]


def _peaks_of(negatives: Source) -> Generator[Step, None, list[PeakLocations]]:
    pairs = zip(negatives.limits, negatives.shapes, strict=True)
    found = [PeakLocations(limit, shape) for limit, shape in pairs]
    for step in negatives.sweep([*map(_in_turn, found)]):
        yield Step(step.done, step.total, "negatives")
    return found


def _in_turn(peaking: PeakLocations) -> Observer:
    """Let images be numbered as they come: of negatives nothing but their number is known."""
    done = 0

    def observe(_: np.ndarray, maps: np.ndarray) -> None:
        nonlocal done
        peaking(np.arange(done, done + len(maps)), maps)
        done += len(maps)

    return observe


class _First:
    """The first look: peaks, and thresholds where there are masks."""

    def __init__(
        self, shape: tuple[int, int, int], limit: int, images: int, shares: Sequence[float]
    ) -> None:
        self.shape = shape
        self.peaking = PeakLocations(images, shape)
        values = limit * shape[1] * shape[2]
        self.values = [
            TopValues(Fraction(str(round(share, 6))), shape[0], values) for share in shares
        ]

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        self.peaking(positions, maps)
        for values in self.values:
            values.update(maps)


class _Layer:
    """One layer's units, measured one after the other."""

    def __init__(
        self,
        first: _First,
        others: PeakLocations | None,
        data: PartSet,
        fields: Fields,
        size: tuple[int, int],
        settings: StabilitySettings,
    ) -> None:
        self._first, self._data, self._settings, self._size = first, data, settings, size
        peaking = first.peaking
        self._seen = np.flatnonzero(peaking.seen)
        self.units = first.shape[0]
        self._names = sorted(set(data.image_categories or ()))
        labels = np.array([self._names.index(c) for c in data.image_categories or ()])
        self._labels = labels[self._seen]
        self._scores = peaking.scores[self._seen]  # (n, C)
        self._others = None if others is None else others.scores[others.seen]
        pairs = [peaking] if others is None else [peaking, others]
        self._sums = np.concatenate([one.sums[one.seen] for one in pairs])  # (n + negatives, C)
        centres = data.centres[self._seen] * np.array(size)
        self._categories = categories(self._labels, centres, self._names)
        if not self._categories:
            raise CnnlensError(
                f"no part is shown on {FEWEST} images of any category of {data.root}",
                "more images are needed; `--merge-categories NAME` makes all categories one",
            )
        grid = _grid(fields, first.shape[1:])  # (HW, 2)
        self._places = grid[peaking.at[self._seen]]  # (n, C, 2)
        self._chance = Baselines(grid, size, settings.chance, settings.seed)
        self._chosen = self._choose(self._sums)
        self._measured: dict[int, Instability] = {}
        self._part_counters: list[PartCounter] = []

    def _choose(self, sums: np.ndarray) -> np.ndarray:
        """Each unit's category: that with the largest mean sum over the map, (C,)."""
        known = list(self._categories)
        means = [sums[self._categories[c].images].mean(axis=0) for c in known]
        return np.array(known)[np.argmax(means, axis=0)]

    def measure(self, unit: int) -> None:
        """Measure a unit's steadiness; nothing where it is dead."""
        if self._settings.category == "minimum":
            found = {c: self._instability_of(unit, one) for c, one in self._categories.items()}
            alive = {c: one for c, one in found.items() if one is not None}
            if alive:
                self._chosen[unit] = min(alive, key=lambda c: alive[c].value)
                self._measured[unit] = smallest(list(alive.values()))
            return
        steady = self._instability_of(unit, self._categories[int(self._chosen[unit])])
        if steady is not None:
            self._measured[unit] = steady

    def _instability_of(self, unit: int, category: Category) -> Instability | None:
        scores = self._scores[category.images, unit]
        if not (scores > 0).any():
            return None
        return self._chance.instability(self._places[category.images, unit], scores, category)

    # ---- parts

    def prepare_parts(self, book: PartMaskCache | None, shares: Sequence[float]) -> None:
        """Get ready for the second look."""
        if book is None:
            return
        category = np.where(self._dead(), -1, self._chosen)
        labels = np.full(len(self._data.paths), -2)
        labels[self._seen] = self._labels
        partner = np.arange(len(labels))
        for one in self._categories.values():
            rows = self._seen[one.images]
            order = np.random.default_rng(self._settings.seed).permutation(rows)
            partner[order] = np.roll(order, 1)
        self._part_counters = [
            PartCounter(book, values.thresholds(), share, category, labels, partner)
            for values, share in zip(self._first.values, shares, strict=True)
        ]

    def observe(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take the second look."""
        for one in self._part_counters:
            one(positions, maps)

    # ---- the result

    def _dead(self) -> np.ndarray:
        return np.array([unit not in self._measured for unit in range(self.units)])

    def result(self) -> Stability:
        steady = [self._measured.get(unit) for unit in range(self.units)]
        alive = [one for one in steady if one is not None]
        parts = len(self._data.parts)
        blank = np.full(parts, np.nan)
        return Stability(
            settings=self._settings,
            names=self._names,
            parts=self._data.parts,
            unmeasured=[n for k, n in enumerate(self._names) if k not in self._categories],
            images=len(self._seen),
            category=self._chosen,
            dead=self._dead(),
            instability=np.array([one.value if one else np.nan for one in steady]),
            p_value=np.array([_p_value(one) if one else np.nan for one in steady]),
            centre_distance=self._distances(),
            selectivity=self._selectivities(),
            deviations=np.stack([one.parts if one else blank for one in steady]),
            uniform=_mean([one.uniform for one in alive]),
            centre=_mean([one.centre for one in alive]),
            shuffled=_mean([float(one.shuffled.mean()) for one in alive if len(one.shuffled)]),
            selectivity_chance=self._selectivity_by_chance(),
            associations=tuple(one.result(FEWEST) for one in self._part_counters),
            scores=self._scores,
            places=(self._places / np.array(self._size)).astype(np.float32),
            seen=self._seen,
            labels=self._labels,
            left_out=self._data.faults,
        )

    def _distances(self) -> np.ndarray:
        """Mean distance of the peaks from the centre, over images that excite the unit, (C,)."""
        away = self._places - np.array(self._size) / 2  # (n, C, 2)
        away = np.sqrt((away**2).sum(axis=2)) / np.hypot(*self._size)
        found = np.full(self.units, np.nan)
        for unit in self._measured:
            images = self._categories[int(self._chosen[unit])].images
            found[unit] = away[images, unit][self._scores[images, unit] > 0].mean()
        return found

    def _peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Give how high units peak, on the negatives, too, (N, C), and the labels there, (N,)."""
        scores = [self._scores] if self._others is None else [self._scores, self._others]
        labels = np.full(sum(map(len, scores)), -1)
        labels[: len(self._labels)] = self._labels
        return np.concatenate(scores), labels

    def _selectivities(self) -> np.ndarray:
        found, (peaks, labels) = np.full(self.units, np.nan), self._peaks()
        for unit in self._measured:
            own = labels == self._chosen[unit]
            if not own.all():
                found[unit] = area_under_curve(peaks[own, unit], peaks[~own, unit])
        return found

    def _selectivity_by_chance(self) -> float:
        alive, (peaks, labels) = sorted(self._measured), self._peaks()
        sums = None if self._settings.category == "minimum" else self._sums[:, alive]
        return shuffled_selectivity(
            peaks[:, alive], sums, labels, list(self._categories), self._chosen[alive],
            self._settings.chance, self._settings.seed,
        )  # fmt: skip


def _grid(fields: Fields, shape: tuple[int, int] | tuple[int, ...]) -> np.ndarray:
    """Receptive-field centres (H·W, 2) of a map's positions, y and x in pixels."""
    rows, columns = (
        np.array([field.centre(i) for i in range(n)])
        for field, n in zip(fields, shape, strict=True)
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def _p_value(one: Instability) -> float:
    if not len(one.shuffled):
        return float("nan")
    as_steady = one.shuffled <= one.value + _ROUNDING
    return float((1 + as_steady.sum()) / (1 + len(one.shuffled)))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")

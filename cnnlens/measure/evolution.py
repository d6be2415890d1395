"""How units come about while a network is trained: what excites them most, checkpoint after
checkpoint.

At each, the image on which a unit peaks highest; where that is another image than at the checkpoint
before, the unit has jumped. How near a unit is to what it becomes is Pearson's correlation of its
peaks on all images with those at the last checkpoint. With label maps, the concept that it detects
best, too.

M. D. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014, Fig. 4
("sudden jumps in appearance result from a change in the image from which the strongest activation
originates").
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from cnnlens.activations.sources import Observer, Source
from cnnlens.errors import CnnlensError
from cnnlens.measure.dissection import Dissection
from cnnlens.progress import Step, followed


@dataclass(frozen=True)
class Moment:
    """Some units of a layer at one checkpoint.

    Attributes
    ----------
    units : tuple of int
        Which.
    images : numpy.ndarray
        (N,) int64: places of the images in the data's order.
    peaks : numpy.ndarray
        (N, U) float32: each unit's largest value on each image.
    at : numpy.ndarray
        (U, 2) int64: row and column of a unit's highest peak.
    highest : numpy.ndarray
        (C,) float32: the largest value of every unit of the layer.
    """

    units: tuple[int, ...]
    images: np.ndarray
    peaks: np.ndarray
    at: np.ndarray
    highest: np.ndarray

    @property
    def top(self) -> np.ndarray:
        """(U,) int64: place of the image with the highest peak; of equal ones the first."""
        return self.images[self.peaks.argmax(axis=0)]

    @property
    def dead(self) -> np.ndarray:
        """(U,) bool: never above 0."""
        return ~(self.highest[list(self.units)] > 0)

    @property
    def dead_units(self) -> int:
        """Units of the whole layer that are."""
        return int((~(self.highest > 0)).sum())


class Watch:
    """Observes a sweep over one layer at one checkpoint; `moment` is what it saw."""

    def __init__(self, units: Sequence[int], shape: tuple[int, int, int]) -> None:
        self._units = list(units)
        self._highest = np.full(shape[0], -np.inf, np.float32)
        self._best = np.full(len(units), -np.inf, np.float32)
        self._at = np.zeros((len(units), 2), np.int64)
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        self._highest = np.maximum(self._highest, maps.max(axis=(0, 2, 3)))
        flat = maps[:, self._units].reshape(len(maps), len(self._units), -1)  # (B, U, HW)
        peaks = flat.max(axis=2)
        self._seen.append((positions, peaks))
        first = peaks.argmax(axis=0)  # (U,)
        for unit in np.flatnonzero(peaks.max(axis=0) > self._best):
            self._best[unit] = peaks[first[unit], unit]
            place = int(flat[first[unit], unit].argmax())
            self._at[unit] = divmod(place, maps.shape[3])

    @property
    def moment(self) -> Moment:
        """What was seen.

        Raises
        ------
        CnnlensError
            When there was no image.
        """
        if not self._seen:
            raise CnnlensError(
                "no image of the data could be read", "cnnlens data check DIR says why"
            )
        images, peaks = (np.concatenate(parts) for parts in zip(*self._seen, strict=True))
        return Moment(tuple(self._units), images, peaks, self._at, self._highest)


@dataclass(frozen=True)
class Evolution:
    """Some units of a layer over checkpoints, in the order of the training.

    Attributes
    ----------
    moments : tuple of Moment
        One per checkpoint, of the same units on the same images.
    """

    moments: tuple[Moment, ...]

    @property
    def top(self) -> np.ndarray:
        """(T, U) int64: place of each unit's top image; -1 where it is dead."""
        return np.stack([np.where(one.dead, -1, one.top) for one in self.moments])

    @property
    def jumped(self) -> np.ndarray:
        """(T, U) bool: the top image is another one than at the checkpoint before.

        Nothing jumps at the first checkpoint, nor where a unit is dead or was just before.
        """
        top = self.top
        jumped = np.zeros(top.shape, bool)
        jumped[1:] = (top[1:] != top[:-1]) & (top[1:] >= 0) & (top[:-1] >= 0)
        return jumped

    @property
    def correlation_with_last(self) -> np.ndarray:
        """(T, U) float64: Pearson's r of the peaks on all images with those at the last checkpoint.

        NaN where it is not defined: a unit that is dead at either, one whose peaks are all equal,
        fewer than two images.
        """
        common = reduce(np.intersect1d, [one.images for one in self.moments])
        peaks = np.stack([_rows(one, common) for one in self.moments])  # (T, N, U)
        dead = np.stack([one.dead for one in self.moments])
        found = correlation(peaks, peaks[-1:])
        return np.where(dead | dead[-1:], np.nan, found)


def _rows(moment: Moment, images: np.ndarray) -> np.ndarray:
    return moment.peaks[np.isin(moment.images, images)].astype(np.float64)


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's r over the second axis of (T, N, U), (T, U) float64; NaN where it is undefined."""
    one, other = (x - x.mean(axis=1, keepdims=True) for x in (one, other))
    lengths = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    flat = (np.ptp(one, axis=1) == 0) | (np.ptp(other, axis=1) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (one * other).sum(axis=1) / lengths
    return np.where(flat, np.nan, found.clip(-1, 1))


def watch_steps(
    source: Source, units: Sequence[Sequence[int]], beside: Sequence[Observer | None] = ()
) -> Generator[Step, None, list[Moment]]:
    """See what some units of each layer of a source respond to, in one sweep.

    Parameters
    ----------
    source : Source
        The layers' activations at one checkpoint.
    units : sequence of sequence of int
        Of each layer.
    beside : sequence of callable or None
        Who else looks at each layer in the same sweep.
    """
    watches = [Watch(some, shape) for some, shape in zip(units, source.shapes, strict=True)]
    others = [*beside, *[None] * (len(watches) - len(beside))]
    observers = [_both(watch, other) for watch, other in zip(watches, others, strict=True)]
    yield from source.sweep(observers)
    return [watch.moment for watch in watches]


def _both(one: Observer, other: Observer | None) -> Observer:
    def observe(positions: np.ndarray, maps: np.ndarray) -> None:
        one(positions, maps)
        if other is not None:
            other(positions, maps)

    return observe


def evolve(
    sources: Iterable[Source],
    units: Sequence[int],
    progress: Callable[[Step], None] | None = None,
) -> Evolution:
    """Follow some units of a layer over checkpoints.

    Parameters
    ----------
    sources : iterable of Source
        The layer's activations over the same images at each checkpoint, in the training's order;
        each is swept once, and only then the next one is asked for.
    units : sequence of int
        Which.
    progress : callable, optional
        Called often with a Step.

    Returns
    -------
    Evolution
        Top images, jumps, dead units, likeness to the last.

    Raises
    ------
    ValueError
        When there is no source.
    CnnlensError
        When no image can be read.
    """
    moments = tuple(followed(watch_steps(one, [units]), progress)[0] for one in sources)
    if not moments:
        raise ValueError("no checkpoint to look at")
    return Evolution(moments)


def labels_of(found: Dissection) -> list[dict[str, Any]]:
    """Say of every unit that was dissected what it detects best: label, category, IoU."""
    names = [found.concepts.names[best] if best >= 0 else None for best in found.best]
    return [
        {
            "label": "" if name is None else name.label,
            "category": "" if name is None else name.category,
            "iou": float(iou),
            "is_detector": bool(name is not None and iou >= found.settings.min_iou),
        }
        for name, iou in zip(names, found.best_iou, strict=True)
    ]

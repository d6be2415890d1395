"""How sure a layer's number is: intervals over its units, by the bootstrap.

The units of a layer are taken as a sample. Resamples draw as many of them with replacement; the
spread of the statistic over resamples, laid around the statistic itself, is the interval. (Laid
around it, because a count of distinct labels is smaller on every resample than on the sample.)

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, §13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlens.settings import CompareSettings

_AT_ONCE = 1 << 22  # drawn units held at a time


@dataclass(frozen=True)
class Estimate:
    """A statistic of a layer.

    Attributes
    ----------
    value : float
        On the units as they are.
    low, high : float
        The interval.
    units : int
        Units that it rests on.
    draws : numpy.ndarray
        (R,) the statistic on the resamples, moved so that their mean is `value`.
    """

    value: float
    low: float
    high: float
    units: int
    draws: np.ndarray


def mean(values: np.ndarray, settings: CompareSettings) -> Estimate | None:
    """Estimate the mean over units.

    Parameters
    ----------
    values : numpy.ndarray
        (C,) NaN where a unit has no value.
    settings : CompareSettings
        Resamples, level, seed.

    Returns
    -------
    Estimate or None
        None where no unit has a value.
    """
    known = values[~np.isnan(values)].astype(float)
    if known.size == 0:
        return None
    draws = [known[drawn].mean(axis=1) for drawn in _resamples(known.size, settings)]
    return _estimate(float(known.mean()), np.concatenate(draws), known.size, settings)


def count(marked: np.ndarray, settings: CompareSettings) -> Estimate:
    """Estimate how many of the units are marked, (C,) bool."""
    draws = [marked[drawn].sum(axis=1) for drawn in _resamples(marked.size, settings)]
    found = _estimate(float(marked.sum()), np.concatenate(draws), marked.size, settings)
    return _within(found, 0, marked.size)


def distinct(labels: np.ndarray, settings: CompareSettings) -> Estimate:
    """Estimate how many different labels there are among the units.

    Parameters
    ----------
    labels : numpy.ndarray
        (C,) int, -1 for units without one.
    settings : CompareSettings
        Resamples, level, seed.
    """
    names, codes = np.unique(labels, return_inverse=True)
    real = names >= 0
    draws = []
    for drawn in _resamples(labels.size, settings):
        seen = np.zeros((len(drawn), len(names)), bool)
        seen[np.arange(len(drawn))[:, None], codes[drawn]] = True
        draws.append(seen[:, real].sum(axis=1))
    found = _estimate(float(real.sum()), np.concatenate(draws), labels.size, settings)
    return _within(found, 0, labels.size)


def difference(one: Estimate, other: Estimate, settings: CompareSettings) -> Estimate:
    """Estimate `other` − `one`; layers of as many units are drawn alike, unit by unit."""
    draws = other.draws - one.draws
    units = min(one.units, other.units)
    return _estimate(other.value - one.value, draws, units, settings)


def share(right: int, total: int, level: float) -> tuple[float, float]:
    """Wilson's interval of a share, such as an accuracy over images."""
    from scipy.stats import binomtest

    found = binomtest(right, total).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def _resamples(units: int, settings: CompareSettings) -> list[np.ndarray]:
    """Draw units, (r, C) at a time; the same for every statistic of a layer of C units."""
    if units < 1:
        raise ValueError("there is no unit to draw")
    rng = np.random.default_rng([settings.seed, units])
    rows = max(1, _AT_ONCE // units)
    sizes = [min(rows, settings.resamples - r) for r in range(0, settings.resamples, rows)]
    return [rng.integers(0, units, (size, units)) for size in sizes]


def _estimate(value: float, draws: np.ndarray, units: int, settings: CompareSettings) -> Estimate:
    draws = draws - draws.mean() + value
    tail = (1 - settings.level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), units, draws)


def _within(found: Estimate, least: float, most: float) -> Estimate:
    low, high = max(found.low, least), min(found.high, most)
    return Estimate(found.value, low, high, found.units, found.draws)

"""Networks side by side, number by number: how sure each is, what chance gives, how far apart.

The units of a layer are taken as a sample. Resamples draw as many of them with replacement; the
spread of a mean over resamples, laid around the mean itself, is its interval, for few units widened
as Student's is. Counts and shares have Wilson's intervals: resamples of 0 marked units are all 0.
Nor can resamples draw a label that no unit has, so they differ too little in how many there are:
what Chao's estimate of the unseen ones gives counts, where that is wider.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, §13. Colwell, Mao and Chang,
"Interpolating, extrapolating, and comparing incidence-based species accumulation curves", 2004.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from statistics import NormalDist
from typing import Any

import numpy as np

from cnnlens.settings import CompareSettings

Summary = Mapping[str, Any]  # ``summary.json`` of a layer

_AT_ONCE = 1 << 22  # drawn units held at a time


@dataclass(frozen=True)
class Estimate:
    """A statistic of a layer."""

    value: float  #: on the units as they are
    #: low, high: the interval; NaN where there is none
    low: float
    high: float
    units: int  #: units, or images, that it rests on
    #: (R,) a mean on the resamples, moved to lie around `value`; None of other statistics, and
    #: where there is no interval
    draws: np.ndarray | None = None


def mean(values: np.ndarray, settings: CompareSettings) -> Estimate | None:
    """Estimate the mean over units; without an interval where one unit alone has a value.

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
    value = float(known.mean())
    if known.size == 1:
        return Estimate(value, nan, nan, 1)
    means = [known[drawn].mean(axis=1) for drawn in _resamples(known.size, settings)]
    draws = np.concatenate(means)
    # resamples vary around the sample's mean by (n − 1)/n of what samples do around the law's
    draws = value + (draws - draws.mean()) * np.sqrt(known.size / (known.size - 1))
    return _estimate(value, draws, known.size, known.size - 1, settings)


def count(marked: np.ndarray, settings: CompareSettings) -> Estimate:
    """Estimate how many of the units are marked, (C,) bool."""
    found = proportion(int(marked.sum()), marked.size, settings)
    low, high = found.low * marked.size, found.high * marked.size
    return Estimate(float(marked.sum()), low, high, marked.size)


def proportion(marked: int, of: int, settings: CompareSettings) -> Estimate:
    """Estimate the share of units, labels or images that are marked."""
    return Estimate(marked / of, *share(marked, of, settings.level), units=of)


def distinct(labels: np.ndarray, settings: CompareSettings) -> Estimate:
    """Estimate how many different labels there are among the units.

    Parameters
    ----------
    labels : numpy.ndarray
        (C,) int, -1 for units without one.
    settings : CompareSettings
        Resamples, level, seed.
    """
    names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    real = names >= 0
    draws = []
    for drawn in _resamples(labels.size, settings):
        seen = np.zeros((len(drawn), len(names)), bool)
        seen[np.arange(len(drawn))[:, None], codes[drawn]] = True
        draws.append(seen[:, real].sum(axis=1))
    found = int(real.sum())
    variance = max(float(np.concatenate(draws).var()), _unseen_variance(sizes[real]))
    return _as_marked(found, variance, labels.size, settings.level)


def _as_marked(found: int, variance: float, units: int, level: float) -> Estimate:
    """Lay Wilson's interval, of as many marked units as vary as much, around a number of labels.

    It has room above where few are found, none too.
    """
    marked = (units - np.sqrt(max(units * (units - 4 * variance), 0))) / 2  # m(1 − m/C) = variance
    low, high = (units * end - marked for end in share(marked, units, level))
    return Estimate(found, max(found + low, 0), min(found + high, units), units)


def _unseen_variance(sizes: np.ndarray) -> float:
    """Variance of a number of labels over samples, of how many units (L,) have each.

    S(1 − S/T): each of T labels, seen and (Chao's estimate, bias-corrected) unseen, is met or not.
    """
    met, units = len(sizes), int(sizes.sum())
    once, twice = (int((sizes == n).sum()) for n in (1, 2))
    unseen = (units - 1) / units * once * (once - 1) / (2 * (twice + 1)) if units else 0.0
    return met * unseen / (met + unseen) if met else 0.0


def difference(one: Estimate, other: Estimate, settings: CompareSettings) -> Estimate:
    """Estimate `other` − `one`; for means layers of as many units are drawn alike, unit by unit.

    Degrees of freedom are those of the fewer units: Welch's, of the spreads that were seen, are
    many where two of two units happen to be near. Counts and shares have Newcombe's interval: units
    and images are taken for other ones, which is wide where they are the same.
    """
    if one.draws is None or other.draws is None:
        return _apart(one, other)
    units, draws = min(one.units, other.units), other.draws - one.draws
    return _estimate(other.value - one.value, draws, units, units - 1, settings)


def chance_apart(one: float | None, other: float | None) -> float | None:
    """Subtract chance levels, `other` − `one`; None where one is not known, or they are equal.

    By so much numbers differ where nothing was learned.
    """
    return None if one is None or other is None or one == other else other - one


def _apart(one: Estimate, other: Estimate) -> Estimate:
    """Newcombe, "Interval estimation for the difference between independent proportions",
    Statistics in Medicine 1998, method 10; NaN where either has no interval.
    """
    value = other.value - one.value
    low = value - np.hypot(other.value - other.low, one.high - one.value)
    high = value + np.hypot(other.high - other.value, one.value - one.low)
    return Estimate(value, float(low), float(high), min(one.units, other.units))


def share(right: float, total: int, level: float) -> tuple[float, float]:
    """Wilson's interval of a share, such as an accuracy over images; 0 of n has one, too."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle, half = right + z2 / 2, np.sqrt(z2 * (right * (1 - right / total) + z2 / 4))
    low, high = ((middle + end) / (total + z2) for end in (-half, half))
    return max(float(low), 0.0), min(float(high), 1.0)


def _resamples(units: int, settings: CompareSettings) -> list[np.ndarray]:
    """Draw units, (r, C) at a time; the same for every statistic of a layer of C units."""
    if units < 1:
        raise ValueError("there is no unit to draw")
    rng = np.random.default_rng([settings.seed, units])
    rows = max(1, _AT_ONCE // units)
    sizes = [min(rows, settings.resamples - r) for r in range(0, settings.resamples, rows)]
    return [rng.integers(0, units, (size, units)) for size in sizes]


def _estimate(
    value: float, draws: np.ndarray, units: int, freedom: float, settings: CompareSettings
) -> Estimate:
    """Lay the draws' interval around a mean, as much wider as Student's is than the normal one."""
    from scipy.special import stdtrit  # slow to import

    tail = (1 - settings.level) / 2
    wider = stdtrit(freedom, tail) / NormalDist().inv_cdf(tail)
    low, high = value + wider * (np.quantile(draws, [tail, 1 - tail]) - value)
    return Estimate(value, float(low), float(high), units, draws)


# -- measured alike? -----------------------------------------------------------------------------

MARKS = ("data", "labels")  # fingerprints of images and of their labels
_APART = ("seed", "top", "batch_size", "bootstrap")  # settings that do not change what is measured


@dataclass(frozen=True)
class Measured:
    """One command's results on one layer: whose, on which data by name, and their summary."""

    who: str
    data: str
    summary: Summary

    def part(self, key: str) -> Mapping[str, Any]:
        """Give a mapping in the summary; empty where there is none."""
        return _mapping(self.summary.get(key))


def unlike(what: str, mine: Measured, other: Measured) -> Iterator[str]:
    """Say, in sentences, where two results were not measured alike: other data, other settings."""
    both, datas = f"{mine.who} and {other.who}", (mine.data, other.data)
    made = [one.part("made_from") for one in (mine, other)]
    marked = [[one.get(mark) for mark in MARKS] for one in made]
    if any(a and b and a != b for a, b in zip(*marked, strict=True)):
        same = datas[0] == datas[1]
        on = f"other images or labels of {datas[0]}" if same else f"{datas[0]} and {datas[1]}"
        yield f"{what} was measured on {on} in {both}"
    elif all(map(any, marked)) and made[0].get("negatives") != made[1].get("negatives"):
        yield f"{what} was measured on other negatives of {datas[0]} in {both}"
    elif not all(any(marks) for marks in marked) and datas[0] != datas[1]:
        yield f"{what} was measured on {datas[0]} in {mine.who}, on {datas[1]} in {other.who}"
    else:
        first, second = (
            _mapping(one.get("settings")) or whole.part("settings")
            for one, whole in zip(made, (mine, other), strict=True)
        )
        for key in first:
            if key in second and key not in _APART and first[key] != second[key]:
                ways = f"{first[key]} in {mine.who}, {second[key]} in {other.who}"
                yield f"{what} used {key} {ways}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

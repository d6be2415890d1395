"""Which images a unit is shown by, and which units are like it: lists over peaks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cnnlens.measure.masks import compiled

_NEAR = 16  # rows of about the same sum of peaks that one is compared with
_COLUMNS, _ROWS = 64, 64  # units, and images, whose peaks are brought together at once
_BLOCK = 2**27  # bytes of the peaks that are compared at once, in float64
_UNITS = 2048  # that are compared at once


def by_unit(peaks: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Turn peaks (N, C) round, a few units at a time: which ones, and theirs (units, N)."""
    images, units = peaks.shape
    for start in range(0, units, _COLUMNS):
        part = slice(start, min(units, start + _COLUMNS))
        some = np.empty((part.stop - start, images), np.float32)
        for first in range(0, images, _ROWS):  # rows lie far apart: few of them fit into a cache
            some[:, first : first + _ROWS] = peaks[first : first + _ROWS, part].T
        yield part, some


def highest(peaks: np.ndarray, count: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Rank rows by falling value; of equal values the earlier row comes first.

    Parameters
    ----------
    peaks : numpy.ndarray
        (C, N), unit by unit.
    count : int
        Rows wanted.
    rows : numpy.ndarray, optional
        The rows among which they are, in order; left out: all.

    Returns
    -------
    numpy.ndarray
        (C, count) int64; -1 where there are fewer rows.
    """
    found = np.full((len(peaks), count), -1, np.int64)
    best = np.full((len(peaks), count), -np.inf, np.float32)
    insert(peaks if rows is None else peaks[:, rows], 0, found, best)
    return found if rows is None else np.where(found >= 0, rows[found], -1)


@compiled
def insert(values, first, found, best):
    """Put values (R, N), numbered from `first` on, into lists (R, k) of the highest so far.

    Of equal ones that come first stay first; what is not a number is passed over.
    """
    count = best.shape[1]
    for row in range(len(values)):
        for column in range(values.shape[1]):
            value = values[row, column]
            if not value > best[row, count - 1]:
                continue
            at = count - 1
            while at > 0 and best[row, at - 1] < value:
                best[row, at], found[row, at] = best[row, at - 1], found[row, at - 1]
                at -= 1
            best[row, at], found[row, at] = value, first + column


def bin_edges(peaks: np.ndarray, count: int) -> np.ndarray:
    """Edges of bins of equal width, from 0 (or the lowest, below that) to the highest peak.

    Parameters
    ----------
    peaks : numpy.ndarray
        (N, C) float32.
    count : int
        Bins.

    Returns
    -------
    numpy.ndarray
        (C, count + 1) float64.
    """
    low = np.minimum(peaks.min(axis=0), 0).astype(np.float64)[:, None]
    high = peaks.max(axis=0).astype(np.float64)[:, None]
    edges = low + np.arange(count + 1) * ((high - low) / count)
    edges[:, -1:] = high
    return edges


def draw(
    peaks: np.ndarray, edges: np.ndarray, per_bin: int, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw examples from the whole range of units' peaks.

    Parameters
    ----------
    peaks : numpy.ndarray
        (C, N) float32, unit by unit.
    edges : numpy.ndarray
        (C, bins + 1) of each unit's bins; a bin holds its lower edge, the last one both.
    per_bin : int
        Rows drawn from each.
    order : numpy.ndarray
        Rows in the order in which they are taken; those that are not there are never drawn.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        (C, bins, per_bin) int64 rows, by falling peak, -1 where a bin has fewer; (C, bins) int64,
        how many rows each has.
    """
    units, bins = len(edges), edges.shape[1] - 1
    examples = np.full((units, bins, per_bin), -1, np.int64)
    counts = np.zeros((units, bins), np.int64)
    _draw(peaks, edges, order, examples, counts)
    _sort(peaks, examples)
    return examples, counts


@compiled
def _draw(peaks, edges, order, examples, counts):
    units, bins, per_bin = examples.shape
    for unit in range(units):
        low, extent = edges[unit, 0], edges[unit, bins] - edges[unit, 0]
        scale = bins / extent if extent > 0 else 0.0
        where = np.zeros(peaks.shape[1], np.int32)
        for row in range(len(where)):
            at = min(int((peaks[unit, row] - low) * scale), bins - 1)
            while at > 0 and peaks[unit, row] < edges[unit, at]:
                at -= 1
            while at < bins - 1 and extent > 0 and peaks[unit, row] >= edges[unit, at + 1]:
                at += 1
            where[row] = at
            counts[unit, at] += 1
        taken = np.zeros(bins, np.int64)
        left = 0
        for at in range(bins):
            left += min(counts[unit, at], per_bin)
        for row in order:
            at = where[row]
            if taken[at] < per_bin:
                examples[unit, at, taken[at]] = row
                taken[at] += 1
                left -= 1
                if left == 0:
                    break


def _sort(peaks: np.ndarray, examples: np.ndarray) -> None:
    """Sort the rows of each bin by falling peak, ties by row; those that are missing come last."""
    units = np.arange(len(examples))[:, None, None]
    values = np.where(examples >= 0, peaks[units, np.maximum(examples, 0)], -np.inf)
    order = np.lexsort((examples, -values), axis=-1)
    examples[:] = np.take_along_axis(examples, order, axis=-1)


def repeats(peaks: np.ndarray, pixels: Callable[[int], np.ndarray]) -> np.ndarray:
    """(N,) bool: rows whose image was there before, see `firsts`."""
    return np.asarray(firsts(peaks, pixels) != np.arange(len(peaks)))


def firsts(peaks: np.ndarray, pixels: Callable[[int], np.ndarray]) -> np.ndarray:
    """Find the first row of each row's image: equal pixels, whatever the file is called.

    Only images whose peaks agree are decoded.

    Parameters
    ----------
    peaks : numpy.ndarray
        (N, C) float32.
    pixels : callable
        Gives the pixels of a row.

    Returns
    -------
    numpy.ndarray
        (N,) int64.
    """
    found = np.arange(len(peaks))
    if len(peaks) < 2:
        return found
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(_alike(peaks)).tolist():
        image = np.ascontiguousarray(pixels(row))
        mark = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
        found[row] = seen.setdefault(mark, row)
    return found


def _alike(peaks: np.ndarray) -> np.ndarray:
    """(N,) bool: whether some other row has the same peaks, but for rounding in the network."""
    sums = np.array([np.abs(row).sum(dtype=np.float64) for row in peaks])
    least = 1e-3 * np.array([np.abs(row).max() for row in peaks])
    order = np.argsort(sums, kind="stable")
    alike = np.zeros(len(peaks), bool)
    for lag in range(1, min(_NEAR, len(order) - 1) + 1):
        one, other = order[:-lag], order[lag:]
        near = sums[other] - sums[one] <= 1e-4 * sums[other]
        for units in (slice(8), slice(None)):  # most pairs differ in the first few
            near[near] = _agree(peaks[:, units], one[near], other[near], least)
        alike[one[near]] = alike[other[near]] = True
    return alike


def _agree(peaks: np.ndarray, one: np.ndarray, other: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Whether rows `one` and `other` (P,) differ by no more than `least` (N,) in any column."""
    found = np.zeros(len(one), bool)
    for start in range(0, len(one), 256):
        part = slice(start, start + 256)
        apart = np.abs(peaks[one[part]] - peaks[other[part]]).max(axis=1)
        found[part] = apart <= least[one[part]]
    return found


def nearest_units(
    peaks: Sequence[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the units that respond most alike, by Pearson's correlation of peaks over images.

    Parameters
    ----------
    peaks : sequence of numpy.ndarray
        (N, C) of the layer whose units are asked about, then of others, over the same images.
    count : int
        Neighbours wanted.

    Returns
    -------
    numpy.ndarray, numpy.ndarray, numpy.ndarray
        (C, count) int64 units, -1 where there are fewer; (C, count) int64, which of `peaks` each
        is of, -1; (C, count) float32 correlations, NaN. Equal ones come in the order of `peaks`,
        then by unit. A unit whose peaks are all equal has no neighbours and is none.
    """
    mine = peaks[0]
    units = mine.shape[1]
    found = np.full((units, count), -1, np.int64)  # counted through all of `peaks`
    alike = np.full((units, count), -np.inf, np.float32)
    offsets = np.cumsum([0, *(other.shape[1] for other in peaks)])
    blocks = [slice(first, first + _UNITS) for first in range(0, units if count else 0, _UNITS)]
    for number, part in enumerate(blocks):
        for there in blocks[number:]:  # a correlation holds both ways
            r = _correlations(mine[:, part], None if there == part else mine[:, there])
            if there == part:
                np.fill_diagonal(r, np.nan)
            else:
                own = np.ascontiguousarray(r.T)
                insert(own, part.start, found[there], alike[there])
            insert(r, there.start, found[part], alike[part])
    for offset, other in zip(offsets[1:].tolist(), peaks[1:], strict=False):
        for part in blocks:
            for start in range(0, other.shape[1], _UNITS):
                r = _correlations(mine[:, part], other[:, start : start + _UNITS])
                insert(r, offset + start, found[part], alike[part])
    layers = np.where(found >= 0, np.searchsorted(offsets, found, side="right") - 1, -1)
    alone = np.where(found >= 0, found - offsets[layers], -1)
    return alone, layers, np.where(found >= 0, alike, np.float32(np.nan))


def _correlations(mine: np.ndarray, others: np.ndarray | None) -> np.ndarray:
    """Correlate columns (N, C) with others (N, D), or with each other: (C, D) float32; NaN where
    one is constant.

    Rows are read in blocks, so that many images take no more memory than some.
    """
    theirs = mine if others is None else others
    one = _moments(mine)
    other = one if others is None else _moments(theirs)
    found = np.zeros((mine.shape[1], theirs.shape[1]))
    for rows in _row_blocks(mine, theirs):
        own = _standard(mine[rows], *one)
        found += own.T @ (own if others is None else _standard(theirs[rows], *other))
    return np.clip(found, -1, 1).astype(np.float32)


def _row_blocks(*peaks: np.ndarray) -> list[slice]:
    """Cut rows into blocks of which so many columns are held in float64."""
    step = max(1, _BLOCK // (8 * max(one.shape[1] for one in peaks)))
    return [slice(start, start + step) for start in range(0, len(peaks[0]), step)]


def _moments(peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and length about it of columns (N, C), (C,) each; no length where one is constant."""
    blocks = _row_blocks(peaks)
    mean, squares = np.zeros(peaks.shape[1]), np.zeros(peaks.shape[1])
    for rows in blocks:
        mean += peaks[rows].sum(axis=0, dtype=np.float64)
    mean /= len(peaks)
    for rows in blocks:
        apart = peaks[rows].astype(np.float64) - mean
        squares += np.einsum("nc,nc->c", apart, apart)
    constant = peaks.max(axis=0) == peaks.min(axis=0)
    return mean, np.sqrt(np.where(constant | (squares == 0), np.nan, squares))


def _standard(peaks: np.ndarray, mean: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Columns (N, C) less their means, over their lengths, float64."""
    return (peaks.astype(np.float64) - mean) / length

"""What is noted of every unit's values on a batch of images, compiled.

A unit's maps are first brought together, so that everything is asked of them in the processor's
nearest cache, in loops that take many values at once: floats are compared as integers of the same
order, sums are taken in any order where they are exact, and values that follow each other are
counted in tables of their own, since a counter must be written before it can be read again.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from cnnlens.measure.masks import compiled

BINS = 64  # of a histogram
FINEST, _DIGITS, _EXACT = -149, 24, 53  # smallest exponent and bits of float32, bits of float64
_TABLES = 8
_TOGETHER = 2048  # values of an image that are brought near at once
_NEAR = 2**15
_REST = np.int32(0x7FFFFFFF)  # all bits but the sign

_in_any_order = partial(compiled, fastmath={"reassoc"})


@compiled
def look(values, peaks, places, sums, positive, lowest, highest, bins, first, exponent):
    """Note peaks, their places and sums (C, B) of maps (B, C, HW), and what is kept per unit.

    Where a sum is not finite, a value is not, and the unit's bins are left as they are.
    """
    images, units, cells = values.shape
    group = min(units, max(1, _TOGETHER // cells))
    near, edges = np.empty((group, images, cells), np.float32), np.empty(2, np.int32)
    low_high, tables = edges.view(np.float32), np.zeros(_TABLES * BINS, np.int32)
    index = np.empty(images * cells, np.uint16)
    for start in range(0, units, group):
        _gather(values, start, near)
        for unit in range(start, min(start + group, units)):
            own = near[unit - start]  # (B, HW)
            row, bits = own.reshape(-1), own.view(np.int32)
            _extremes(bits.reshape(-1), edges)
            exact = _sums_are_exact(edges, _least(bits.reshape(-1)), cells)
            total = 0.0
            for image in range(images):
                at = _peak(bits, image)
                peaks[unit, image], places[unit, image] = own[image, at], at
                sums[unit, image] = _sum(own, image) if exact else _sum_in_order(own, image)
                total += sums[unit, image]
            if not np.isfinite(total):
                continue
            positive[unit] += _above(row)
            low, high = low_high
            if low < lowest[unit] or high > highest[unit]:
                lowest[unit], highest[unit] = min(lowest[unit], low), max(highest[unit], high)
                first[unit], exponent[unit] = _widened(
                    bins[unit], first[unit], exponent[unit], lowest[unit], highest[unit]
                )
            _count(row, first[unit], exponent[unit], index, tables, bins[unit])


@compiled
def _gather(values, start, near):
    """Bring the maps of some units together, (G, B, HW), from `start` on; zeros all get one sign.

    Small maps of neighbours lie in one piece in every image, and are read in one go.
    """
    for image in range(len(values)):
        for unit in range(start, min(start + len(near), values.shape[1])):
            for cell in range(values.shape[2]):  # a sum with 0 leaves one zero of two
                near[unit - start, image, cell] = values[image, unit, cell] + np.float32(0)


@compiled
def _ordered(bits):
    """Turn a float's bits into an integer of the same order, and back."""
    return np.int32(bits ^ (np.int32(bits >> np.int32(31)) & _REST))


@compiled
def _extremes(bits, edges):
    """Note lowest and highest value of floats, as bits."""
    low, high = _REST, np.int32(~_REST)
    for cell in range(len(bits)):
        key = _ordered(bits[cell])
        low, high = min(low, key), max(high, key)
    edges[0], edges[1] = _ordered(low), _ordered(high)


@compiled
def _least(bits):
    """The smallest magnitude of floats that are not 0, as bits less 1."""
    least = np.uint32(0xFFFFFFFF)
    for cell in range(len(bits)):
        least = min(least, np.uint32(np.uint32(bits[cell] & _REST) - np.uint32(1)))
    return least


@compiled
def _sums_are_exact(edges, least, cells):
    """Whether so many floats of such a range have a sum in float64 that no order changes."""
    most = max(edges[0] & _REST, edges[1] & _REST)
    apart = (most >> 23) - max(1, (np.int64(least) + 1) >> 23)
    return apart + math.ceil(math.log2(cells)) <= _EXACT - _DIGITS


@compiled
def _peak(bits, image):
    """Where the highest of an image's values is, the first of equal ones."""
    best, cells = np.int64(-(2**63)), bits.shape[1]
    for cell in range(cells):
        key = np.int64(_ordered(bits[image, cell])) << np.int64(32)
        best = max(best, key + (cells - cell))
    return cells - (best & 0xFFFFFFFF)


@compiled
def _sum_in_order(maps, image):
    total = 0.0
    for cell in range(maps.shape[1]):
        total += maps[image, cell]
    return total


@_in_any_order  # written twice: compiled code is kept by its function, whatever its options
def _sum(maps, image):
    total = 0.0
    for cell in range(maps.shape[1]):
        total += maps[image, cell]
    return total


@compiled
def _above(row):
    """How many values lie above 0."""
    above = np.int32(0)
    for cell in range(len(row)):
        above = np.int32(above + np.int32(row[cell] > 0))
    return above


@compiled
def _count(row, first, exponent, index, tables, own):
    """Raise the bins in which values lie, each its lower edge included."""
    if -126 <= exponent <= 0:  # multiplied by a power of two, no float32 loses anything
        _number(row, np.float32(math.ldexp(1.0, -exponent)), first, index)
    else:
        _number(row, math.ldexp(1.0, -exponent), first, index)
    for place in index:
        tables[np.uint64(place & (_TABLES * BINS - 1))] += 1
    for start in range(0, len(tables), BINS):
        for bin in range(BINS):
            own[bin] += tables[start + bin]
    tables[:] = 0


@compiled
def _number(row, scale, first, index):
    """Number values by their bins, and the tables by turns."""
    start = np.int32(first)
    for cell in range(len(row)):
        bin = np.int32(np.floor(row[cell] * scale)) - start  # math.floor takes one at a time
        index[cell] = np.uint16(bin + (cell % _TABLES) * BINS)


@compiled
def widen(bins, first, exponent, lowest, highest):
    """Make the bins of units (C, bins) as wide as values from `lowest` to `highest` (C,) need."""
    for unit in range(len(bins)):
        first[unit], exponent[unit] = _widened(
            bins[unit], first[unit], exponent[unit], lowest[unit], highest[unit]
        )


@compiled
def _widened(own, first, exponent, lowest, highest):
    """Make a unit's bins as wide as its values so far need, and no wider: a matter of their range.

    Returned are the number of the first bin and the exponent of the width.
    """
    count = len(own)
    low, high = np.float64(lowest), np.float64(highest)
    furthest = max(abs(low), abs(high))
    wide = exponent
    if furthest > 0:
        wide = max(wide, math.frexp(furthest)[1] - _DIGITS)
    while math.floor(high * 2.0**-wide) - math.floor(low * 2.0**-wide) >= count:
        wide += 1
    start = np.int64(math.floor(low * 2.0**-wide))
    shift = min(wide - exponent, 62)
    if shift == 0 and start == first:
        return start, wide
    spare = np.zeros(count, own.dtype)
    for bin in range(count):
        if own[bin]:
            spare[((first + bin) >> shift) - start] += own[bin]
    for bin in range(count):  # `own[:] = spare` takes numba five seconds to compile
        own[bin] = spare[bin]
    return start, wide

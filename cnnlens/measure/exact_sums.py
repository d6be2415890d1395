"""Sums of float64 numbers without rounding, which no order of the summands changes.

A sum is kept as a whole number of the smallest float32, 2⁻¹⁴⁹, in words of 32 bits that lie in
64-bit integers: carries wait in the upper half. Sums of parts are added word by word, so processes
that each sum up some images come to the bits of one that sums up all.

The same idea in Kulisch, "Very fast and exact accumulation of products", Computing 91, 2011.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cnnlens.distributed import Share
from cnnlens.measure.image_tables import room
from cnnlens.measure.masks import compiled

_WORDS = 11  # 352 bits: 2**30 sums over maps of 2**32 values stay below 2**190
_BITS, _LAST = 32, -149  # of a word; what its lowest bit of all stands for, 2 to this
_LOW = np.int64(0xFFFFFFFF)
_MANTISSA, _BIAS = 52, 1075  # of a float64: its fraction's bits; 1 is 2**52 times 2**(1023 - 1075)


class ExactSums:
    """Adds up rows of numbers, each to one of some sums of rows.

    Parameters
    ----------
    kinds, columns : int
        K sums of C columns.
    folder : pathlib.Path or None
        Where large tables are kept; None: in memory.
    """

    def __init__(self, kinds: int, columns: int, folder: Path | None = None) -> None:
        self._words = room((kinds, columns, _WORDS), np.int64, folder)

    def add(self, values: np.ndarray, kinds: np.ndarray) -> None:
        """Add values (B, C) to the sums of their kinds (B,).

        Parameters
        ----------
        values : numpy.ndarray
            float64, finite, multiples of 2⁻¹⁴⁹, as sums of float32 are.
        kinds : numpy.ndarray
            int64.
        """
        _add(self._words, np.ascontiguousarray(values).view(np.int64), kinds)

    def put_together(self, share: Share) -> None:
        """Go on with the sums over all processes of a run."""
        share.add_up(self._words)

    @property
    def sums(self) -> np.ndarray:
        """(K, C) float64: each the number nearest to its sum."""
        return _rounded(self._words)

    @property
    def total(self) -> np.ndarray:
        """(C,) float64: the same over all kinds."""
        found: np.ndarray = _rounded(self._words.sum(axis=0, keepdims=True))[0]
        return found


@compiled
def _add(words, values, kinds):
    """Add float64 numbers (B, C), as bits, to words (K, C, W)."""
    for row in range(len(values)):
        own = words[kinds[row]]
        for column in range(values.shape[1]):
            bits = values[row, column]
            exponent = (bits >> _MANTISSA) & 0x7FF
            if exponent == 0:
                continue
            whole = (bits & ((1 << _MANTISSA) - 1)) | (1 << _MANTISSA)
            place = exponent - _BIAS - _LAST
            if place < 0:  # what falls out are zeros
                whole >>= -place
                place = 0
            word, shift = place // _BITS, place % _BITS
            low, high = (whole & _LOW) << shift, (whole >> _BITS) << shift
            sign = -1 if bits < 0 else 1
            own[column, word] += sign * (low & _LOW)
            own[column, word + 1] += sign * ((low >> _BITS) + (high & _LOW))
            own[column, word + 2] += sign * (high >> _BITS)


@compiled
def _rounded(words):
    """Turn words (K, C, W) into the nearest float64 numbers, of two equally near the even one."""
    kinds, columns, count = words.shape
    found, digits = np.zeros((kinds, columns)), np.empty(count, np.int64)
    for kind in range(kinds):
        for column in range(columns):
            sign = 1
            if _carried(words[kind, column], sign, digits) < 0:
                sign = -1
                _carried(words[kind, column], sign, digits)
            first = count - 1
            while first >= 0 and digits[first] == 0:
                first -= 1
            if first >= 0:
                found[kind, column] = sign * _float(digits, first)
    return found


@compiled
def _carried(words, sign, digits):
    """Turn words times a sign into digits of 32 bits; return what is carried beyond: 0, or -1 of
    a negative number.
    """
    carry = np.int64(0)
    for place in range(len(words)):
        whole = sign * words[place] + carry
        digits[place] = whole & _LOW
        carry = whole >> _BITS
    return carry


@compiled
def _float(digits, first):
    """The float64 nearest to a number whose highest digit is `first`: of its 64 highest bits, the
    last says whether anything follows.
    """
    long = 0
    while digits[first] >> long:
        long += 1
    after = digits[first - 1] if first > 0 else np.int64(0)
    third = digits[first - 2] if first > 1 else np.int64(0)
    top = np.uint64(digits[first]) << np.uint64(_BITS) | np.uint64(after)
    top = top << np.uint64(_BITS - long) | np.uint64(third) >> np.uint64(long)
    left = third & ((1 << long) - 1)
    for place in range(first - 2):
        left |= digits[place]
    if left:
        top |= np.uint64(1)
    return math.ldexp(np.float64(top), _BITS * (first - 2) + long + _LAST)

"""Sums without rounding are those of the standard library's fsum, in whatever order and parts."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cnnlens.measure.exact_sums import ExactSums

from ..activations.test_shared import Beside


def hard(count: int, columns: int, seed: int) -> np.ndarray:
    """Numbers (B, C) of any sign and size that sums of float32 have; sums that nearly vanish."""
    random = np.random.default_rng(seed)
    values = np.ldexp(random.standard_normal((count, columns)), random.integers(-60, 160, columns))
    values[:, 0] = random.integers(-(2**60), 2**60, count)
    values[:, 1] = random.standard_normal(count).astype(np.float32) * 2.0 ** random.integers(
        -60, 60, count
    )
    values[: count // 2, 2] = -values[count - count // 2 :, 2]
    values[:, 3] = random.integers(-9, 9, count) * 2.0**-149
    values[:, 4] = -np.abs(values[:, 4])
    values[:, 5] = 0
    grain = 2.0**-149
    fine = np.abs(values) < 2.0**-90
    values[fine] = np.round(values[fine] / grain) * grain
    return values


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_sums_are_those_of_fsum(count: int) -> None:
    random = np.random.default_rng(count)
    for seed in range(20):
        values, kinds = hard(count, 9, seed), random.integers(0, 3, count)
        sums = ExactSums(3, 9)
        order = random.permutation(count)
        for some in np.array_split(order, 4):  # in any order and batches
            sums.add(values[some], kinds[some])
        for column in range(9):
            assert sums.total[column] == math.fsum(values[:, column])
            for kind in range(3):
                assert sums.sums[kind, column] == math.fsum(values[kinds == kind, column])


def test_a_sum_halfway_between_two_numbers_is_the_even_one() -> None:
    halves = [2.0**53, 1.0], [2.0**53 + 2, 1.0], [2.0**53, 1.0, 2.0**-149], [2.0**53, 1, -(2**-149)]
    halves += ([-(2.0**53), -1.0], [2.0**160, 2.0**107, 2.0**-149], [2.0**160, 2.0**107])
    for one in halves:
        sums = ExactSums(1, 1)
        sums.add(np.array(one)[:, None], np.zeros(len(one), np.int64))
        assert sums.total[0] == float(sum(map(Fraction, one))), one


def test_carries_wait() -> None:
    """A million times the largest digits: words are carried over only where sums are read."""
    value, many = np.nextafter(2.0**40, 0), 2**20
    sums = ExactSums(1, 1)
    for _ in range(4):
        sums.add(np.full((many // 4, 1), -value), np.zeros(many // 4, np.int64))
    assert sums.total[0] == -value * many
    assert np.abs(sums._words).max() > 2**32


def test_sums_of_processes_are_added(tmp_path: Path) -> None:
    values, kinds = hard(31, 9, 0), np.random.default_rng(0).integers(0, 4, 31)
    whole = ExactSums(4, 9)
    whole.add(values, kinds)
    part = ExactSums(4, 9, tmp_path)
    part.add(values[:13], kinds[:13])
    rest = ExactSums(4, 9)
    rest.add(values[13:], kinds[13:])

    class Other(Beside):
        def add_up(self, counts: np.ndarray) -> None:
            counts += rest._words

    part.put_together(Other(0, 2, True))
    np.testing.assert_array_equal(part.sums, whole.sums)
    np.testing.assert_array_equal(part.total, whole.total)

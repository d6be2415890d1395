from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cnnlens.measure.threshold import TopValues

from ..reference.dissect import threshold

SHARE = Fraction(5, 1000)


def streamed(
    values: np.ndarray, share: Fraction, batch: int, room: int | None = None
) -> np.ndarray:
    """Return the thresholds of (N, C, H, W) taken in `batch` images at a time."""
    top = TopValues(share, values.shape[1], room or values[:, 0].size)
    for start in range(0, len(values), batch):
        top.update(np.ascontiguousarray(values[start : start + batch]))
    return top.thresholds()


def same_bits(a: np.ndarray, b: list[float]) -> bool:
    return a.tobytes() == (np.array(b, np.float32) + 0).tobytes()  # one zero


@pytest.mark.parametrize("count", [1, 2, 3, 199, 200, 201, 399, 400, 401, 1000, 1001])
def test_tiny_and_round_numbers_of_values_are_exact(count):
    rng = np.random.default_rng(count)
    values = rng.normal(size=(count, 3, 1, 1)).astype(np.float32)
    values[:, 1] = np.round(values[:, 1])
    values[:, 2] = np.arange(count)[::-1, None, None]
    expected = [threshold(values[:, u], SHARE) for u in range(3)]
    assert same_bits(streamed(values, SHARE, 7), expected)
    # in words: exactly floor(count / 200) of all-different values lie above
    assert (values[:, 2] > expected[2]).sum() == count // 200


def test_a_share_that_floats_cannot_hold_is_not_rounded():
    # 0.29 * 100 is 28.999999999999996 in floats: 28 values above instead of 29
    values = np.arange(100, dtype=np.float32).reshape(100, 1, 1, 1)
    found = streamed(values, Fraction("0.29"), 10)
    assert (values > found[0]).sum() == 29


@pytest.mark.parametrize("batch", [1, 13, 600])
def test_many_prunes_of_the_buffer_lose_nothing(batch):
    rng = np.random.default_rng(0)
    n = 600
    values = np.stack(
        [
            rng.normal(size=(n, 100)),
            np.sort(rng.normal(size=n * 100)).reshape(n, 100),  # rising: prunes all the time
            np.sort(rng.normal(size=n * 100))[::-1].reshape(n, 100),
            np.maximum(rng.normal(size=(n, 100)) - 2.5, 0),  # 99.4 % zeros
            np.maximum(rng.normal(size=(n, 100)) - 3.0, 0),  # more zeros than the quantile
            rng.integers(0, 3, (n, 100)),
            np.full((n, 100), -7.5),
            1 + rng.normal(size=(n, 100)) / 1e5,  # close together
            -np.abs(rng.normal(size=(n, 100))) - 1,
        ],
        axis=1,
    ).astype(np.float32)[..., None]
    room = TopValues(SHARE, 9, n * 100)._buffer.shape[1]
    assert room * 5 < n * 100  # so that a rising unit prunes its buffer many times
    expected = [threshold(values[:, u], SHARE) for u in range(9)]
    assert same_bits(streamed(values, SHARE, batch), expected)


def test_fewer_values_than_announced_are_fine():
    values = np.random.default_rng(1).normal(size=(50, 2, 3, 3)).astype(np.float32)
    expected = [threshold(values[:, u], SHARE) for u in range(2)]
    assert same_bits(streamed(values, SHARE, 8, room=100_000), expected)


def test_zeros_of_both_signs_give_one_threshold_whatever_the_order():
    zeros = np.zeros((300, 1, 1, 1), np.float32)
    zeros[::2] = -0.0
    bits = {streamed(np.roll(zeros, k, axis=0), SHARE, 300).tobytes() for k in range(4)}
    assert bits == {np.float32(0.0).tobytes()}


def test_lowest_and_highest_are_the_unit_s_own():
    values = np.random.default_rng(2).normal(size=(40, 3, 4, 4)).astype(np.float32)
    values[:, 1] = -np.abs(values[:, 1]) - 2
    top = TopValues(SHARE, 3, values[:, 0].size)
    top.update(values)
    assert top.lowest.tolist() == values.min(axis=(0, 2, 3)).tolist()
    assert top.highest.tolist() == values.max(axis=(0, 2, 3)).tolist()


def test_nothing_taken_in_is_the_caller_s_mistake():
    with pytest.raises(ValueError, match="no activations"):
        TopValues(SHARE, 2, 0).thresholds()

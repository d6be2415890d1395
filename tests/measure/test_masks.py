from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cnnlens.measure.masks import TopValues, axis, mask, mask_pixels

from ..reference.dissect import threshold, upsampled

SIZES = [
    ((7, 7), (56, 56)),
    ((1, 1), (5, 9)),
    ((13, 5), (224, 11)),
    ((9, 9), (4, 30)),
    ((6, 6), (6, 6)),
    ((30, 31), (7, 8)),
    ((2, 3), (1, 1)),
]


@pytest.mark.parametrize(("source", "out"), SIZES)
def test_upsampling_is_torch_s_bilinear_without_aligned_corners(source, out):
    map_ = np.random.default_rng(0).normal(size=source).astype(np.float32)
    theirs = F.interpolate(
        torch.from_numpy(map_).double()[None, None], size=out, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(upsampled(map_, out), theirs, rtol=0, atol=1e-12)
    for limit in np.quantile(theirs, [0.05, 0.5, 0.9, 0.995]).astype(np.float32):
        sure = np.abs(theirs - limit) > 1e-9
        assert np.array_equal(mask(map_, limit, out)[sure], (theirs > limit)[sure])


@pytest.mark.parametrize(("source", "out"), SIZES)
def test_sparse_masks_equal_dense_ones_pixel_for_pixel(source, out):
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(20, *source)).astype(np.float32)
    maps[5:10] = np.round(maps[5:10])
    maps[10:15] = np.clip(maps[10:15] * 3, 0, 6)
    thresholds = np.array([rng.choice(m.ravel()) for m in maps], np.float32)
    thresholds[0] = -1e30  # everything: the buffer must grow
    found = mask_pixels(maps, thresholds, out)
    assert found.ends[0] == 0 and found.ends[-1] == len(found.pixels)
    for unit, map_ in enumerate(maps):
        dense = np.flatnonzero(upsampled(map_, out) > float(thresholds[unit]))
        own = found.pixels[found.ends[unit] : found.ends[unit + 1]]
        assert sorted(own.tolist()) == dense.tolist()


def exact(map_: np.ndarray, out: tuple[int, int]) -> list[list[Fraction]]:
    """Bilinear upsampling without any rounding."""

    def places(source: int, target: int) -> list[tuple[int, int, Fraction]]:
        found = []
        for i in range(target):
            at = max(Fraction(2 * i + 1, 2) * source / target - Fraction(1, 2), Fraction(0))
            low = min(int(at), source - 1)
            found.append((low, min(low + 1, source - 1), at - low))
        return found

    v = [[Fraction(float(x)) for x in row] for row in map_]
    return [
        [
            (v[t][a] * (1 - x) + v[t][b] * x) * (1 - y) + (v[u][a] * (1 - x) + v[u][b] * x) * y
            for a, b, x in places(map_.shape[1], out[1])
        ]
        for t, u, y in places(map_.shape[0], out[0])
    ]


@pytest.mark.parametrize("out", [(7, 7), (21, 14), (35, 10), (3, 2)])
def test_a_plateau_never_exceeds_its_own_height(out):
    rng = np.random.default_rng(2)
    for height in np.array([6.0, 0.1, 1 / 3, 1e-30, 123456.79], np.float32):
        map_ = np.where(rng.random((7, 7)) < 0.7, height, height * rng.random((7, 7)))
        map_ = map_.astype(np.float32)
        assert not mask(map_, height, out).any()
        assert not mask(-map_ * 0 - height, -height, out).any()
        below = np.nextafter(height, np.float32(-np.inf))
        inside = np.array([[v > Fraction(float(below)) for v in r] for r in exact(map_, out)])
        assert np.array_equal(mask(map_, below, out), inside)


def test_masks_agree_with_exact_arithmetic_on_whole_numbers():
    rng = np.random.default_rng(3)
    for source, out in [((4, 4), (16, 16)), ((3, 5), (12, 10)), ((2, 2), (32, 8))]:
        map_ = rng.integers(-4, 5, source).astype(np.float32)
        values = exact(map_, out)  # weights are dyadic here: floats hold them, ties included
        for limit in range(-4, 5):
            truth = np.array([[v > limit for v in row] for row in values])
            assert np.array_equal(mask(map_, limit, out), truth)


def test_every_output_lies_in_exactly_one_cell():
    for source in range(1, 12):
        for out in range(1, 40):
            found = axis(source, out)
            assert found.first[0] == 0 and found.first[-1] == out
            assert (np.diff(found.first) >= 0).all()
            assert ((found.weight >= 0) & (found.weight < 1)).all()


# -- thresholds

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


@pytest.fixture(scope="module")
def pruned():
    """Values (600, 9, 100, 1) that fill the buffer again and again, and their thresholds."""
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
    return values, [threshold(values[:, u], SHARE) for u in range(9)]


@pytest.mark.parametrize("batch", [1, 13, 600])
def test_many_prunes_of_the_buffer_lose_nothing(batch, pruned):
    values, expected = pruned
    room = TopValues(SHARE, 9, values[:, 0].size)._buffer.shape[1]
    assert room * 5 < values[:, 0].size  # so that a rising unit prunes its buffer many times
    assert same_bits(streamed(values, SHARE, batch), expected)


@pytest.mark.parametrize("batch", [1, 6, 200])
def test_the_value_at_which_a_buffer_fills_counts_once(batch):
    rising = np.arange(20_000).reshape(200, 100)  # half of them are kept, room is for few more
    values = np.stack([rising[::-1, ::-1], rising, rising], axis=1)[..., None].astype(np.float32)
    assert streamed(values, Fraction(1, 2), batch).tolist() == [9_999] * 3


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

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cnnlens.measure.iou import axis, mask, mask_pixels

from ..reference.dissect import upsampled

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

"""Units over checkpoints, against a slow literal version and planted changes."""

from __future__ import annotations

import numpy as np
import pytest

import cnnlens
from cnnlens.activations.kept import KeptUnits
from cnnlens.errors import CnnlensError
from cnnlens.measure.evolution import Evolution, watch_steps
from cnnlens.progress import Step, followed
from tests.reference import evolve as reference

UNITS = [4, 0, 2, 5]


class Arrays:
    """Maps (N, C, H, W) as a source, in batches of some size."""

    def __init__(self, maps, batch=3):
        self.maps, self.batch, self.skipped = maps, batch, []
        self.shapes, self.limits = [maps.shape[1:]], [len(maps)]

    def sweep(self, observers):
        for start in range(0, len(self.maps), self.batch):
            rows = np.arange(start, min(start + self.batch, len(self.maps)))
            observers[0](rows, self.maps[rows])
            yield Step(int(rows[-1]) + 1, len(self.maps))


def rectified(seed, images=11):
    return np.maximum(np.random.default_rng(seed).normal(size=(images, 6, 4, 5)), 0).astype("f4")


def planted():
    """Three checkpoints: unit 4 is replaced before the second, unit 0 dies at the third."""
    first = rectified(0)
    second = first * np.float32(1.5)
    second[:, 4] = rectified(1)[:, 4]
    second[7, 4, 2, 3] = 50
    third = second + np.float32(0)
    third[:, 0] = 0
    third[:, 5] = -1
    return [first, second, third]


def test_it_agrees_with_a_slow_literal_version():
    maps = [*planted(), rectified(5)]
    maps[-1][:, 2] = 3.0  # alive, and the same on all images
    found = cnnlens.evolve([Arrays(one) for one in maps], UNITS)
    wanted = reference.evolution([list(one) for one in maps], UNITS)
    for moment, top, jumped, r, want in zip(
        found.moments, found.top, found.jumped, found.correlation_with_last, wanted, strict=True
    ):
        assert moment.dead_units == want["dead_units"]
        for row, one in enumerate(want["units"]):
            assert top[row] == one["top"] and jumped[row] == one["jumped"]
            assert r[row] == pytest.approx(one["r"], abs=1e-9, nan_ok=True)
            assert moment.highest[UNITS[row]] == np.float32(one["peak"])
            assert one["top"] < 0 or tuple(moment.at[row]) == one["at"]


def test_a_planted_change_is_a_jump_and_a_planted_death_is_dead():
    found = cnnlens.evolve([Arrays(one) for one in planted()], UNITS)
    assert np.argwhere(found.jumped).tolist() == [[1, 0]]  # unit 4, at the second
    assert found.top[1, 0] == 7 and found.moments[1].at[0].tolist() == [2, 3]
    assert [one.dead_units for one in found.moments] == [0, 0, 2]
    assert np.isnan(found.correlation_with_last[:, [1, 3]]).all()  # dead in the end
    assert found.correlation_with_last[:, 2] == pytest.approx(1)  # a factor changes no r
    assert abs(found.correlation_with_last[0, 0]) < 0.9


@pytest.mark.parametrize("batch", [1, 11])
def test_the_batch_size_changes_nothing(batch):
    one, other = (
        cnnlens.evolve([Arrays(maps, size) for maps in planted()], UNITS) for size in (4, batch)
    )
    assert np.array_equal(one.top, other.top)
    assert np.array_equal(one.correlation_with_last, other.correlation_with_last, equal_nan=True)
    assert all(np.array_equal(a.at, b.at) for a, b in zip(one.moments, other.moments, strict=True))


def test_one_image_has_a_top_and_no_correlation():
    found = cnnlens.evolve([Arrays(rectified(seed, images=1)) for seed in (0, 1)], [1])
    assert found.top.tolist() == [[0], [0]] and not found.jumped.any()
    assert np.isnan(found.correlation_with_last).all()


def test_checkpoints_are_asked_for_one_by_one_and_none_is_no_evolution():
    alive = []

    def opened():
        for seed in range(3):
            alive.append(seed)
            yield Arrays(rectified(seed))

    cnnlens.evolve(opened(), [0], lambda step: alive.append(None))
    assert alive.index(1) > 3  # the first was swept before the second was opened
    with pytest.raises(ValueError, match="no checkpoint"):
        cnnlens.evolve([], [0])
    with pytest.raises(CnnlensError, match="no image"):
        cnnlens.evolve([Arrays(rectified(0)[:0])], [0])


def test_images_that_one_checkpoint_lacks_are_left_out_of_the_correlation():
    first, last = (
        followed(watch_steps(Arrays(rectified(seed)), [[1]]), None)[0] for seed in (0, 1)
    )
    fewer = type(last)(last.units, last.images[1:], last.peaks[1:], last.at, last.highest)
    r = Evolution((first, fewer)).correlation_with_last[0, 0]
    assert r == pytest.approx(np.corrcoef(first.peaks[1:, 0], last.peaks[1:, 0])[0, 1])


def test_what_was_kept_of_a_sweep_is_shown_again(tmp_path):
    maps = rectified(0)
    kept = KeptUnits([5, 1], maps.shape[1:], tmp_path)
    followed(watch_steps(Arrays(maps), [[0]], [kept]), None)
    assert kept.shapes == [(2, 4, 5)] and kept.limits == [11]
    for _ in range(2):  # as often as needed
        seen = np.zeros((11, 2, 4, 5), np.float32)
        for step in kept.sweep([seen.__setitem__]):
            assert step.total == 11
        assert np.array_equal(seen, maps[:, [5, 1]])
    del kept
    assert list(tmp_path.iterdir()) == []

"""Maps on top images, kept in one look; the units that fire most on an image."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlens.distributed import Share
from cnnlens.measure.unit_maps import GRID, STEPS, TopMaps, coarse, fill_late
from cnnlens.measure.units import units
from cnnlens.settings import UnitsSettings

from ..activations.test_shared import in_threads
from .test_units import Maps, data


def test_maps_are_kept_in_steps_of_their_peaks() -> None:
    maps = np.zeros((2, 3, 40, 30), np.float32)
    maps[0, 1, 39, 29], maps[0, 1, 0, 0] = 6.0, 3.0
    maps[1, 2] = -1
    found = coarse(maps)
    assert found.shape == (2, 3, 20, 15) and max(found.shape[2:]) <= GRID
    assert found[0, 1, 19, 14] == STEPS and found[0, 1, 0, 0] == round(STEPS / 2)
    assert found.sum() == STEPS + round(STEPS / 2)
    small = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    np.testing.assert_array_equal(coarse(small)[0, 0], np.round(small[0, 0] * STEPS / 7))


@pytest.mark.filterwarnings("error")
def test_steps_of_huge_maps_are_those_of_the_same_maps_made_smaller() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 5, 6, 6)).astype(np.float32)
    expected = coarse(maps)
    grown = maps.copy()
    grown[1] *= np.float32(2.0**126)  # up to 3e38, above and below 0
    assert np.isfinite(grown).all() and grown.max() > 2e38
    np.testing.assert_array_equal(coarse(grown), expected)


def kept_of(maps: np.ndarray, batch: int) -> TopMaps:
    kept = TopMaps(maps.shape[1:])
    for start in range(0, len(maps), batch):
        some = maps[start : start + batch]
        kept(start, np.ascontiguousarray(some.max(axis=(2, 3)).T), some)
    return kept


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_maps_of_the_highest_peaks_are_kept_whatever_the_batches(batch: int) -> None:
    maps = np.random.default_rng(0).integers(0, 9, (60, 3, 2, 2)).astype(np.float32)  # many ties
    order = np.argsort(-maps.max(axis=(2, 3)), axis=0, kind="stable")[:9].T  # (3, 9)
    kept = kept_of(maps, batch)
    found = kept.of(order)
    for unit in range(3):
        np.testing.assert_array_equal(found[unit], coarse(maps[order[unit], unit]))
    assert (kept.lacks(order) == -1).all() and not kept.of(np.full((3, 2), -1)).any()


@pytest.mark.parametrize("of", [2, 3, 61])  # one without an image
def test_maps_that_processes_have_kept_are_those_that_one_keeps(of: int) -> None:
    maps = np.random.default_rng(of).integers(0, 9, (60, 3, 2, 2)).astype(np.float32)
    order = np.argsort(-maps.max(axis=(2, 3)), axis=0, kind="stable")[:12].T  # (3, 12)

    def work(share: Share) -> list[TopMaps]:
        rows = share.run_of(range(60))
        kept = kept_of(maps[rows[0] : rows[-1] + 1], 7) if rows else TopMaps(maps.shape[1:])
        kept.put_together(share, 60 * share.number // of)
        return [kept] if share.leads else []

    (kept,) = in_threads(work, of)
    assert (kept.lacks(order) == -1).all()
    for unit in range(3):
        np.testing.assert_array_equal(kept.of(order)[unit], coarse(maps[order[unit], unit]))


def test_what_was_not_kept_is_looked_for_once_more() -> None:
    maps = np.random.default_rng(1).random((40, 3, 4, 4)).astype(np.float32)
    low = np.argsort(maps.max(axis=(2, 3)), axis=0)[:2].T  # (3, 2): nowhere near the top
    low[1, 1] = -1
    kept, source = kept_of(maps, 8), Maps(maps)
    found = kept.of(low)
    assert not found.any()
    list(fill_late(source, [kept.lacks(low)], [found]))
    np.testing.assert_array_equal(found[0], coarse(maps[low[0], 0]))
    np.testing.assert_array_equal(found[1, 0], coarse(maps[low[1, 0], 1]))
    assert not found[1, 1].any()


def test_activations_are_looked_at_once() -> None:
    source, sweeps = Maps(np.random.default_rng(2).random((30, 4, 3, 3)).astype(np.float32)), []
    sweep = source.sweep
    source.sweep = lambda observers: (sweeps.append(1), sweep(observers))[1]  # type: ignore[method-assign]
    (found,) = units(source, data(30), UnitsSettings())
    assert len(sweeps) == 1 and (found.top_map.max(axis=(2, 3)) == STEPS).all()


def test_every_image_names_the_units_nearest_to_their_highest_peaks() -> None:
    maps = np.random.default_rng(1).random((7, 12, 3, 5)).astype(np.float32)
    maps[:, 4] = 0  # dead
    maps[2, 5:] = 0
    (found,) = units(Maps(maps), data(7), UnitsSettings())
    peaks = maps.max(axis=(2, 3))
    for image in range(7):
        shares = {u: peaks[image, u] / peaks[:, u].max() for u in range(12) if u != 4}
        alive = [u for u in shares if shares[u] > 0]
        # of those at their highest peak, the ones that seldom fire come first
        often = (maps > 0).mean(axis=(0, 2, 3))
        expected = sorted(alive, key=lambda u: 1e-6 * often[u] - shares[u])[:8]
        named = found.image_units[image]
        assert named[named >= 0].tolist() == expected
        for rank, unit in enumerate(expected):
            y, x = found.image_place[image, rank]
            assert maps[image, unit, y, x] == peaks[image, unit] == found.image_peak[image, rank]

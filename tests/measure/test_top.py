from __future__ import annotations

import numpy as np
import pytest

from cnnlens.measure.ranked_targets import rank_steps
from cnnlens.measure.top import Histogram, TopImages, nearest, peaks
from tests.measure.worlds import ArraySource


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_top_images_are_those_of_a_stable_sort(batch):
    rng = np.random.default_rng(0)
    maps = rng.integers(-3, 4, (23, 5, 2, 3)).astype(np.float32)  # many equal peaks
    maps[:, 4] = -5
    positions = np.sort(rng.choice(100, 23, replace=False))
    top = TopImages((5, 2, 3), 4)
    for start in range(0, 23, batch):
        top.update(positions[start : start + batch], maps[start : start + batch])
    peaks = maps.max(axis=(2, 3))
    for unit in range(5):
        order = np.argsort(-peaks[:, unit], kind="stable")[:4]
        assert top.positions[unit].tolist() == positions[order].tolist()
        assert top.peaks[unit].tolist() == peaks[order, unit].tolist()
        assert np.array_equal(top.maps[unit], maps[order, unit])


def test_fewer_images_than_asked_for_leave_gaps():
    top = TopImages((1, 1, 1), 3)
    top.update(np.array([7]), np.full((1, 1, 1, 1), -2, np.float32))
    assert top.positions.tolist() == [[7, -1, -1]]
    assert top.peaks.tolist() == [[-2, -np.inf, -np.inf]]


def test_histograms_count_every_value_once_where_numpy_does():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(30, 3, 5, 5)).astype(np.float32)
    maps[:, 1] = -np.abs(maps[:, 1]) - 1
    maps[:, 2] = 4
    low, high = maps.min(axis=(0, 2, 3)), maps.max(axis=(0, 2, 3))
    histogram = Histogram(low, high, bins=16)
    histogram.update(maps[:11])
    histogram.update(maps[11:])
    assert histogram.counts.sum(axis=1).tolist() == [750] * 3
    for unit in range(2):
        counts, edges = np.histogram(maps[:, unit], 16, (low[unit], high[unit]))
        assert np.abs(histogram.counts[unit] - counts).sum() <= 2  # values on a border
        np.testing.assert_allclose(histogram.edges[unit], edges, rtol=1e-5, atol=1e-6)


def test_peaks_are_those_of_the_whole_array_however_it_comes():
    maps = np.random.default_rng(0).normal(size=(10, 6, 3, 4)).astype(np.float32)
    positions = np.array([0, 1, 2, 4, 5, 6, 7, 9, 10, 11])
    batches = [(positions[a : a + 4], maps[a : a + 4]) for a in (0, 4, 8)]
    found = peaks(iter(batches), [5, 2])
    np.testing.assert_array_equal(found.of(2), maps[:, 2].max((1, 2)))
    np.testing.assert_array_equal(found.of(5), maps[:, 5].max((1, 2)))
    order = sorted(range(10), key=lambda row: -maps[row, 2].max())
    assert found.top(2, 3) == [int(positions[row]) for row in order[:3]]


def test_an_empty_store_has_no_top():
    found = peaks(iter([]), [1])
    assert found.top(1, 3) == []


@pytest.mark.parametrize("batch", [1, 4])
def test_targets_of_several_layers_are_ranked_in_one_sweep(batch):
    draw = np.random.default_rng(1)
    layers = [draw.standard_normal((9, c, 3, 3)).astype(np.float32) for c in (4, 2)]
    layers[1][:, 1] = -1  # dead
    targets = [[(2, None), (0, (1, 2))], [(1, None)]]
    source = ArraySource(layers, batch, range(10, 19))
    steps = rank_steps(source, targets, 3)
    with pytest.raises(StopIteration) as end:
        while True:
            assert next(steps).stage == "looking for top images"
    first, second = end.value.value
    for number, values in enumerate((layers[0][:, 2].max((1, 2)), layers[0][:, 0, 1, 2])):
        order = np.argsort(-values, kind="stable")[:3]
        assert first.best(number) == [(10 + i, float(values[i])) for i in order]
        assert first.dead(number) == ""
    assert second.dead(0) == "never above 0 on 9 images"


def test_nearest_are_those_of_highest_cosine_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((23, 5, 3, 4), np.float32)
    wanted = rng.random((2, 5))

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return sum(a * b) / (sum(a**2) * sum(b**2)) ** 0.5

    means = [[channel.sum() / channel.size for channel in image] for image in maps.astype(float)]
    truth = [
        sorted(range(23), key=lambda i, v=vector: -cosine(np.array(means[i]), v))[:4]
        for vector in wanted
    ]
    order = rng.permutation(23)
    for size in (1, 7, 23):
        batches = [(order[i : i + size], maps[order[i : i + size]]) for i in range(0, 23, size)]
        assert nearest(batches, wanted, 4).tolist() == truth
    few = nearest([(np.arange(2), maps[:2])], wanted, 4)
    assert (few[:, 2:] == -1).all() and (few[:, :2] >= 0).all()

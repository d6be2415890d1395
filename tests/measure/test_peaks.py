from __future__ import annotations

import numpy as np

from cnnlens.measure.peaks import peaks


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

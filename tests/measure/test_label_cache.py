from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cnnlens.data.concept_space import BadLabels
from cnnlens.measure.label_cache import LabelCache, permutations

CATEGORY_OF = np.array([0, 0, 1, 1, 1, 2])


class Space:
    """Labels of two planes of noise, in three categories; every fifth image has bad ones."""

    category_names, category_of = ("colour", "object", "scene"), CATEGORY_OF

    def __init__(self, side: int, bad: int = 5) -> None:
        self.side, self.bad = side, bad

    def labels(self, position: int) -> SimpleNamespace:
        if position % self.bad == self.bad - 1:
            raise BadLabels(f"{position}.png", "bad")
        rng = np.random.default_rng(position)
        planes = np.stack([
            rng.integers(0, 3, (self.side, self.side)),
            rng.choice([0, 3, 4, 5], (self.side, self.side)),
        ]).astype(np.uint16)  # fmt: skip
        there = np.array([True, position % 2 == 0, position % 3 == 0])
        planes[1] *= there[1]
        whole = np.flatnonzero(there[2:]) + 5
        size = (self.side, self.side)
        return SimpleNamespace(planes=planes, whole=whole, present=there, size=size)


def kept(images: int, side: int, folder: Path, bad: int = 5) -> LabelCache:
    book = LabelCache(Space(side, bad), images, True, False, folder)  # type: ignore[arg-type]
    assert len(list(book.store_all(range(images), workers=3))) == images
    return book


def test_labels_come_back_by_category_as_they_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnlens.measure.label_cache.check_skipped", lambda *_: None)
    book = kept(30, 4, tmp_path)
    assert sorted(book.bad) == list(range(4, 30, 5))
    for position in set(range(30)) - {*book.bad}:
        truth = book.read(position)
        assert truth is not None
        assert book.carried(position) == np.flatnonzero(truth.present).tolist()
        for category in book.carried(position):
            part = book.part(position, category)
            of = np.concatenate([[-1], CATEGORY_OF])
            mine = np.where(of[truth.planes] == category, truth.planes, 0)
            np.testing.assert_array_equal(part.planes, mine[mine.any(1)])
            assert part.whole.tolist() == [c for c in truth.whole if CATEGORY_OF[c] == category]
            assert part.present.nonzero()[0].tolist() == [category]
            assert part.size == (4, 4)
        whole = book.whole(position)
        np.testing.assert_array_equal(whole.planes.sum(0), truth.planes.sum(0))
        assert whole.present.tolist() == truth.present.tolist()
    assert all(book.carried(position) == [] for position in book.bad)


def test_each_shuffle_permutes_a_category_among_those_that_carry_it(tmp_path: Path) -> None:
    book = kept(40, 2, tmp_path, bad=100)
    shuffles = permutations(book, 3, seed=5)
    for number, shuffle in enumerate(shuffles):
        for category in range(3):
            carriers = [p for p in range(40) if category in book.carried(p)]
            rng = np.random.default_rng([5, number, category])
            assert [shuffle(p, category) for p in carriers] == rng.permutation(carriers).tolist()


def test_memory_does_not_grow_with_what_the_labels_take(tmp_path: Path) -> None:
    kept(5, 32, tmp_path, bad=999)  # what is made once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        book = kept(300, 32, tmp_path, bad=999)
        shuffles = permutations(book, 10, seed=0)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    parts = (book._kept.get(p, c) for p in range(300) for c in book.carried(p))
    assert sum(map(len, parts)) > 300 * 400  # else there was nothing to keep out of memory
    assert len(shuffles) == 10
    buffer = io.DEFAULT_BUFFER_SIZE  # of its file: 128 KB from Python 3.14 on
    assert held - buffer < 300 * 200 + 40_000
    assert not any(tmp_path.iterdir())  # its file has no name

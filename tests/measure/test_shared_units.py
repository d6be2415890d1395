"""Units that several processes measure, of some images each, are those that one measures: byte by
byte, here in threads that exchange pickles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.activations.in_turn import SourcesInTurn
from cnnlens.activations.shared import SharedObserver, SharedSource
from cnnlens.data.dataset import ImageSet
from cnnlens.distributed import ALL, Share
from cnnlens.measure import image_tables, unit_maps
from cnnlens.measure.responses import Responses
from cnnlens.measure.unit_sweep import UnitSweep, beside
from cnnlens.measure.units import units
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import Step
from cnnlens.settings import UnitsSettings

from ..activations.test_shared import Rows, in_threads

SETTINGS = UnitsSettings(top=5, bins=4, per_bin=3, neighbours=4)
COUNT = 42  # images, two of which are damaged
SEEN = np.delete(np.arange(COUNT), [7, 29])
SHOWN = np.arange(COUNT) % 38  # what images show: the last four were there before
SHOWN[12:26] = 12  # fourteen are the same, which excites unit 0 most


class Photos(ImageSet):
    """Images whose pixels are given: some are there twice."""

    def pixels(self, index: int, preprocess: Preprocess) -> np.ndarray:
        return np.full((3, 2, 2), SHOWN[index], np.uint8)


def maps(units: int, side: int, seed: int) -> np.ndarray:
    """Maps with sums that rounding would show, ties over all images, values of any size."""
    random = np.random.default_rng(seed)
    found = np.maximum(random.integers(-9, 10, (COUNT, units, side, side + 1)), 0) / 3
    found[:, 1] = 0
    found[:, 2] = -1 / 3 - random.integers(0, 9, found[:, 2].shape) / 7
    found[:, 3] = random.standard_normal(found[:, 3].shape)
    found[:, 3] *= np.geomspace(1e-9, 1e9, COUNT)[random.permutation(COUNT), None, None]
    found[:, 4] = 1e-3 * np.arange(COUNT)[:, None, None]  # each share has another range
    found[12, 0] = 99
    return found[SHOWN][SEEN].astype(np.float32)


def images(kinds: int) -> ImageSet:
    names = tuple(f"{n}.png" for n in range(COUNT))
    every = tuple("cabdefg"[n % kinds] for n in range(COUNT)) if kinds else None
    return Photos(Path("planted"), names, "classes" if kinds else "images", every)


def told(found: Responses) -> dict[str, Any]:
    """Everything that was found, floats as bytes."""
    every = {field.name: getattr(found, field.name) for field in fields(Responses)}
    return {
        name: (value.dtype, value.shape, value.tobytes())
        if isinstance(value, np.ndarray)
        else value
        for name, value in every.items()
    }


class Measured:
    """What is measured, alone or by several."""

    def __init__(self, kinds: int, batch: int) -> None:
        self.data, self.batch = images(kinds), batch
        self.preprocess = Preprocess((2, 2), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.layers = [maps(6, 3, 0), maps(7, 5, 1)]
        self.others = [[maps(5, 2, 2)], [maps(5, 2, 3), maps(6, 1, 4)[:-1]]]

    def source(self, layers: Sequence[np.ndarray]) -> Rows:
        return Rows(layers, self.batch, SEEN)

    def whole(self) -> list[Responses]:
        others = SourcesInTurn([self.source(some) for some in self.others])  # type: ignore[list-item]
        return self._units(self.source(self.layers), others)

    def part(self, share: Share) -> list[Responses]:
        others = SourcesInTurn([self.source(some) for some in self.others])  # type: ignore[list-item]
        return self._units(
            SharedSource(self.source(self.layers), self.data, share),  # type: ignore[arg-type]
            SharedSource(others, self.data, share),
        )

    def _units(self, source: Any, others: Any) -> list[Responses]:
        return units(source, self.data, SETTINGS, "badce", others, self.preprocess)


@pytest.mark.parametrize(
    ("of", "kinds", "batch", "sent"),
    [(2, 4, 7, None), (3, 0, 32, 500), (5, 3, 1, 200), (41, 2, 3, None)],  # one without a row
)
def test_shares_of_units_are_the_whole(
    of: int, kinds: int, batch: int, sent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (image_tables, unit_maps) if sent else ():
        monkeypatch.setattr(module, "SENT", sent)  # a few rows, a unit's maps at a time
    one = Measured(kinds, 11)
    whole = [told(found) for found in one.whole()]
    one.batch = batch
    parts = [told(found) for found in in_threads(one.part, of)]
    for mine, wanted in zip(parts, whole, strict=True):
        for name, value in wanted.items():
            assert mine[name] == value, name


def test_every_process_looks_at_its_images_once_where_none_is_there_twice() -> None:
    data, looked = images(0), []

    class Counted(Rows):
        def sweep(self, observers: Sequence[Any], share: Share = ALL) -> Iterator[Step]:
            looked.append(share.number)
            return super().sweep(observers, share)

    def work(share: Share) -> list[Responses]:
        source = Counted([maps(6, 3, 0)], 7, SEEN)
        return units(SharedSource(source, data, share), data, SETTINGS)  # type: ignore[arg-type]

    in_threads(work, 3)
    assert sorted(looked) == [0, 1, 2]


def test_the_world_has_what_shares_may_get_wrong() -> None:
    """Guards the planted maps: without these the test above says less."""
    one = Measured(4, 11)
    first, _ = one.whole()
    assert first.repeated.size == 4 + 13 and first.top_map[0, :5].any()
    values = one.layers[0].reshape(len(SEEN), 6, -1).astype(np.float64)
    sums = values.sum(axis=2)
    wanted = [math.fsum(column) for column in sums.T]
    sweep = UnitSweep(len(SEEN), (6, 3, 4))
    sweep(SEEN, one.layers[0])
    assert sweep.total.tolist() == wanted != sums.sum(axis=0).tolist()
    late = [row for row in first.top[0, :5] if row >= 0 and SHOWN[SEEN[row]] != 12]
    assert len(late) == 4  # the fourteen are listed once, and have taken the places of these
    assert sweep.maps.lacks(first.top[:, :5])[0].max() >= 0


def test_what_works_beside_is_done_before_it_is_put_together() -> None:
    said: list[str] = []

    class Slow:
        def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
            time.sleep(0.05)
            said.append("seen")

        def put_together(self, share: Share) -> None:
            said.append("put together")

    with beside([Slow()]) as (one,):
        assert isinstance(one, SharedObserver)
        one(np.zeros(1), np.zeros((1, 1, 1, 1)))
        one.put_together(Share(0, 2, True))
    assert said == ["seen", "put together"]

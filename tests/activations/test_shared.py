"""Shares of a sweep, put together, are the sweep: here each in a thread, that exchanges pickles."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from cnnlens.activations.shared import SharedSource
from cnnlens.data.broden import Broden, open_broden
from cnnlens.distributed import ALL, Share
from cnnlens.errors import CnnlensError
from cnnlens.measure.dissect import dissect
from cnnlens.measure.dissection import Dissection
from cnnlens.progress import Step
from cnnlens.settings import DissectSettings

from ..measure.worlds import ArraySource, random_world, write_world


@dataclass(frozen=True)
class Beside(Share):
    """A share of a run whose processes are threads."""

    table: dict[int, bytes] = field(default_factory=dict)
    meet: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def gathered(self, value: Any) -> list[Any]:
        self.table[self.number] = pickle.dumps(value)
        self.meet.wait()
        every = [pickle.loads(self.table[number]) for number in range(self.of)]
        self.meet.wait()
        return every

    def from_first(self, make: Any) -> Any:
        return self.gathered(make() if self.leads else None)[0]

    def at_first(self, value: Any) -> list[Any]:
        every = self.gathered(value)
        return every if self.leads else []

    def add_up(self, counts: np.ndarray) -> None:
        counts[:] = sum(self.gathered(counts))

    def wait(self) -> Iterator[None]:
        self.meet.wait()
        yield

    def count(self, name: str, more: int = 0) -> int:
        return more


class Rows(ArraySource):
    """Arrays of which a share is shown, and images that are damaged."""

    total = 1
    skipped: Sequence[tuple[str, str]] = ()

    def most(self, share: Share) -> list[int]:
        return [len(share.run_of(range(limit))) for limit in self.limits]

    def sweep(self, observers: Sequence, share: Share = ALL) -> Iterator[Step]:
        for maps, observe in zip(self.layers, observers, strict=True):
            rows = share.run_of(range(len(maps)))
            for start in rows[:: self.batch]:
                some = [*rows[start - rows[0] :][: self.batch]]
                observe(self.positions[some], maps[some])
                yield Step(start, len(maps))


def in_threads(work: Callable[[Share], list[Any]], of: int) -> list[Any]:
    """Let so many processes do their shares of a work; return what the first one has of it."""
    table: dict[int, bytes] = {}
    meet = threading.Barrier(of)

    def one(number: int) -> list[Any]:
        try:
            return work(Beside(number, of, True, table, meet))
        except BaseException:
            meet.abort()  # as connections break
            raise

    with ThreadPoolExecutor(of) as pool:
        running = [pool.submit(one, number) for number in range(of)]
    for error in (future.exception() for future in running):
        if error and not isinstance(error, threading.BrokenBarrierError):
            raise error
    first, *others = [future.result() for future in running]
    assert not any(others)
    return first


def dissected(data: Broden, source: Rows, settings: DissectSettings, of: int) -> list[Dissection]:
    def work(share: Share) -> list[Dissection]:
        mine = copy(source)
        mine.skipped = share.of_items(source.skipped)
        shared = SharedSource(mine, data, share)
        return dissect(shared, data, settings, workers=1 + share.number)  # each another number

    return in_threads(work, of)


def told(found: Dissection) -> dict[str, Any]:
    """Everything that was found, floats as bytes."""
    assert found.top is not None and found.histogram is not None
    arrays = {
        **{"thresholds": found.thresholds, "lowest": found.lowest, "highest": found.highest},
        **{"pixels": found.concepts.pixels, "images": found.concepts.images},
        **{f"top {name}": array for name, array in vars(found.top).items()},
        **{"histogram": found.histogram.counts, "edges": found.histogram.edges},
    }
    for number, counts in enumerate([found.counts, *found.null]):
        arrays |= {f"shared {number}": counts.intersection, f"area {number}": counts.area}
    plain = {"number": found.images, "skipped": found.skipped, "formulas": repr(found.formulas)}
    return {name: array.tobytes() for name, array in arrays.items()} | plain


@pytest.mark.parametrize(
    ("of", "settings"),
    [
        (2, DissectSettings(quantile=0.05, chance=3, formula=2)),
        (3, DissectSettings(quantile=0.2, chance=0, top=30)),
        (4, DissectSettings(quantile=0.01, chance=2, compat="ndlite")),
        (15, DissectSettings(quantile=0.3, chance=1, top=3)),  # one without a row
    ],
)
def test_shares_of_a_dissection_are_the_whole(tmp_path, of, settings):
    rng = np.random.default_rng(of)
    data = write_world(random_world(rng, 16), tmp_path / "d")
    (tmp_path / "d/images/5_object_0.png").write_bytes(b"broken")
    data = open_broden(data.root)
    seen = np.delete(np.arange(16), [2, 9])
    levels = np.array([-0.0, 0.0, -1.5, 0.25, 3.0], np.float32)  # ties, and both zeros
    layers = [rng.choice(levels, (14, units, side, side + 1)) for units, side in ((5, 3), (3, 6))]
    layers[0][:, 0] = np.where(rng.random((14, 3, 4)) < 0.5, levels[0], levels[1])  # dead
    layers[1][:, 1] = rng.normal(size=(14, 6, 7))
    source = Rows(layers, 3, seen)
    whole = [told(one) for one in dissect(source, data, settings, workers=2)]
    parts = [told(one) for one in dissected(data, source, settings, of)]
    assert parts == whole


def test_damaged_images_are_counted_over_all_shares(tmp_path):
    data = write_world(random_world(np.random.default_rng(0), 8), tmp_path / "d")
    for plane in (tmp_path / "d/images").glob("*_*_*.png"):
        plane.write_bytes(b"broken")  # two of each share are tolerated, six are not
    source = Rows([np.random.default_rng(1).random((8, 2, 3, 3), np.float32)], 2, range(8))
    with pytest.raises(CnnlensError, match="of 8 images cannot be used"):
        dissected(open_broden(data.root), source, DissectSettings(chance=0), 4)


def test_images_that_no_share_could_read_are_too(tmp_path):
    data = write_world(random_world(np.random.default_rng(0), 8), tmp_path / "d")
    source = Rows([np.random.default_rng(1).random((8, 2, 3, 3), np.float32)], 2, range(8))
    source.skipped = [(data.paths[number], "broken") for number in range(4)]
    with pytest.raises(CnnlensError, match="4 of 8 images cannot be used"):
        dissected(data, source, DissectSettings(chance=0), 2)


def test_what_cannot_be_put_together_sees_no_part(tmp_path):
    data = write_world(random_world(np.random.default_rng(0), 4), tmp_path / "d")
    source = SharedSource(Rows([np.zeros((4, 1, 2, 2), np.float32)], 2, range(4)), data,
                          Beside(0, 1, True))  # fmt: skip
    with pytest.raises(TypeError, match="must be put together"):
        next(source.sweep([lambda positions, maps: None]))
    with pytest.raises(ValueError, match="nobody waits"):
        SharedSource(Rows([], 2, range(4)), data, Share(0, 2))

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError
from cnnlens.model.device import in_batches
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess


def model(batch: int | None = None) -> Model:
    return Model(nn.Conv2d(3, 2, 3), "m", "m", Preprocess((8, 8)), None, "f" * 16, batch)


class Greedy:
    """Has memory for so many rows only, and holds a tensor while it fails."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.held: list[weakref.ref[Tensor]] = []
        self.ran: list[slice] = []

    def __call__(self, rows: slice) -> list[int]:
        numbers = list(range(10))[rows]
        if len(numbers) > self.room:
            large = torch.zeros(1000)
            self.held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.ran.append(rows)
        return numbers


def test_batches_are_halved_until_they_fit_and_come_in_order() -> None:
    run = Greedy(room=3)
    parts, limit = in_batches(10, 8, run, model())
    assert [n for part in parts for n in part] == list(range(10))
    assert limit == 2
    assert [(rows.start, rows.stop) for rows in run.ran] == [(n, n + 2) for n in range(0, 10, 2)]


def test_memory_is_given_back_when_nothing_holds_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Greedy(room=2)
    held: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(run.held[-1]() is not None))
    gc.disable()
    try:
        in_batches(4, 4, run, model())
    finally:
        gc.enable()
    assert held == [False]


def test_what_a_failed_run_left_is_undone_before_the_next() -> None:
    undone: list[tuple[int, int]] = []
    in_batches(4, 4, Greedy(room=1), model(), lambda rows: undone.append((rows.start, rows.stop)))
    assert undone == [(0, 4), (0, 2)]


@pytest.mark.parametrize(("batch", "what"), [(None, "even one image"), (4, "its fixed batch of 4")])
def test_where_nothing_fits_it_is_said(batch: int | None, what: str) -> None:
    with pytest.raises(CnnlensError, match=what):
        in_batches(4, 4, Greedy(room=0), model(batch))


def test_other_errors_are_not_tried_again() -> None:
    def run(rows: slice) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_batches(4, 4, run, model())

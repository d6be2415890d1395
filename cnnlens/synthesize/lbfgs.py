"""L-BFGS, uphill, with trials that may fail; it decides on the device and waits for nothing.

References
----------
Liu and Nocedal: On the limited memory BFGS method for large scale optimization, 1989.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.streams import exact

_ENOUGH = 1e-4  # share of the rise that the slope promises
_CURVED = 1e-10  # curvature below this, relative to the gradient's change, is rounding
_SHRINK = (0.1, 0.5)  # a trial's length after a failed one, over that one's
_PATIENCE = 12  # failed trials in a row before what was learned of the curvature is dropped


class LBFGS:
    """A rule of `optimize`'s, whose codes are trials; what counts is in `accepted`.

    Parameters
    ----------
    lr : float
        Root mean square of the first step; later ones find their own length.
    memory : int
        Past steps that the curvature is estimated from.

    Attributes
    ----------
    backs_off : bool
        Trials may fail: the loop hands over values that are not finite instead of giving up.
    """

    backs_off = True

    def __init__(self, lr: float = 0.1, memory: int = 10) -> None:
        self._lr, self._memory = lr, memory
        self._rows: list[_Row] = []

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Judge the trials `code` (N, …) by their values (N,); return the next ones.

        No number is read off the device after the first call: what a trial decides, `torch.where`
        chooses.

        Raises
        ------
        CnnlensError
            Where the first codes have values that are not finite: nothing can be held against them.
        """
        if not self._rows:
            if not bool(values.isfinite().all()):
                raise CnnlensError(
                    "the search cannot begin: what it is to make small is not finite",
                    "check the network's weights, and those of the regularizers",
                )
            self._rows = [_Row(self._lr, self._memory, at) for at in code]
        parts = zip(self._rows, code, gradient, values, strict=True)
        return torch.stack([row.next(at, -slope, -value) for row, at, slope, value in parts])

    @property
    def accepted(self) -> Tensor:
        """The best codes so far, (N, …)."""
        return torch.stack([row.code for row in self._rows])

    @property
    def standing(self) -> Tensor:
        """(N, 3), where it was computed: what the best codes gave, whether the last trials were
        taken, and whether a row can rise no more.
        """
        return torch.stack(
            [torch.stack([-r.value, r.took.to(r.value), r.is_done.to(r.value)]) for r in self._rows]
        )

    @property
    def values(self) -> list[float]:
        """What the best codes gave. Waits for the device, as `took` and `is_done` do."""
        return self.standing[:, 0].tolist()

    @property
    def took(self) -> list[bool]:
        """Whether the last trials were taken."""
        return [bool(row.took) for row in self._rows]

    @property
    def is_done(self) -> bool:
        """Whether no row can rise any more."""
        return all(bool(row.is_done) for row in self._rows)


class _Row:
    """One image's descent (signs are turned: here values fall). Numbers are tensors without
    dimensions, beside the code.

    The steps taken, and how the gradient changed along them, stand in a ring of `memory` rows, the
    newest at `_at`; of those older than the last clearing, `_pairs` says that they do not count.
    """

    def __init__(self, lr: float, memory: int, like: Tensor) -> None:
        self._lr, self._memory = lr, memory
        number = partial(torch.full, (), dtype=exact(like.device), device=like.device)
        self.value, self._slope, self._length = number(math.inf), number(0.0), number(0.0)
        self._pairs, self._at, self._failed = (number(0, dtype=torch.int64) for _ in range(3))
        self.took = self.is_done = number(False, dtype=torch.bool)
        self.code = self._gradient = self._direction = torch.zeros_like(like)
        self._steps, self._changes = (like.new_zeros((memory, *like.shape)) for _ in range(2))
        self._products = number(1.0).repeat(memory)
        self._is_first = True

    def next(self, code: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """Take the trial or leave it; return the next."""
        value, active = value.to(self.value), ~self.is_done
        if self._is_first:
            self.took = torch.ones_like(self.took)
        else:
            self.took = active & self._is_lower(gradient, value)
            self._remember(code - self.code, gradient - self._gradient)
        gives_up = self._draw_back(value, active & ~self.took)
        self.code, self._gradient, self.value = (
            torch.where(self.took, new, old)
            for new, old in (
                (code, self.code), (gradient, self._gradient), (value, self.value),
            )
        )  # fmt: skip
        cleared = gives_up & (self._pairs > 0)
        self.is_done = self.is_done | (gives_up & ~cleared)
        self._pairs = torch.where(cleared, 0, self._pairs)
        self._turn(self.took | cleared)
        self._length = torch.where(self.is_done, 0.0, self._length)
        self._is_first = False
        return torch.where(self.is_done, self.code, self.code + self._length * self._direction)

    def _is_lower(self, gradient: Tensor, value: Tensor) -> Tensor:
        enough = self.value + _ENOUGH * self._length * self._slope
        return (value < self.value) & (value <= enough) & gradient.isfinite().all()

    def _remember(self, step: Tensor, change: Tensor) -> None:
        """Keep a step that was taken, in the place of the oldest, unless it is rounding."""
        product = _dot(step, change)
        keeps = self.took & (product > _CURVED * _dot(change, change))
        at = torch.where(keeps, (self._at + 1) % self._memory, self._at)
        for ring, new in (
            (self._steps, step), (self._changes, change), (self._products, product),
        ):  # fmt: skip
            ring.index_copy_(0, at[None], torch.where(keeps, new, _row(ring, at))[None])
        self._at = at
        self._pairs = torch.where(keeps, (self._pairs + 1).clamp_max(self._memory), self._pairs)

    def _turn(self, turns: Tensor) -> None:
        """Where it `turns`: choose the direction, and how far the first trial goes."""
        straight = -self._gradient
        direction = -self._weighed(self._gradient)
        slope = _dot(self._gradient, direction)
        spoilt = (slope >= 0) & (self._pairs > 0)  # rounding has spoilt the curvature
        self._pairs = torch.where(turns & spoilt, 0, self._pairs)
        direction = torch.where(spoilt, straight, direction)
        slope = torch.where(spoilt, _dot(self._gradient, straight), slope)
        size = direction.square().mean().sqrt().to(slope)
        self.is_done = self.is_done | (turns & (~(slope < 0) | ~size.isfinite()))
        first = self._lr / torch.where(size == 0, 1.0, size)
        length = torch.where(self._pairs > 0, 1.0, first)
        self._direction = torch.where(turns, direction, self._direction)
        self._slope = torch.where(turns, slope, self._slope)
        self._length = torch.where(turns, length, self._length)
        self._failed = torch.where(turns, 0, self._failed)

    def _weighed(self, gradient: Tensor) -> Tensor:
        """Multiply by the estimated inverse curvature: the two-loop recursion."""
        places = [(self._at - back) % self._memory for back in range(self._memory)]  # newest first
        known = [
            (self._pairs > back, _row(self._steps, at), _row(self._changes, at),
             _row(self._products, at))
            for back, at in enumerate(places)
        ]  # fmt: skip
        rest, shares = gradient, []
        for counts, step, change, product in known:
            shares.append(torch.where(counts, _dot(step, rest) / product, 0.0))
            rest = torch.where(counts, rest - shares[-1] * change, rest)
        counts, _, change, product = known[0]
        rest = torch.where(counts, rest * (product / _dot(change, change)), rest)
        for (counts, step, change, product), share in zip(
            reversed(known), reversed(shares), strict=True
        ):
            further = rest + (share - _dot(change, rest) / product) * step
            rest = torch.where(counts, further, rest)
        return rest

    def _draw_back(self, value: Tensor, failed: Tensor) -> Tensor:
        """Where a trial `failed`: shorten it to the lowest point of the parabola through what is
        known. Return whether it has failed too often.
        """
        least, most = _SHRINK
        excess = value - self.value - self._length * self._slope
        best = torch.where(excess > 0, -self._slope * self._length / (2 * excess), math.nan)
        factor = torch.where(best.isfinite(), best.clamp(least, most), least)
        self._length = torch.where(failed, self._length * factor, self._length)
        self._failed = torch.where(failed, self._failed + 1, self._failed)
        return failed & (self._failed >= _PATIENCE)


def _row(ring: Tensor, at: Tensor) -> Tensor:
    """One row of (M, …), whose number is on the device."""
    return ring.index_select(0, at[None])[0]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dtype=exact(a.device))

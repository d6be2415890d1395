"""L-BFGS that never goes down: every step is tried first, and taken only where the value rises.

A curve through the last steps says where the top should be; a trial that does not rise enough, or
is not finite, is drawn back towards where it came from. Far fewer steps than by plain gradients, no
rate to choose, and on the way nothing ever becomes worse.

References
----------
Nocedal and Wright: Numerical Optimization, 2006, algorithms 3.1 and 7.4.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

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
        """Judge the trials `code` (N, …) by their values (N,); return the next ones."""
        if not self._rows:
            self._rows = [_Row(self._lr, self._memory) for _ in code]
        parts = zip(self._rows, code, gradient, values.tolist(), strict=True)
        return torch.stack([row.next(at, -slope, -value) for row, at, slope, value in parts])

    @property
    def accepted(self) -> Tensor:
        """The best codes so far, (N, …)."""
        return torch.stack([row.code for row in self._rows])

    @property
    def values(self) -> list[float]:
        """What they gave."""
        return [-row.value for row in self._rows]

    @property
    def took(self) -> list[bool]:
        """Whether the last trials were taken."""
        return [row.took for row in self._rows]

    @property
    def is_done(self) -> bool:
        """Whether no row can rise any more."""
        return all(row.is_done for row in self._rows)


@dataclass
class _Pair:
    """One step taken, and how the gradient changed along it."""

    step: Tensor
    change: Tensor
    product: float


class _Row:
    """One image's descent (signs are turned: here values fall)."""

    def __init__(self, lr: float, memory: int) -> None:
        self._lr = lr
        self._pairs: deque[_Pair] = deque(maxlen=memory)
        self.code = self._gradient = self._direction = torch.empty(0)
        self.value, self._slope, self._length = math.inf, 0.0, 0.0
        self.took = self.is_done = False
        self._failed = 0

    def next(self, code: Tensor, gradient: Tensor, value: float) -> Tensor:
        """Take the trial or leave it; return the next."""
        if self.is_done:
            self.took = False
            return self.code
        first = not len(self.code)
        self.took = first or self._is_lower(gradient, value)
        if self.took:
            if not first:
                self._remember(code - self.code, gradient - self._gradient)
            self.code, self.value, self._gradient = code, value, gradient
            self._turn()
        else:
            self._draw_back(value)
        return self.code + self._length * self._direction

    def _is_lower(self, gradient: Tensor, value: float) -> bool:
        enough = self.value + _ENOUGH * self._length * self._slope
        return value < self.value and value <= enough and bool(gradient.isfinite().all())

    def _remember(self, step: Tensor, change: Tensor) -> None:
        product = _dot(step, change)
        if product > _CURVED * _dot(change, change):
            self._pairs.append(_Pair(step, change, product))

    def _turn(self) -> None:
        """Choose the direction from here, and how far the first trial goes."""
        self._direction = -self._weighed(self._gradient)
        self._slope = _dot(self._gradient, self._direction)
        self._failed = 0
        if self._slope >= 0 and self._pairs:  # rounding has spoilt the curvature
            self._pairs.clear()
            self._direction = -self._gradient
            self._slope = _dot(self._gradient, self._direction)
        size = float(self._direction.square().mean().sqrt())
        self.is_done = not self._slope < 0 or not math.isfinite(size)
        self._length = 1.0 if self._pairs else self._lr / (size or 1.0)
        if self.is_done:
            self._length = 0.0

    def _weighed(self, gradient: Tensor) -> Tensor:
        """Multiply by the estimated inverse curvature: the two-loop recursion."""
        rest, shares = gradient, []
        for pair in reversed(self._pairs):
            shares.append(_dot(pair.step, rest) / pair.product)
            rest = rest - shares[-1] * pair.change
        if self._pairs:
            last = self._pairs[-1]
            rest = rest * (last.product / _dot(last.change, last.change))
        for pair, share in zip(self._pairs, reversed(shares), strict=True):
            rest = rest + (share - _dot(pair.change, rest) / pair.product) * pair.step
        return rest

    def _draw_back(self, value: float) -> None:
        """Shorten the trial to the lowest point of the parabola through what is known."""
        self._failed += 1
        least, most = _SHRINK
        excess = value - self.value - self._length * self._slope
        best = -self._slope * self._length / (2 * excess) if excess > 0 else math.nan
        self._length *= min(max(best, least), most) if math.isfinite(best) else least
        if self._failed >= _PATIENCE:
            self._give_up_curvature()

    def _give_up_curvature(self) -> None:
        if self._pairs:
            self._pairs.clear()
            self._turn()
        else:
            self.is_done, self._length = True, 0.0


def _dot(a: Tensor, b: Tensor) -> float:
    exact = None if a.device.type == "mps" else torch.float64  # which MPS does not have
    return float((a * b).sum(dtype=exact))

"""How a code follows its gradient uphill: plain, by Adam, by L-BFGS; rows apart from each other."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Update(Protocol):
    """A rule that makes the next code; it may remember what it has seen.

    A rule whose attribute ``backs_off`` is true is handed values that are not finite, too: it tries
    codes before it takes them (see `LBFGS`). One that has the methods ``state`` and ``resume``, as
    `Adam` has, can go on where an earlier ascent stopped.
    """

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return new codes (N, …) from codes, their gradients and the values (N,) they gave.

        Values are less the penalties, unless these are relative.
        """
        ...


_MOMENTS = ("exp_avg", "exp_avg_sq")  # torch's names of what Adam remembers of each number


class Adam:
    """Adam, uphill.

    Parameters
    ----------
    lr : float
        Learning rate.
    """

    _rule: ClassVar[type[torch.optim.Adam] | type[torch.optim.NAdam]] = torch.optim.Adam

    def __init__(self, lr: float) -> None:
        self._lr = lr
        self._code: Tensor | None = None

    def _begin(self, code: Tensor) -> Tensor:
        self._code = code.detach().clone().requires_grad_()
        self._optimizer = self._rule([self._code], lr=self._lr, maximize=True)
        return self._code

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return a new code."""
        known = self._begin(code) if self._code is None else self._code
        known.data.copy_(code)  # it may have been edited since
        known.grad = gradient
        self._optimizer.step()
        return known.detach().clone()

    def state(self) -> dict[str, Tensor]:
        """Give what it remembers, a row per image: both moments, (N, …)."""
        if self._code is None:
            return {}
        remembered = self._optimizer.state[self._code]
        return {name: remembered[name] for name in _MOMENTS}

    def resume(self, code: Tensor, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from what it remembered after some steps, at codes (N, …)."""
        known = self._begin(code)
        moments = {name: state[name].to(code).clone() for name in _MOMENTS}
        step = {"step": torch.tensor(float(steps))}
        self._optimizer.state[known] = {**step, **moments, **self._after(steps)}

    def _after(self, steps: int) -> dict[str, Tensor]:
        """What else the rule knows after some steps, of no image in particular."""
        return {}


class NAdam(Adam):
    """Adam with Nesterov's momentum, uphill."""

    _rule = torch.optim.NAdam

    def _after(self, steps: int) -> dict[str, Tensor]:
        momentum = self._optimizer.defaults["betas"][0]
        decay = self._optimizer.defaults["momentum_decay"]
        product = torch.ones(())
        for step in range(1, steps + 1):
            product *= momentum * (1 - 0.5 * 0.96 ** (step * decay))
        return {"mu_product": product}


@dataclass(frozen=True)
class Ascent:
    """Plain gradient ascent with steps of one size: the gradient over its root mean square.

    Attributes
    ----------
    lr : float
        Root mean square of a step.
    """

    lr: float

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return a new code."""
        return code + self.lr * unit_size(gradient)

    def state(self) -> dict[str, Tensor]:
        """Give what it remembers: nothing."""
        return {}

    def resume(self, code: Tensor, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on."""


@dataclass(frozen=True)
class Decaying:
    """A rule after which every number of a code is a share smaller.

    Attributes
    ----------
    rule : Adam or Ascent
        What makes the step.
    decay : float
        What is left of a code after it; .99 in the papers.
    """

    rule: Adam | Ascent
    decay: float

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return a new code."""
        return self.decay * self.rule(code, gradient, values)

    def state(self) -> dict[str, Tensor]:
        """Give what the rule remembers."""
        return self.rule.state()

    def resume(self, code: Tensor, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from there."""
        self.rule.resume(code, state, steps)


def unit_size(gradient: Tensor) -> Tensor:
    """Divide each row of (N, …) by its root mean square; what is 0 stays 0."""
    size = gradient.flatten(1).square().mean(1).sqrt()
    size = torch.where(size > 0, size, 1.0).reshape(-1, *[1] * (gradient.ndim - 1))
    return gradient / size


UPDATES: dict[str, type[Adam] | type[Ascent]] = {"adam": Adam, "ascent": Ascent}


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


# backward operations of rectifiers that have regions without slope; their first argument is the
# gradient that arrives from above
_RECTIFIERS = {
    *("threshold_backward", "hardtanh_backward"),
    *("hardswish_backward", "hardsigmoid_backward"),
}


class WakingRectifiers(TorchDispatchMode):
    """While active, a rectifier through which nothing of an image's gradient would pass is open.

    It is then taken for the identity, for that image alone; all others do as ever, so that a unit
    that sleeps is woken by what leads to it, not by what every rectifier below hides.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        passed = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ not in _RECTIFIERS:
            return passed
        arrived = args[0]  # (N, ...)
        shut = (passed == 0).flatten(1).all(1) if passed.ndim > 1 else passed == 0
        return torch.where(shut.reshape(-1, *[1] * (passed.ndim - 1)), arrived, passed)

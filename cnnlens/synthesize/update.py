"""How a code follows its gradient uphill: plain, or by Adam; rows apart from each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from cnnlens.model.dispatch import DispatchMode


class Update(Protocol):
    """A rule that makes the next code; it may remember what it has seen.

    A rule whose attribute ``backs_off`` is true is handed values that are not finite, too: it tries
    codes before it takes them (see `lbfgs.LBFGS`). One that has the methods ``state`` and
    ``resume``, as `Adam` has, can go on where an earlier ascent stopped.
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


# backward operations of rectifiers that have regions without slope; their first argument is the
# gradient that arrives from above
_RECTIFIERS = {
    *("threshold_backward", "hardtanh_backward"),
    *("hardswish_backward", "hardsigmoid_backward"),
}


class WakingRectifiers(DispatchMode):
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

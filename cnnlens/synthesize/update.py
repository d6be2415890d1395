"""How a code follows its gradient uphill. Each row is followed apart from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Update(Protocol):
    """A rule that makes the next code; it may remember what it has seen.

    A rule whose attribute ``backs_off`` is true is handed values that are not finite, too: it tries
    codes before it takes them (see `lbfgs`).
    """

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return new codes (N, …) from codes, their gradients and the values (N,) they gave.

        Values are less the penalties, unless these are relative.
        """
        ...


class Adam:
    """Adam, uphill.

    Parameters
    ----------
    lr : float
        Learning rate.
    """

    def __init__(self, lr: float) -> None:
        self._lr = lr
        self._code: Tensor | None = None

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return a new code."""
        if self._code is None:
            self._code = code.detach().clone().requires_grad_()
            self._optimizer = torch.optim.Adam([self._code], lr=self._lr, maximize=True)
        self._code.data.copy_(code)  # it may have been edited since
        self._code.grad = gradient
        self._optimizer.step()
        return self._code.detach().clone()


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


def unit_size(gradient: Tensor) -> Tensor:
    """Divide each row of (N, …) by its root mean square; what is 0 stays 0."""
    size = gradient.flatten(1).square().mean(1).sqrt()
    size = torch.where(size > 0, size, 1.0).reshape(-1, *[1] * (gradient.ndim - 1))
    return gradient / size


UPDATES: dict[str, type[Adam] | type[Ascent]] = {"adam": Adam, "ascent": Ascent}

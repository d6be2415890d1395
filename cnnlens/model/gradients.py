"""Gradients where they are needed, whatever mode the caller is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from cnnlens.errors import CnnlensError

#: what lets a value depend on the image without a gradient, for people
CUT = "its forward pass cuts the gradient (no_grad, a reentrant checkpoint, an autograd.Function)"

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_gradients(function: _Function) -> _Function:
    """Let a function keep gradients, also when it is called without: in `torch.no_grad()`,
    after ``torch.set_grad_enabled(False)``, in inference mode.

    A generator has them while it works, and its caller's own mode between its steps.
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))


def slope_of(value: Tensor, x: Tensor, what: str, **options: Any) -> Tensor:
    """Return the gradient of a number by `x`; CnnlensError, about `what`, where the network has cut
    it.
    """
    error: Exception | None = None
    if value.requires_grad:
        try:
            return torch.autograd.grad(value, x, **options)[0]
        except RuntimeError as caught:
            if "torch.utils.checkpoint" not in str(caught):
                raise
            error = caught
    raise CnnlensError(
        f"no gradient leads from {what} to the image: the network is constant, or {CUT}",
        "open the network without that part; methods that only read activations work",
    ) from error

"""Gradients and precision where they are needed, whatever mode the caller is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._contextlib import context_decorator

from cnnlens.errors import CnnlensError
from cnnlens.model.of_all_threads import in_float32, undemanding
from cnnlens.model.uncompiled import eagerly

#: what lets a value depend on the image without a gradient, for people
CUT = "its forward pass cuts the gradient (no_grad, a reentrant checkpoint, an autograd.Function)"

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_gradients(function: _Function) -> _Function:
    """Let a function keep gradients in full precision, also when it is called without: in
    `torch.no_grad()`, after ``torch.set_grad_enabled(False)``, in inference mode, in autocast,
    with another number type as default.

    A generator has them while it works, and its caller's own mode between its steps.
    """
    precise = context_decorator(_precise, function)
    return torch.inference_mode(False)(torch.enable_grad()(precise))


@contextmanager
def in_full_precision() -> Iterator[None]:
    """Leave a caller's autocast: precision is asked for, and part of what results are made from."""
    kinds = {"cpu", *filter(None, [_accelerator()])}
    with ExitStack() as off:
        for kind in kinds:
            if torch.is_autocast_enabled(kind):
                off.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _precise() -> Iterator[None]:
    with in_full_precision(), in_float32(), undemanding(), eagerly():
        yield


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator()
    return "" if found is None else found.type


@contextmanager
def in_own_mode() -> Iterator[None]:
    """Compute as if the caller had set nothing: with gradients, in full precision, and what is made
    without a type or device in float32 on the CPU.
    """
    with torch.inference_mode(False), torch.enable_grad(), _precise(), ExitStack() as more:
        if torch.get_default_device().type != "cpu":
            more.enter_context(torch.device("cpu"))
        yield


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

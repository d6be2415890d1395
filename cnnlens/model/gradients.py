"""Gradients where they are needed, whatever mode the caller is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_gradients(function: _Function) -> _Function:
    """Let a function keep gradients, also when it is called without: in `torch.no_grad()`,
    after ``torch.set_grad_enabled(False)``, in inference mode.

    A generator has them while it works, and its caller's own mode between its steps.
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))

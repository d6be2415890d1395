"""Loops over pixels that arrays cannot express cheaply, compiled on first use and cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays; it runs without the interpreter's lock.

    The compiled code is cached beside the module or in the user's cache folder; where neither can
    be written (a read-only installation without a home), it is compiled in every process.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)

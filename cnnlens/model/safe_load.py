"""What `torch.save` wrote, read without running anything that is in it.

PyTorch's own reader (``weights_only=True``) builds tensors and plain containers and stops at
anything else, even where that is a numpy number beside the weights. So what it stops at is given a
stand-in, which is made of nothing and does nothing, and the file is read on: its tensors are there,
the objects are not, and their code is never called. NumPy's own arrays and numbers and a
`Namespace` of options, which are plain data, are real.
"""

from __future__ import annotations

import argparse
import pickle
import re
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

# how torch names what weights_only=True does not let through
_FORBIDDEN = re.compile(r"(?:GLOBAL|class) ['\"`]?([\w.]+)")
_MOST = 64  # kinds of objects in a file
_PLAIN: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefdSU"},
]
_ARRAYS = ("scalar", "_reconstruct")


class StandIn:
    """Stands for an object of a kind that is not read."""

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        """Take any arguments, and leave them alone."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take any state, and leave it alone."""


def load_around(path: Path) -> tuple[Any, list[str]]:
    """Read a file of ``torch.save``, around every object that is neither tensor nor plain data.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    (object, list of str)
        What it holds, and the full names of the kinds of objects that were not read.

    Raises
    ------
    pickle.UnpicklingError
        When something in it cannot stand for anything (code of the system, for one).
    Exception
        Whatever `torch.load` raises of damaged files.
    """
    passed: dict[str, type[StandIn]] = {}
    while True:
        try:
            return _load(path, passed), list(passed)
        except pickle.UnpicklingError as error:
            found = _FORBIDDEN.search(str(error))
            name = found[1] if found else ""
            if not name or name in passed or "blocked" in str(error) or len(passed) >= _MOST:
                raise
            passed[name] = type(name.rpartition(".")[2], (StandIn,), {})


def _load(path: Path, passed: dict[str, type[StandIn]]) -> Any:
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [*_PLAIN, *_numpy()]
    allowed += [(stand_in, name) for name, stand_in in passed.items()]
    with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _numpy() -> list[tuple[Callable[..., Any], str]]:
    """Builders of NumPy's numbers and arrays, as versions before and since 2 name them."""
    core: Any = vars(np).get("_core") or np.core
    module = core.multiarray
    names = [f"numpy.{core}.multiarray." for core in ("core", "_core")]
    return [(getattr(module, name), start + name) for name in _ARRAYS for start in names]

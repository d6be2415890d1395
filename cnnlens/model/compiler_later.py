"""torchvision without PyTorch's compiler, which its import asks for, and which hardly anyone needs.

torchvision takes one function of ``torch._dynamo`` when it is imported, and with it the compiler
and sympy: longer than all of its own. In their place stand, while it is imported, modules whose
functions import the compiler when they are called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_NAMES = (_COMPILER, f"{_COMPILER}.utils")


def imported(name: str) -> ModuleType:
    """Import a module of torchvision, and the compiler where it can't do without.

    Raises
    ------
    ImportError
        When it cannot be imported.
    """
    if name.partition(".")[0] not in sys.modules and _COMPILER not in sys.modules:
        with suppress(ImportError, AttributeError, TypeError), _stand_ins():
            return importlib.import_module(name)
    return importlib.import_module(name)


@contextmanager
def _stand_ins() -> Iterator[None]:
    sys.modules.update({name: _StandIn(name) for name in _NAMES})
    try:
        yield
    finally:
        _take_away()


def _take_away() -> None:
    for name in _NAMES:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module whose functions are those of the module in whose place it stands."""

    __path__: list[str] = []  # noqa: RUF012  (a package, in which nothing is found)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def later(*given: Any, **more: Any) -> Any:
            _take_away()
            return getattr(importlib.import_module(self.__name__), name)(*given, **more)

        return later

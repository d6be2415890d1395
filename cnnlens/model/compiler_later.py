"""PyTorch without its compiler, which others import with it, and which hardly anyone needs.

torchvision takes one function of ``torch._dynamo`` when it is imported, an optimizer of
``torch.optim`` two when it is made; with them come the compiler and sympy, which take as long as
PyTorch. In their place stand modules that give way to the compiler as soon as it is asked for more.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

_COMPILER = "torch._dynamo"


def imported(name: str) -> ModuleType:
    """Import a module of torchvision, and the compiler where it can't do without.

    Raises
    ------
    ImportError
        When it cannot be imported.
    """
    if name.partition(".")[0] in sys.modules or _COMPILER in sys.modules:
        return importlib.import_module(name)
    put_off()
    try:
        return importlib.import_module(name)
    finally:
        _take_away()  # where this is a library, others find what they expect


def put_off() -> None:
    """Let the compiler be imported when it is called and no sooner, in this process."""
    if _COMPILER not in sys.modules:
        sys.modules.update({name: _StandIn(name) for name in _HARMLESS})


def _take_away() -> None:
    for name in _HARMLESS:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _disable(function: Any = None, *given: Any, **more: Any) -> Any:
    return function  # what nothing compiles is not compiled


def _nothing(*given: Any, **more: Any) -> None:
    """Do what there is to do where nothing was compiled."""


def _is_compile_supported(device: Any) -> Any:
    _take_away()
    return importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device)


# all that optimizers, process groups and torchvision ask for; more than that is the compiler's
_HARMLESS: dict[str, dict[str, Any]] = {
    _COMPILER: {
        **{"disable": _disable, "graph_break": _nothing},
        "trace_rules": SimpleNamespace(clear_lru_cache=_nothing),
    },
    f"{_COMPILER}.utils": {"is_compile_supported": _is_compile_supported},
}


class _StandIn(ModuleType):
    """A module that has the harmless of its names, and gives way when it is asked for others."""

    def __getattr__(self, name: str) -> Any:
        known = _HARMLESS[self.__name__]
        if name in known:
            return known[name]
        is_package = self.__name__ == _COMPILER  # whose path is asked for what lies in it
        if name.startswith("__") and not (is_package and name == "__path__"):
            raise AttributeError(name)
        _take_away()
        return getattr(importlib.import_module(self.__name__), name)

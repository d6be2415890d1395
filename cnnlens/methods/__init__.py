"""Every method, one file each; those of other packages join by the entry points of `GROUP`.

A method's file says what it asks for, how it makes, lists and shows it; see `method.Method`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from cnnlens.errors import CnnlensError
from cnnlens.methods.method import Gather, Inputs, Method, Results, carry_out

__all__ = ["Gather", "Inputs", "Method", "Results", "carry_out", "methods", "sections"]

GROUP = "cnnlens.methods"

# in the order in which a user meets them, and in which the page shows them: name, class
_BUILT_IN = {
    "extract": "Extract",
    "dissect": "Dissect",
    "stability": "Stability",
    "visualize": "Visualize",
    "deconv": "Deconv",
    "cam": "Cam",
    "invert": "Invert",
    "style": "Style",
    "compare": "Compare",
}


@cache
def methods() -> dict[str, type[Method]]:
    """All methods by name, ours first; none of them imports anything heavy.

    Raises
    ------
    CnnlensError
        When another package's method cannot be imported, or takes a name that is in use.
    """
    found = {
        name: getattr(import_module(f"cnnlens.methods.{name}"), kind)
        for name, kind in _BUILT_IN.items()
    }
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in found:
            raise CnnlensError(
                f"the package {_package(entry)} brings a method '{entry.name}', which is taken",
                f"uninstall it, or give its entry point in {GROUP} another name",
            )
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            raise CnnlensError(
                f"the method '{entry.name}' of the package {_package(entry)} cannot be loaded: "
                f"{type(error).__name__}: {error}",
                "upgrade it, or uninstall it",
            ) from error
    return found


def _package(entry: object) -> str:
    return str(getattr(getattr(entry, "dist", None), "name", "?"))


def sections() -> list[Gather]:
    """All parts of the page, in reading order."""
    return [section for method in methods().values() for section in method.sections]

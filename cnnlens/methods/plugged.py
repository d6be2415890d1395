"""Methods of other packages, which join by the entry points of `GROUP`."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint

from cnnlens.errors import CnnlensError
from cnnlens.methods.method import Method

GROUP = "cnnlens.methods"

#: what else commands, attributes of `Investigation` and folders of a workspace are called
RESERVED = {
    *("layers", "report", "search", "join", "demo", "data"),
    *("model", "workspace"),
    *("activations", "images", "given"),
}
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", re.I)


def in_python(name: str) -> str:
    """Return what a method is called in Python: ``my_method`` for ``my-method``."""
    return name.replace("-", "_")


def plugged(entry: EntryPoint, known: Iterable[str]) -> type[Method] | CnnlensError:
    """Load a method that an entry point names; `known` are names of others.

    Returns
    -------
    type of Method, or CnnlensError
        What is wrong with it, and whose it is.
    """
    package = entry.dist.name if entry.dist else "?"
    if wrong := _wrong_name(entry.name, known):
        return CnnlensError(
            f"the package {package} brings a method '{entry.name}', which {wrong}",
            f"its entry point in {GROUP} needs another name",
        )
    try:
        method = entry.load()
        if not (isinstance(method, type) and issubclass(method, Method)):
            raise TypeError(f"{entry.value} is no Method")
        if method.name != entry.name:
            raise ValueError(f"its class has the name '{method.name}', its entry point another")
    except Exception as error:
        return CnnlensError(
            f"the method '{entry.name}' of the package {package} cannot be loaded: "
            f"{type(error).__name__}: {error}",
            "upgrade that package, or uninstall it",
        )
    return method


def _wrong_name(name: str, known: Iterable[str]) -> str:
    """Say why a command, an attribute and a folder cannot be called so; empty where they can."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(in_python(name)):
        return "is no name of a command: letters, digits and dashes"
    taken = {in_python(other) for other in (*known, *RESERVED)}
    return "is taken" if in_python(name) in taken else ""

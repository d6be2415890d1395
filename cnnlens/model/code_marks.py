"""What Python code says, apart from where it stands: marks of functions, equal in every process."""

from __future__ import annotations

import dis
import functools
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

import cnnlens

_FOREIGN = ("site-packages", "dist-packages")
_OWN = tuple(str(Path(str(one.__file__)).parent) for one in (cnnlens, torch))


@functools.cache
def is_installed(file: str | None) -> bool:
    """Whether a file belongs to Python, to an installed library or to cnnlens itself.

    What these say is known by its name; all else is read: scripts, cells of a notebook (whose files
    are temporary or no files at all), modules beside them, packages installed as editable.
    """
    if file is None or file.startswith("<frozen"):
        return True
    if file.startswith("<"):
        return False
    paths = sysconfig.get_paths()
    return (
        any(part in _FOREIGN for part in Path(file).parts)
        or file.startswith(_OWN)
        or file.startswith((paths["stdlib"], paths["platstdlib"]))
    )


def is_installed_class(kind: type) -> bool:
    """Whether a class is of Python, of an installed library or of cnnlens."""
    module = sys.modules.get(kind.__module__)
    return kind.__module__ != "__main__" and is_installed(getattr(module, "__file__", None))


def is_own_function(value: Any) -> bool:
    """Whether something of a class or a module is code that must be read: nobody has installed it.

    A function that a library has wrapped counts as what it wraps.
    """
    inner = innermost(value)
    return isinstance(inner, FunctionType) and not is_installed(inner.__code__.co_filename)


def has(value: Any, name: str) -> bool:
    """Whether something has an attribute: not where asking fails, as of a package not installed."""
    try:
        return hasattr(value, name)
    except Exception:  # whatever a proxy raises that loads late (Keras')
        return False


def innermost(value: Any) -> Any:
    """Take a function out of a method, a property, and whatever says what it wraps."""
    for _ in range(32):  # of a circle no way leads out
        if isinstance(value, staticmethod | classmethod | MethodType):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        elif has(value, "__wrapped__") and not isinstance(value, type):
            value = value.__wrapped__
        else:
            break
    return value


def code_text(code: CodeType, doc: str | None = None) -> str:
    """What a function does: its instructions, names and constants; no line, file or docstring."""
    constants = [_constant(one) for one in code.co_consts if doc is None or one != doc]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    raised = getattr(code, "co_exceptiontable", b"").hex()  # from Python 3.11 on
    return f"{code.co_code.hex()} {names} {counts} {constants} {raised}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return code_text(value)
    if isinstance(value, frozenset):  # its order is another one in every process
        return f"{{{sorted(map(repr, value))}}}"
    if isinstance(value, tuple):
        return f"({','.join(map(_constant, value))})"
    return f"{type(value).__name__} {value!r}"


def script_text(module: torch.jit.ScriptModule) -> str:
    """What a scripted module says: its attributes and graphs, without lines and addresses."""
    text = module._c.dump_to_str(True, True, False)
    return re.sub(r"\s# .*| at 0x[0-9a-f]+|___torch_mangle_\d+", "", text)


def read_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Find what a function reads outside of itself, by names: of its module, and of others.

    Of a module only what is read of it: of an installed one, what somebody has replaced there.
    """
    names, attributes = _loaded(function.__code__)
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        if not isinstance(value, ModuleType):
            yield name, value
            continue
        installed = is_installed(getattr(value, "__file__", None))
        for attribute in sorted(attributes & vars(value).keys()):
            found = vars(value)[attribute]
            if is_own_function(found) or not (installed or isinstance(found, ModuleType)):
                yield f"{name}.{attribute}", found


@functools.cache
def _loaded(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names of globals that code reads, and of attributes."""
    names, attributes = set[str](), set[str]()
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(one.argval)
        elif one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(one.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more, others = _loaded(inner)
            names, attributes = names | more, attributes | others
    return frozenset(names), frozenset(attributes)

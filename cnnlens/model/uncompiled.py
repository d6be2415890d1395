"""Compiled networks, looked at as they were before.

A compiled module runs without the hooks of its parts, and is compiled anew for every mode and shape
that it meets here. Its numbers are those of the code that it was made from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cnnlens.model.of_all_threads import Lent

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CALL = "_compiled_call_impl"  # what `net.compile()` leaves on a module


def inner(module: nn.Module | None) -> nn.Module | None:
    """Return what `torch.compile` has made a module of; None where it has not."""
    if module is None or isinstance(module, torch.jit.ScriptModule):
        return None
    found = module._modules.get("_orig_mod")
    return found if isinstance(found, nn.Module) else None


Taken = list[tuple[dict[str, Any], str, Any]]


def take_apart(net: nn.Module) -> Taken:
    """Put modules in the place of those that they were compiled to, and have them run as written.

    A compiled one with hooks of its own stays, for these to run.

    Returns
    -------
    list
        What `put_together` needs.
    """
    taken: Taken = []
    for module in list(net.modules()):
        for name, part in module._modules.items():
            plain = part
            while (within := inner(plain)) is not None and not _has_hooks(plain):
                plain = within
            if plain is not part and name != "_orig_mod":
                taken.append((module._modules, name, part))
                module._modules[name] = plain
        if vars(module).get(_CALL) is not None:
            taken.append((vars(module), _CALL, vars(module)[_CALL]))
            vars(module)[_CALL] = None
    return taken


def put_together(taken: Taken) -> None:
    """Undo `take_apart`."""
    for table, name, value in taken:
        table[name] = value


def _has_hooks(module: Any) -> bool:
    return any(vars(module).get(table) for table in _HOOKS)


# ---- functions that a network has compiled: nobody knows where it keeps them


_COMPILER = "torch._dynamo.eval_frame"  # imported by who compiles, and not for anybody else
_EAGER = "force_eager"


def _stance() -> Any:
    return getattr(sys.modules.get(_COMPILER), "_stance", None)


def _set_stance(stance: Any) -> None:
    if _COMPILER not in sys.modules:
        return
    if stance is None or stance == _EAGER:
        torch.compiler.set_stance(stance or "default")
        return
    unsafe = stance.skip_guard_eval_unsafe
    torch.compiler.set_stance(
        stance.stance, skip_guard_eval_unsafe=unsafe, force_backend=stance.backend
    )


_compiler = Lent(_stance, _set_stance, lambda theirs: _EAGER)


@contextmanager
def eagerly() -> Iterator[None]:
    """Have compiled functions run as they were written within this block, in all threads."""
    with _compiler:
        yield

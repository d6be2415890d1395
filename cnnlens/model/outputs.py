"""What a network returns: a tensor, or several in a mapping, a sequence or an object's fields.

Everything has a name: its key, its field, or its number, nested ones joined by dots. The classes'
are the ones that were asked for (``--head``), else those named `logits`, else the first that no
auxiliary head gave.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from cnnlens.errors import UsageError, did_you_mean

_USUAL = ("logits", "out")  # of transformers; of torchvision's segmentation networks
_AUXILIARY = re.compile(r"(^|[._])aux", re.I)


class Features(NamedTuple):
    """What a network without a head returns: numbers that are no classes."""

    features: Tensor  # (N, D)


def as_features(_: nn.Module, __: Any, output: Any) -> Any:
    """Mark what a network returns as features (a forward hook)."""
    return Features(output) if isinstance(output, Tensor) else output


def named_tensors(output: Any) -> dict[str, Tensor]:
    """Name every tensor that a network returned, in order; "" is the name of one alone."""
    return dict(_walk(output, ""))


def _walk(output: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield name, output
        return
    for key, part in _parts(output):
        yield from _walk(part, f"{name}.{key}" if name else str(key))


def _parts(output: Any) -> list[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        return list(output.items())
    if is_dataclass(output):
        return [(field.name, getattr(output, field.name)) for field in fields(output)]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return list(enumerate(output))
    held = getattr(output, "__dict__", {})
    return [(name, one) for name, one in held.items() if isinstance(one, Tensor)]


def choose(shapes: Mapping[str, tuple[int, ...]], count: int, head: str | None) -> str | None:
    """Choose the output that is the classes'.

    Parameters
    ----------
    shapes : mapping
        Shapes of the outputs, by name.
    count : int
        N, images that they are of.
    head : str or None
        The name or number that was asked for; None: the usual one.

    Returns
    -------
    str or None
        Its name; None where there is no output at all.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    names = list(shapes)
    if head is not None:
        return _asked(names, head)
    usual = [name for name in _USUAL if name in shapes]
    scores = [name for name in names if shapes[name][:1] == (count,) and _is_row(shapes[name])]
    main = [name for name in scores if not is_auxiliary(name)]
    return next(iter([*usual, *main, *scores, *names]), None)


def _asked(names: list[str], head: str) -> str:
    if head in names:
        return head
    if head.isdecimal() and int(head) < len(names):
        return names[int(head)]
    if names == [""]:
        raise UsageError(f"no output '{head}': the network has one only", "leave out --head")
    listed = ", ".join(names) or "none that is a tensor"
    raise UsageError(
        f"the network has no output '{head}'", did_you_mean(head, names) or f"it has {listed}"
    )


def _is_row(shape: tuple[int, ...]) -> bool:
    return math.prod(shape[2:]) == 1


def main_output(output: Any, count: int, head: str | None) -> Tensor | None:
    """Return the output that is the classes', whatever else is returned; None for no tensor."""
    if isinstance(output, list) and any(isinstance(one, Mapping) for one in output):
        return None  # detections, image by image
    named = named_tensors(output)
    name = choose({name: tuple(one.shape) for name, one in named.items()}, count, head)
    return None if name is None else named[name]


def one_of(output: Any, name: str) -> Tensor:
    """Return the output of that name; a tensor alone, whatever it is called."""
    return output if isinstance(output, Tensor) else named_tensors(output)[name]


def said_of(shapes: Mapping[str, tuple[int, ...]], chosen: str | None) -> str:
    """Say which of several outputs is the classes', and how another is chosen; "" for one."""
    others = {name: shape for name, shape in shapes.items() if not is_auxiliary(name)}
    if len(others) < 2 or chosen is None or not _is_row(shapes[chosen]):
        return ""
    listed = ", ".join(f"{name} ({'×'.join(map(str, s[1:])) or 1})" for name, s in others.items())
    return f"it returns several outputs: {listed}; {chosen} is the classes' (--head NAME chooses)"


def is_auxiliary(name: str) -> bool:
    """Whether an output or a module is, by its name, one that only training needs."""
    return bool(_AUXILIARY.search(name))

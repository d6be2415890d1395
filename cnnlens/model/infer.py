"""The architecture of a bare state dict, inferred from the names and shapes of its tensors.

torchvision's networks come first, and one that fits wins. Its families give themselves away by
the names of their tensors, so that few have to be built. timm has over a thousand, which are built
only as far as their layers are those of the state dict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model import timm_nets, torchvision_nets, zoo
from cnnlens.model.architecture import Shapes
from cnnlens.model.fit import Fit, fit, quick_fit, skeleton

_HINT = "name the code that builds it with --arch file.py:factory"
_NEAREST = 4  # of timm's, so many that were alike for longest are compared in full


def infer(shapes: Shapes, what: str = "the state dict") -> Fit:
    """Find the one architecture a state dict belongs to.

    Parameters
    ----------
    shapes : mapping
        Tensor names to shapes.
    what : str
        How to call the state dict in messages.

    Raises
    ------
    UsageError
        When several architectures fit that may compute different things.
    CnnlensError
        When none does; says how near the nearest was.
    """
    own = [torchvision_nets.architecture(n) for n in torchvision_nets.likely(shapes)]
    own += [zoo.architecture(n) for n in zoo.ZOO]
    exact = [f for a in own if (f := quick_fit(a, shapes)[0]) is not None]
    if exact:
        return _one_of(exact, what)
    others = [timm_nets.architecture(n) for n in timm_nets.names()]
    quick = [(a, *quick_fit(a, shapes)) for a in others]
    exact = [f for _, f, _ in quick if f is not None]
    if exact:
        return _one_of(exact, what)
    longest = sorted(quick, key=lambda entry: -entry[2])[:_NEAREST]
    near = [fit(a, shapes) for a in [*own, *(a for a, _, alike in longest if alike)]]
    # a builder that makes layers only to measure them has been given up too early
    if exact := [f for f in near if f.exact]:
        return _one_of(exact, what)
    raise _none(near, shapes, what)


def _one_of(exact: Sequence[Fit], what: str) -> Fit:
    """Choose among exact fits where all of them compute the same."""
    if len(exact) == 1 or _all_equal(_behaviours(exact)):
        return min(exact, key=lambda f: len(f.architecture.name))
    names = [f.architecture.name for f in exact]
    more = f", … ({len(names)} in all)" if len(names) > 8 else ""
    raise UsageError(
        f"{what} fits several architectures: {', '.join(names[:8])}{more}",
        f"say which one with --arch, e.g. --arch {names[0]}",
    )


def _all_equal(things: Iterator[Any]) -> bool:
    first = next(things)
    return all(thing == first for thing in things)


def _behaviours(fits: Sequence[Fit]) -> Iterator[Any]:
    """What decides how each network computes, beside its weights, and how it is to be fed."""
    for found in fits:
        net = skeleton(found.architecture, found.options)
        yield found.architecture.preprocess(net), [_settings(n, m) for n, m in net.named_modules()]


def _settings(name: str, module: nn.Module) -> tuple[Any, ...]:
    plain = {
        k: v if isinstance(v, int | float | str | tuple | None) else getattr(v, "__qualname__", "")
        for k, v in vars(module).items()
        if not k.startswith("_") and k not in ("training", "pretrained_cfg", "default_cfg")
    }
    return name, type(module), plain


def _none(near: Sequence[Fit], shapes: Shapes, what: str) -> CnnlensError:
    found = max(near, key=lambda f: f.closeness)
    if not found.closeness:
        first = ", ".join(list(shapes)[:3])
        return CnnlensError(f"{what} fits no known architecture (it begins with {first})", _HINT)
    return CnnlensError(
        f"{what} fits no known architecture; nearest is {found.architecture.name}: "
        f"{found.describe()}",
        _HINT,
    )

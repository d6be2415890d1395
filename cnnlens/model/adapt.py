"""A known architecture with another head or stem: replaced, deepened or cut off.

What people change is the last linear layer and the first convolution. Where everything else fits,
the part is built from the shapes in the file; what shapes do not say (rectifiers between linear
layers, strides, pooling) is assumed, and said.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from cnnlens.model.architectures import Shapes, shapes_of
from cnnlens.model.cut import cut_off
from cnnlens.model.fit import (
    COUNTER,
    Change,
    Fit,
    fit_with,
    replace_input,
    replace_module,
    skeleton,
)
from cnnlens.model.heads import other_head
from cnnlens.model.stems import other_stem


def adapt(found: Fit, shapes: Shapes, surgery: bool = True) -> Fit | None:
    """Change an architecture's head and stem, and leave out what is beside it, where that fits.

    Parameters
    ----------
    found : Fit
        As held against the shapes, not exact.
    shapes : mapping
        Names and shapes of the state dict.
    surgery : bool
        False: only leave out what is beside it, as for code of the user's own.

    Returns
    -------
    Fit or None
        An exact one with its changes; None where more than that differs.
    """
    adapted = _adapted(found, shapes, surgery)
    if adapted is None and found.options.get("num_classes") == 0:
        # it was nearest without a head, where one of its own would have gone
        options = {**found.options, "num_classes": found.architecture.outputs}
        adapted = _adapted(fit_with(found.architecture, options, shapes), shapes, surgery)
    return adapted


def _adapted(found: Fit, shapes: Shapes, surgery: bool) -> Fit | None:
    net = skeleton(found.architecture, found.options)
    own = {name for name, _ in net.named_children()} | {k for k, _ in net.named_parameters()}
    outside = [k for k in found.unexpected if k.partition(".")[0] not in own]
    inside = [k for k in found.unexpected if k not in outside and not _counts(k)]
    stem = other_stem(net, found) if surgery else []
    told = {f"{change.path}.{part}" for change in stem for part in ("weight", "bias")}
    open_ = [k for k in (*found.missing, *found.differing, *inside) if k not in told]
    end = _end(net, open_, shapes) if open_ and surgery else []
    if open_ and not end:
        return None
    changes = [*stem, *end]
    if found.channels is not None:
        replace_input(net, found.channels)
    for change in changes:
        replace_module(net, change.path, change.make())
    want = shapes_of(net.state_dict())
    if any(shapes.get(k) != s for k, s in want.items() if not k.endswith(COUNTER)):
        return None
    left = [k for k in shapes if k not in want]
    if any(k.partition(".")[0] in own and not _counts(k) for k in left):
        return None
    return replace(found, missing=[], differing={}, unexpected=[], changes=changes,
                   left_out=left, fitting=len(want))  # fmt: skip


def _end(net: nn.Module, open_: list[str], shapes: Shapes) -> list[Change]:
    """Another head, else none of a network that ends before it."""
    if head := other_head(net, open_, shapes):
        return head
    missing = not any(k in shapes for k in open_)
    return cut_off(net, shapes) if missing else []


def _counts(name: str) -> bool:
    """Whether a tensor is what profilers leave in every module."""
    return name.endswith(("total_ops", "total_params"))

"""A known architecture with another head or stem: replaced, deepened or cut off.

What people change is the last linear layer and the first convolution. Where everything else fits,
the part is built from the shapes in the file; what no shape says (rectifiers between linear layers,
a stride, a padding, a pooling) is assumed, and said.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from cnnlens.model.architectures import Shapes, first_convolution, shapes_of
from cnnlens.model.fit import (
    COUNTER,
    Change,
    Fit,
    fit_with,
    replace_input,
    replace_module,
)
from cnnlens.model.heads import other_head
from cnnlens.model.outline import skeleton


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


# -- a first convolution with another kernel, with a bias or without one --------------------------


# the pooling behind a first convolution of 7×7, which networks for small images go without
_POOLS = ("maxpool", "features.pool0", "maxpool1")
_SMALL = 3  # the largest kernel of those
_MIDDLE = 5  # the largest that one of those may be replaced by


def other_stem(net: nn.Module, found: Fit) -> list[Change]:
    """Replace the first convolution where the file has another one; empty where it has not."""
    first = first_convolution(net)
    if first is None or not isinstance(old := first[1], nn.Conv2d) or old.groups != 1:
        return []
    path, (weight, bias) = first[0], (f"{first[0]}.{part}" for part in ("weight", "bias"))
    same = (old.out_channels, found.channels or old.in_channels, *old.kernel_size)
    shape = found.differing[weight][0] if weight in found.differing else same
    has_bias = (old.bias is not None or bias in found.unexpected) and bias not in found.missing
    if (shape, has_bias) == (same, old.bias is not None) or not _likely(shape, old):
        return []
    pool = _pool(net) if _is_small(shape, old) else ""
    stride, padding = ((1, 1), (shape[2] // 2,) * 2) if pool else _usual(shape, old)

    def make() -> nn.Module:
        return _changed(old, shape, has_bias, stride, padding)

    if shape[2:] == old.kernel_size:
        return [Change(path, make, f"its first convolution has {'a' if has_bias else 'no'} bias")]
    kernel = f"{shape[2]}×{shape[3]}"
    said = f"its stem of {kernel} is assumed to have stride 1 and no max pool behind it"
    if not pool:
        said = f"its stem of {kernel} is assumed to have stride {stride[0]}, padding {padding[0]}"
    gone = [Change(pool, nn.Identity)] if pool else []
    return [Change(path, make, said, assumed=True, stem=True), *gone]


def _likely(shape: tuple[int, ...], old: nn.Conv2d) -> bool:
    if len(shape) != 4 or shape[0] != old.out_channels or shape[2] != shape[3]:
        return False
    # a large one goes with a stride and a pooling, which a network for small images lacks
    small = old.kernel_size[0] <= _SMALL and old.stride[0] == 1
    return not small or shape[2] <= _MIDDLE


def _is_small(shape: tuple[int, ...], old: nn.Conv2d) -> bool:
    return shape[2] <= _SMALL < old.kernel_size[0]


def _pool(net: nn.Module) -> str:
    """Path of the pooling behind the first convolution; empty where there is none."""
    known = dict(net.named_modules())
    return next((path for path in _POOLS if isinstance(known.get(path), nn.MaxPool2d)), "")


def _usual(shape: tuple[int, ...], old: nn.Conv2d) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and padding: patches stay patches, all else strides as before."""
    if old.stride == old.kernel_size and old.stride[0] > 1:
        return shape[2:], (0, 0)
    padded = not isinstance(old.padding, str) and old.padding[0] > 0
    if shape[2:] == old.kernel_size and not isinstance(old.padding, str):
        return old.stride, old.padding
    return old.stride, (shape[2] // 2,) * 2 if padded else (0, 0)


def _changed(
    old: nn.Conv2d,
    shape: tuple[int, ...],
    bias: bool,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> nn.Module:
    """Copy a convolution, of whatever class, with other numbers."""
    new = deepcopy(old)
    new.in_channels, new.kernel_size = shape[1], shape[2:]
    new.stride, new.padding = stride, padding
    new.weight = nn.Parameter(torch.empty(shape))
    new.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
    return new


# -- a network whose last stages are not in the file ----------------------------------------------

_LEAST = 4  # convolutions, so that a network's beginning is told from chance


def cut_off(net: nn.Module, shapes: Shapes) -> list[Change]:
    """Leave out the end of a network that a state dict ends before.

    Parameters
    ----------
    net : torch.nn.Module
        As its architecture builds it.
    shapes : mapping
        Names and shapes of the state dict.

    Returns
    -------
    list of Change
        Empty where what is missing is not its end, or begins within a block, and where the state
        dict goes on from there with layers of another network.
    """
    want = shapes_of(net.state_dict())
    known = [k for k in want if not k.endswith(COUNTER)]
    begins = next((n for n, k in enumerate(known) if k not in shapes), len(known))
    if any(k in shapes for k in known[begins:]) or _goes_on(want, known[begins:], shapes):
        return []
    if sum(len(shape) == 4 for shape in shapes.values()) < _LEAST:
        return []
    try:
        gone = list(_gone(net, "", shapes))
    except ValueError:  # within a block
        return []
    last = [k for k in net.state_dict() if k in shapes][-1].rpartition(".")[0]
    said = f"it ends behind {last}: its outputs are features, not classes"
    return [Change(gone[0], nn.Identity, said, headless=True),
            *(Change(path, nn.Identity) for path in gone[1:])]  # fmt: skip


def _goes_on(want: Shapes, gone: list[str], shapes: Shapes) -> bool:
    """Whether a convolution that is not the network's takes the maps that it would end in."""
    takes = next((shape for k in gone if len(shape := want[k]) == 4), (0, 0))
    width = takes[1] if takes[1] > 1 else takes[0]  # of one map each: as many as there are
    others = (shape for k, shape in shapes.items() if k not in want and len(shape) == 4)
    return any(width in shape[:2] for shape in others)  # transposed ones have it first


def _gone(module: nn.Module, path: str, shapes: Shapes) -> Iterator[str]:
    """Paths of the parts behind the last that has its tensors, but for its activation."""
    children = list(module.named_children())
    wanted = [
        [f"{path}{name}.{k}" for k in child.state_dict() if not k.endswith(COUNTER)]
        for name, child in children
    ]
    there = [sum(k in shapes for k in want) for want in wanted]
    last = max(n for n, count in enumerate(there) if count)
    for n, (name, child) in enumerate(children):
        if n > last:
            ran = not wanted[n] and (
                not isinstance(module, nn.Sequential) or _follows(child, n, last)
            )
            yield from () if ran else (f"{path}{name}",)
        elif there[n] < len(wanted[n]):
            if not isinstance(child, nn.Sequential):
                raise ValueError(name)
            yield from _gone(child, f"{path}{name}.", shapes)


def _follows(child: nn.Module, number: int, last: int) -> bool:
    return number == last + 1 and type(child).__module__ == "torch.nn.modules.activation"

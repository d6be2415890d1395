"""A known architecture with another head or stem: replaced, deepened or cut off.

What people change is the last linear layer and the first convolution. Where everything else fits,
the part is built from the shapes in the file; what shapes do not say (rectifiers between linear
layers, strides, pooling) is assumed, and said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import nn

from cnnlens.model.architectures import Shapes, shapes_of
from cnnlens.model.infer import (
    COUNTER,
    Change,
    Fit,
    fit_with,
    replace_input,
    replace_module,
    skeleton,
)


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
    stem = _stem(net, found) if surgery else []
    told = {f"{change.path}.weight" for change in stem}
    open_ = [k for k in (*found.missing, *found.differing, *inside) if k not in told]
    head = _head(net, open_, shapes) if open_ and surgery else []
    if open_ and not head:
        return None
    changes = [*stem, *head]
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


def _counts(name: str) -> bool:
    """Whether a tensor is what profilers leave in every module."""
    return name.endswith(("total_ops", "total_params"))


def _stem(net: nn.Module, found: Fit) -> list[Change]:
    """Replace a ResNet's first convolution by one of 3×3, without the pooling behind it."""
    first = getattr(net, "conv1", None)
    if "conv1.weight" not in found.differing or not isinstance(first, nn.Conv2d):
        return []
    outputs, inputs, height, width = found.differing["conv1.weight"][0]
    if outputs != first.out_channels or height != width or height not in (1, 3, 5):
        return []
    if not isinstance(getattr(net, "maxpool", None), nn.MaxPool2d):
        return []
    said = f"its stem of {height}×{width} is assumed to have stride 1 and no max pool behind it"

    def convolution() -> nn.Module:
        return nn.Conv2d(inputs, outputs, height, 1, height // 2, bias=False)

    return [Change("conv1", convolution, said, True), Change("maxpool", nn.Identity)]


def _head(net: nn.Module, open_: list[str], shapes: Shapes) -> list[Change]:
    """Replace the module around the last linear layer that holds all that does not fit."""
    linear = [name for name, m in net.named_modules() if isinstance(m, nn.Linear)]
    for at in _around(linear[-1]) if linear else ():
        old = net.get_submodule(at)
        if any(isinstance(m, nn.Conv2d) for m in old.modules()):
            return []
        if all(k.startswith(f"{at}.") for k in open_):
            inside = {k.removeprefix(f"{at}."): shapes[k] for k in shapes if k.startswith(f"{at}.")}
            return _headless(at) if not inside else _other_head(at, old, inside)
    return []


def _around(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _headless(at: str) -> list[Change]:
    return [Change(at, nn.Identity, f"it has no {at}: its outputs are features, not classes",
                   headless=True)]  # fmt: skip


def _other_head(at: str, old: nn.Module, inside: Shapes) -> list[Change]:
    widths = [m.in_features for m in old.modules() if isinstance(m, nn.Linear)]
    first = next((s[-1] for k, s in inside.items() if k.endswith("weight")), None)
    said = _Head()
    if first != widths[0] or said.make(inside) is None:
        return []
    text = f"its head {at} has {said.linear} linear layers, {said.outputs} outputs"
    if said.rectifiers:
        text += f"; {said.rectifiers} rectifier{'s' * (said.rectifiers > 1)} between them assumed"
    elif said.linear == 1:
        text = f"its head {at} is one of its own: {said.outputs} outputs"
    return [Change(at, lambda: _Head().make(inside) or nn.Identity(), text, said.rectifiers > 0)]


class _Head:
    """Builds a sequence of linear layers and norms from the names and shapes in a file."""

    def __init__(self) -> None:
        self.linear = self.rectifiers = self.outputs = 0
        self._bare = False  # a linear layer without a rectifier behind it yet

    def make(self, inside: Mapping[str, tuple[int, ...]]) -> nn.Module | None:
        """Build what these tensors belong to; None where they are of other layers."""
        if "weight" in inside:
            return self._layer(inside)
        parts: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, shape in inside.items():
            start, _, rest = name.partition(".")
            parts.setdefault(start, {})[rest] = shape
        row: dict[str, nn.Module] = {}
        before = -1
        for name, part in parts.items():
            number = int(name) if name.isdigit() else None
            if self._bare and (number is None or number > before + 1):
                row[f"relu{name}" if number is None else str(before + 1)] = nn.ReLU()
                self._bare, self.rectifiers = False, self.rectifiers + 1
            module = self.make(part)
            if module is None:
                return None
            row[name] = module
            before = before + 1 if number is None else number
        return nn.Sequential(OrderedDict(row))

    def _layer(self, inside: Mapping[str, tuple[int, ...]]) -> nn.Module | None:
        shape = inside["weight"]
        if len(shape) == 2:
            if self.linear and shape[1] != self.outputs:
                return None
            self.linear, self.outputs, self._bare = self.linear + 1, shape[0], True
            return nn.Linear(shape[1], shape[0], bias="bias" in inside)
        if len(shape) != 1:
            return None
        return nn.BatchNorm1d(shape[0]) if "running_mean" in inside else nn.LayerNorm(shape[0])

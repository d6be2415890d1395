"""Heads of one's own, built from the names and shapes of their tensors in a file.

A head is a row of linear layers, convolutions and norms. Layers without tensors show as gaps in
the numbers of their sequence: one behind a linear layer is taken for a rectifier.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import isqrt

import torch
from torch import Tensor, nn

from cnnlens.errors import counted
from cnnlens.model.architectures import Shapes
from cnnlens.model.fit import Change

_Parts = Mapping[str, tuple[int, ...]]


def other_head(net: nn.Module, open_: list[str], shapes: Shapes) -> list[Change]:
    """Replace the module around the last layer of a network that holds all that does not fit.

    Parameters
    ----------
    net : torch.nn.Module
        As its architecture builds it.
    open_ : list of str
        Tensors that are missing, unexpected or of another shape.
    shapes : mapping
        Names and shapes of the state dict.

    Returns
    -------
    list of Change
        Empty where no head can be built of what is there.
    """
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)
    found = [[name for name, m in net.named_modules() if isinstance(m, kind)] for kind in kinds]
    last = found[0] or found[1]
    for at in _around(last[-1]) if last else ():
        old = net.get_submodule(at)
        if sum(isinstance(m, nn.Conv2d) for m in old.modules()) > (not found[0]):
            return []
        if all(k.startswith(f"{at}.") for k in open_):
            inside = {k.removeprefix(f"{at}."): shapes[k] for k in shapes if k.startswith(f"{at}.")}
            return _build(net, at, inside) if inside else [headless(at)]
    return []


def headless(at: str) -> Change:
    """Leave a network's head out."""
    said = f"it has no {at}: its outputs are features, not classes"
    return Change(at, nn.Identity, said, headless=True)


def _around(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _build(net: nn.Module, at: str, inside: _Parts) -> list[Change]:
    old = net.get_submodule(at)
    layers = [m for m in old.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    reads = layers[0].weight.shape[1]
    first = next((_reads(s) for k, s in inside.items() if k.endswith("weight")), None)
    pool = [] if first == reads else _other_pool(net, reads, first)
    tail = _behind(old, layers[0]) if isinstance(layers[0], nn.Conv2d) else None
    head, lead = _Head(tail), _lead(old, layers[0], inside)
    kept = tuple(f"{name}." for name in lead)
    rest = {k: shape for k, shape in inside.items() if not k.startswith(kept)}
    if (first != reads and not pool) or head.make(rest) is None:
        return []

    def make() -> nn.Module:
        built = _Head(tail).make(rest) or nn.Identity()
        if not (lead and isinstance(built, nn.Sequential)):
            return built
        return nn.Sequential(OrderedDict([*deepcopy(lead).items(), *built.named_children()]))

    return [*pool, Change(at, make, head.said(at), head.rectifiers > 0)]


def _lead(old: nn.Module, layer: nn.Module, inside: _Parts) -> dict[str, nn.Module]:
    """What makes vectors of maps in a head, before its first layer (ConvNeXt: a norm, flattened).

    Empty where maps are flattened elsewhere. A norm is kept where the file has it, too.
    """
    children = list(old.named_children())
    place = next((n for n, (_, m) in enumerate(children) if m is layer), 0)
    before = children[:place]
    if not any(isinstance(m, nn.Flatten) for _, m in before):
        return {}
    shapes = {n: {k: tuple(v.shape) for k, v in m.state_dict().items()} for n, m in before}
    same = all(inside.get(f"{n}.{k}") == s for n, part in shapes.items() for k, s in part.items())
    return dict(before) if same else {"flat": nn.Flatten()}


def _reads(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else shape[0]


def _behind(old: nn.Module, layer: nn.Module) -> list[nn.Module]:
    """What a head does to the maps of its convolution (SqueezeNet: rectifier, mean)."""
    children = list(old.children())
    return children[children.index(layer) + 1 :] if layer in children else []


def _other_pool(net: nn.Module, reads: int, first: int | None) -> list[Change]:
    """Pool so that as many numbers come out as a head reads."""
    old = getattr(net, "avgpool", None)
    if not isinstance(old, nn.AdaptiveAvgPool2d) or not first:
        return []
    sizes = old.output_size
    size = sizes if isinstance(sizes, int) else (sizes or (1,))[0] or 1
    maps = reads // size**2
    if first == 2 * maps:
        said = "its pooling is assumed to be fastai's: the maximum beside the mean"
        return [Change("avgpool", MaximumAndMean, said, True)]
    side = isqrt(first // maps)
    if maps * side**2 != first:
        return []
    said = f"its pooling is assumed to leave {side}×{side} positions, as the head reads {first}"
    return [Change("avgpool", lambda: nn.AdaptiveAvgPool2d(side), said, True)]


class MaximumAndMean(nn.Module):
    """The pooling of fastai's heads: maximum and mean over all positions, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2C, 1, 1)."""
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], 1)


class _Head:
    """Builds a sequence of layers and norms from the names and shapes in a file.

    `tail` is what follows convolutions on maps; None of a head that reads vectors.
    """

    def __init__(self, tail: list[nn.Module] | None) -> None:
        self.count = self.rectifiers = self.outputs = 0
        self._tail, self._maps = tail, tail is not None
        self._bare = False  # a layer without a rectifier behind it yet

    def said(self, at: str) -> str:
        """Say what was built."""
        outputs = counted(self.outputs, "output")
        if self.count == 1 and not (self._maps or self.rectifiers):
            return f"its head {at} is one of its own: {outputs}"
        kind = "convolutional" if self._maps else "linear"
        text = f"its head {at} has {self.count} {kind} layers, {outputs}"
        several = "s" * (self.rectifiers > 1)
        guesses = [f"{self.rectifiers} rectifier{several} between them"] * bool(self.rectifiers)
        if self._maps and self._tail:
            names = ", ".join(type(module).__name__ for module in self._tail)
            guesses.append(f"{names} behind them as before")
        return text + (f"; {' and '.join(guesses)} assumed" if guesses else "")

    def make(self, inside: _Parts) -> nn.Module | None:
        """Build what these tensors belong to; None where they are of other layers."""
        if "weight" in inside:  # one layer; of maps, it would leave maps
            return self._layer(inside) if self._tail is None else None
        row = self._row(inside)
        if row is not None and self._maps:
            row |= {f"tail{n}": deepcopy(module) for n, module in enumerate(self._tail or ())}
        return None if row is None else nn.Sequential(OrderedDict(row))

    def _row(self, inside: _Parts) -> dict[str, nn.Module] | None:
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
            if self._maps and len(part.get("weight", ())) == 2:
                row |= {"mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
                self._maps = False
            if "" in part:  # a tensor of no layer
                return None
            module = self._layer(part) if "weight" in part else self._nested(part)
            if module is None:
                return None
            row[name] = module
            before = before + 1 if number is None else number
        return row

    def _nested(self, inside: _Parts) -> nn.Module | None:
        row = self._row(inside)
        return None if row is None else nn.Sequential(OrderedDict(row))

    def _layer(self, inside: _Parts) -> nn.Module | None:
        shape, bias = inside["weight"], "bias" in inside
        if len(shape) == 1:
            norm = nn.BatchNorm2d if self._maps else nn.BatchNorm1d
            return norm(shape[0]) if "running_mean" in inside else nn.LayerNorm(shape[0])
        if self.count and shape[1] != self.outputs:
            return None
        self.count, self.outputs, self._bare = self.count + 1, shape[0], True
        if len(shape) == 4 and self._maps:
            return nn.Conv2d(shape[1], shape[0], shape[2:], padding=shape[2] // 2, bias=bias)
        return nn.Linear(shape[1], shape[0], bias=bias) if len(shape) == 2 else None

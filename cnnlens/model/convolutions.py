"""The convolutions behind the layers: which module convolves, and which one normalizes after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.layers import NORMS, Layer, convolution_ops, find_layers
from cnnlens.model.model import Model
from cnnlens.model.trace import Trace, trace


@dataclass(frozen=True)
class Convolution:
    """A convolution of a network.

    Attributes
    ----------
    alias : str
        Its ``convN``.
    path : str
        Path of the module that convolves.
    norm : str
        Path of the batch norm that alone reads its output, else empty.
    units : int
        Filters.
    """

    alias: str
    path: str
    norm: str
    units: int


def find_convolutions(model: Model) -> list[Convolution]:
    """List the convolutions that are modules, in the order of the forward pass.

    Raises
    ------
    CnnlensError
        When the network does not run on its input size.
    """
    shape = (model.batch or 1, model.preprocess.channels, *model.preprocess.size)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    passed = trace(model.net, model.preprocess.normalize(x))
    modules = dict(model.net.named_modules())
    found = []
    for count, number in enumerate(convolution_ops(passed), 1):
        path = passed.ops[number].module
        module = modules.get(path)
        if isinstance(module, nn.Conv2d):
            norm = _norm_after(passed, number, modules)
            found.append(Convolution(f"conv{count}", path, norm, module.out_channels))
    return found


def _norm_after(passed: Trace, number: int, modules: dict[str, nn.Module]) -> str:
    readers: dict[int, list[int]] = defaultdict(list)
    for place, op in enumerate(passed.ops):
        for value in set(op.inputs):
            readers[value].append(place)
    after = readers[passed.ops[number].outputs[0]]
    if len(after) != 1 or passed.ops[after[0]].name not in NORMS:
        return ""
    path = passed.ops[after[0]].module
    return path if isinstance(modules.get(path), nn.modules.batchnorm._BatchNorm) else ""


def convolutions_of(model: Model, names: Sequence[str] = ()) -> list[tuple[Layer, Convolution]]:
    """Find the convolutions that layers stand for; all of the network where none is named.

    They come in the order of the forward pass, each once.

    Raises
    ------
    UsageError
        When a layer is not known, or is no convolution.
    """
    layers, known = find_layers(model), find_convolutions(model)
    by_alias = {layers.resolve(c.alias).place: c for c in known}
    by_path = {path: c for c in known for path in (c.path, c.norm) if path}
    if not known:
        raise UsageError("the network has no convolution to train", "name another MODEL")
    found: dict[str, tuple[Layer, Convolution]] = {}
    for name in names or [c.alias for c in known]:
        layer = layers.resolve(name)
        convolution = by_alias.get(layer.place) or by_path.get(layer.place.path)
        if convolution is None:
            raise UsageError(
                f"layer '{name}' is no convolution",
                f"choose from {', '.join(c.alias for c in known)}; `cnnlens layers` lists them",
            )
        found.setdefault(convolution.path, (layer, convolution))
    return sorted(found.values(), key=lambda pair: known.index(pair[1]))

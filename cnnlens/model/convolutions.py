"""The convolutions behind the layers: which module convolves, and which one normalizes after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.aliases import NORMS, convolution_ops
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
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
    with model.in_use():
        passed = trace(model.net, model.example())
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


def first_filters(model: Model, layer: Layer) -> np.ndarray | None:
    """Weights of a layer's units on the input's pixels.

    Parameters
    ----------
    model : Model
        The network.
    layer : Layer
        Any place of it.

    Returns
    -------
    numpy.ndarray or None
        (units, C, h, w) float32 in units of the pixels' own channels and range; None where the
        layer is not the first convolution, read before or after its norm and activation.
    """
    with model.in_use():
        passed = trace(model.net, model.example())
    seen = {passed.source}  # the input, and what is made of it without a convolution
    for number, op in enumerate(passed.ops):
        if op.name == "convolution" and seen & set(op.inputs):
            return (
                _first_weights(model, layer, op.module)
                if _is_first(passed, layer, number)
                else None
            )
        if seen & set(op.inputs):
            seen.update(op.outputs)
    return None


def _is_first(passed: Trace, layer: Layer, first: int) -> bool:
    """Whether nothing but pointwise operations stands between the convolution and the place."""
    height, width = passed.ops[first].shapes[0][2:]
    between = passed.ops[first + 1 : layer.depth]
    plain = all(op.name != "convolution" and "pool" not in op.name for op in between)
    return first < layer.depth and plain and layer.shape[1:] == (height, width)


def _first_weights(model: Model, layer: Layer, path: str) -> np.ndarray | None:
    module = model.net.get_submodule(path)
    weight = getattr(module, "weight", None)
    preprocess = model.preprocess
    if not isinstance(weight, torch.Tensor) or weight.ndim != 4:
        return None
    if weight.shape[:2] != (layer.units, preprocess.channels):
        return None
    std = torch.tensor(preprocess.std)[:, None, None]
    on_pixels = weight.detach().float().cpu() * preprocess.scale / std
    return (on_pixels.flip(1) if preprocess.bgr else on_pixels).numpy()

"""The first layer's filters, which can be looked at as they are."""

from __future__ import annotations

import numpy as np
import torch

from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.model.trace import Trace, trace


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
    size = (model.batch or 1, model.preprocess.channels, *model.preprocess.size)
    passed = trace(model.net, torch.zeros(size, device=model.device))
    seen = {passed.source}  # the input, and what is made of it without a convolution
    for number, op in enumerate(passed.ops):
        if op.name == "convolution" and seen & set(op.inputs):
            return _weights(model, layer, op.module) if _reads(passed, layer, number) else None
        if seen & set(op.inputs):
            seen.update(op.outputs)
    return None


def _reads(passed: Trace, layer: Layer, first: int) -> bool:
    """Whether nothing but pointwise operations stands between the convolution and the place."""
    height, width = passed.ops[first].shapes[0][2:]
    between = passed.ops[first + 1 : layer.depth]
    plain = all(op.name != "convolution" and "pool" not in op.name for op in between)
    return first < layer.depth and plain and layer.shape[1:] == (height, width)


def _weights(model: Model, layer: Layer, path: str) -> np.ndarray | None:
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

"""Where a gradient begins that does not have to reach the image: at a layer's own value.

A backbone that runs in `torch.no_grad()` keeps no history, so that what is read behind it has no
place in the graph. Grad-CAM asks for the gradient of a score by the layer, no further.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cnnlens.model.hooks import swapping
from cnnlens.model.trace import Place


@contextmanager
def beginning_at(net: nn.Module, place: Place) -> Iterator[None]:
    """Have the value at a place keep history in forward passes, whatever was before it.

    What a module returns is put anew; what an operation makes descends from weights that are
    learned meanwhile, where some lie between it and what runs without gradients.
    """
    if place.op < 0:
        with swapping(net, place, _anew):
            yield
        return
    frozen = [p for p in net.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _anew(value: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return value.clone().requires_grad_(True)

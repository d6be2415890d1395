"""Images as the network sees them, straight, at its input's size, in 8 bits, and their worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cnnlens.model.device import in_batches
from cnnlens.model.model import Model
from cnnlens.synthesize.objective import Objective, evaluate, read_images
from cnnlens.synthesize.transform import resized


def as_seen(model: Model, images: Tensor) -> Tensor:
    """Bring images (N, C, h, w) to the input's size, unless they are larger, and to 8 bits."""
    height, width = model.preprocess.size
    if images.shape[2] <= height and images.shape[3] <= width:
        images = resized(images, (height, width))
    return (images.clamp(0, 1) * 255).round() / 255


def activation(model: Model, objectives: Sequence[Objective], images: Tensor) -> list[float]:
    """Each image's own objective on images (N, C, h, w), seen straight."""
    return _straight(model, images, lambda x, rows: evaluate(model, objectives[rows], x))


def answers(model: Model, objectives: Sequence[Objective], images: Tensor) -> Sequence[int | None]:
    """Give the class of the highest score on images (N, C, h, w), where objectives are classes."""
    if not objectives[0].of_class:
        return [None] * len(images)
    (*_, at) = objectives[0].places

    def highest(x: Tensor, rows: slice) -> Tensor:
        readings = read_images(model, [at], x)[: len(x)]
        return torch.stack([reading[at].flatten().argmax() for reading in readings])

    return _straight(model, images, highest)


def _straight(model: Model, images: Tensor, read: Callable[[Tensor, slice], Tensor]) -> list[Any]:
    """What `read` says of images (N, C, h, w) as the network's input, of some rows at a time."""
    with torch.no_grad():
        x = model.preprocess.normalize(resized(images.to(model.device), model.preprocess.size))
        size = model.batch or len(x)
        parts, _ = in_batches(len(x), size, lambda rows: read(x[rows], rows), model)
        return [value for part in parts for value in part.tolist()]

"""Random images as one more category: what a layer holds close to noise, it knows little of."""

from __future__ import annotations

import numpy as np
import torch

from cnnlens.activations.forward import Forward
from cnnlens.cluster.vectors import Groups, Joined, Maps, MapSource
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model

NAME = "noise"
_MOST = 200


def noise_pixels(model: Model, count: int, seed: int) -> torch.Tensor:
    """Uniform random pixels (count, C, H, W) uint8 of the network's input size."""
    generator = torch.Generator().manual_seed(seed)
    size = (count, model.preprocess.channels, *model.preprocess.size)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def add_noise(
    source: MapSource, groups: Groups, model: Model, layer: Layer, seed: int, batch_size: int = 32
) -> tuple[MapSource, Groups]:
    """Add a category of random images, as many as the other categories have on average.

    Parameters
    ----------
    source, groups
        The images.
    model, layer : Model, Layer
        What answers the random images.
    seed : int
        Of the images.
    batch_size : int
        Images in the network at once.

    Returns
    -------
    (MapSource, Groups)
        With the random images as the last rows; their category is called "noise", with as many
        underscores behind as make it unique.
    """
    count = int(np.clip(round(groups.sizes.mean()), 2, _MOST))
    forward = Forward(model, [layer], logits=False, limit=batch_size)
    (maps,), _ = forward(noise_pixels(model, count, seed))
    name = NAME
    while name in groups.names:
        name += "_"
    of_image = np.concatenate([groups.of_image, np.full(count, len(groups.names))])
    return Joined((source, Maps(maps))), Groups((*groups.names, name), of_image)

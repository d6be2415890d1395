"""Several images of one unit, made different on purpose.

An image is kept apart from earlier ones of the same unit by what its layer's channels do together:

    a(x) − w · |a(x)| · mean_j cos(G(x), G(x_j)),    G = F Fᵀ, F the layer's maps, (C, H·W)

G, a Gram matrix, is how style is measured: where things are does not count, of what kind they are
does. In units of the activation itself, w means the same for any unit. Images are made one after
another, each against all before it (lucid makes a batch against itself): so the first is the one
that is made alone, and more can be asked for later.

References
----------
Olah, Mordvintsev, Schubert: Feature Visualization (section "Diversity"). Distill, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.synthesize.objective import Objective, Reading, read_images
from cnnlens.synthesize.transform import resized

WEIGHT = 1.0


def gram(maps: Tensor) -> Tensor:
    """Gram matrix (C, C) of maps (C, H, W), of Frobenius norm 1; 0 where nothing is active."""
    rows = maps.flatten(1)  # (C, HW)
    found = rows @ rows.T
    return found / found.norm().clamp_min(1e-12)


def grams(model: Model, layer: Layer, images: Sequence[Tensor]) -> list[Tensor]:
    """Read a layer's Gram matrices of pictures (C, h, w) in [0, 1]."""
    found = []
    with torch.no_grad(), model.in_use():
        for image in images:
            seen = resized(image[None].to(model.device), model.preprocess.size)
            (reading,) = read_images(model, [layer.place], model.preprocess.normalize(seen))[:1]
            found.append(gram(reading[layer.place].float()))
    return found


def apart(
    objective: Objective, layer: Layer, others: Sequence[Tensor], weight: float = WEIGHT
) -> Objective:
    """Let an objective's image differ from others.

    Parameters
    ----------
    objective : Objective
        What it is to show.
    layer : Layer
        Where images are compared.
    others : sequence of torch.Tensor
        (C, C): Gram matrices of earlier images.
    weight : float
        w of the module's formula.

    Returns
    -------
    Objective
        Named after the number of the image, so that its randomness is its own.
    """
    known = torch.stack(list(others))  # (J, C, C)
    name = f"{objective.name}~{len(others) + 1}"
    places = tuple(dict.fromkeys((*objective.places, layer.place)))

    def value(reading: Reading) -> Tensor:
        plain = objective.value(reading)
        own = gram(reading[layer.place].float())
        alike = (known.to(own) * own).sum((1, 2)).mean()
        return plain - weight * plain.detach().abs() * alike

    return replace(objective, name=name, places=places, value=value)

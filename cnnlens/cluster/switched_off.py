"""What a network says of an image while one unit of a layer is switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_scores
from cnnlens.model.hooks import run_without
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model

_AT_ONCE = 8  # copies of the image that go through together

Answer = tuple[int, float | None, float | None]


def answers_without(
    model: Model,
    layer: Layer,
    pixels: np.ndarray,
    units: Sequence[int],
    seen: int,
    shares: Callable[[torch.Tensor], torch.Tensor | None],
) -> dict[int, Answer]:
    """Ask a network about an image again, with each of some units switched off in turn.

    Parameters
    ----------
    model, layer : Model, Layer
        The network, and whose units.
    pixels : numpy.ndarray
        (C, H, W) uint8.
    units : sequence of int
        Their numbers.
    seen : int
        The class that it predicts with all units.
    shares : callable
        Makes probabilities of scores (N, K), or None.

    Returns
    -------
    dict of int to (int, float or None, float or None)
        By unit: the class then predicted, its probability, and that of `seen`. Empty where the
        layer's values cannot be changed, or the network's output does not predict `seen`.
    """
    rows: list[int | None] = [None, *units]
    size = model.batch or _AT_ONCE
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    try:
        scores = torch.cat([_scores(model, layer, pixels, part) for part in parts])  # (1 + n, K)
    except CnnlensError:
        return {}
    if int(scores[0].argmax()) != seen:
        return {}
    probable, found = shares(scores), dict[int, Answer]()
    for row, unit in enumerate(units, 1):
        number = int(scores[row].argmax())
        new, kept = (None if probable is None else float(probable[row, n]) for n in (number, seen))
        found[unit] = number, new, kept
    return found


def _scores(
    model: Model, layer: Layer, pixels: np.ndarray, units: Sequence[int | None]
) -> torch.Tensor:
    """Scores (len(units), K) of an image, with one unit of the layer off in each row."""
    count = model.batch or len(units)
    x = model.preprocess.normalize(torch.from_numpy(pixels)[None].to(model.device))
    with model.in_use():
        output = run_without(model.net, x.repeat(count, 1, 1, 1), layer.place, units)
    return class_scores(output, count, model.head)[: len(units)].cpu()

"""What of one unit would have turned an image: sent it to the other side of a split, where that is
computed, or to another prediction, where the network is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_scores
from cnnlens.model.hooks import run_without
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model

_AT_ONCE = 8  # copies of the image that go through together

Answer = tuple[int, float | None, float | None]


@dataclass(frozen=True)
class Turn:
    """What of one unit would have sent an image to the other side of a split.

    Attributes
    ----------
    unit : int
        Its number.
    scale : float
        Where its map becomes so many times what it is, both sides are equally near: beyond that,
        the image goes to the other one. Above 1 it had to answer more, below 1 less.
    """

    unit: int
    scale: float


def turning_scales(near: np.ndarray, far: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Find how strong each unit's map would have to be for an image to be as near to `far`.

    Parameters
    ----------
    near, far : numpy.ndarray
        (C·H·W,) the vectors of both sides.
    image : numpy.ndarray
        (C, H, W).

    Returns
    -------
    numpy.ndarray
        (C,) float64: multiples of what each unit's map is; NaN where none from 0 on does. The
        image's length counts for both sides alike, so that the cosines' difference is linear in
        the multiple.
    """
    flat, units = image.astype(np.float64), len(image)
    sides = [side.astype(np.float64).reshape(image.shape) for side in (near, far)]
    lengths = [np.sqrt((side * side).sum()) for side in sides]
    if not all(lengths):
        return np.full(units, np.nan)
    one, other = ((s * flat).sum((1, 2)) / n for s, n in zip(sides, lengths, strict=True))
    lead = one - other  # (C,) what each unit adds to being nearer to `near`
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = 1 - lead.sum() / lead
    return np.where(np.isfinite(scales) & (scales >= 0), scales, np.nan)


def turns(
    near: np.ndarray, far: np.ndarray, image: np.ndarray, critical: int | None
) -> tuple[Turn | None, Turn | None]:
    """Say what of the critical unit, and what of the easiest one, would have turned an image."""
    scales = turning_scales(near, far, image)
    return _turn(scales, critical), _turn(scales, _easiest(scales))


def _easiest(scales: np.ndarray) -> int | None:
    change = np.abs(scales - 1)
    return None if np.isnan(change).all() else int(np.nanargmin(change))


def _turn(scales: np.ndarray, unit: int | None) -> Turn | None:
    if unit is None or np.isnan(scales[unit]):
        return None
    return Turn(unit, float(scales[unit]))


def answers_without(
    model: Model,
    layer: Layer,
    pixels: np.ndarray,
    units: Sequence[int],
    seen: int,
    read: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]],
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
    read : callable
        Makes scores (N, K) of the network's output, and probabilities or None.

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
        output = torch.cat([_output(model, layer, pixels, part) for part in parts])  # (1 + n, K)
    except CnnlensError:
        return {}
    scores, probable = read(output)
    if int(scores[0].argmax()) != seen:
        return {}
    found: dict[int, Answer] = {}
    for row, unit in enumerate(units, 1):
        number = int(scores[row].argmax())
        new, kept = (None if probable is None else float(probable[row, n]) for n in (number, seen))
        found[unit] = number, new, kept
    return found


def _output(
    model: Model, layer: Layer, pixels: np.ndarray, units: Sequence[int | None]
) -> torch.Tensor:
    """What is returned for an image, (len(units), K), with one unit of the layer off in each."""
    count = model.batch or len(units)
    x = model.preprocess.normalize(torch.from_numpy(pixels)[None].to(model.device))
    with model.in_use():
        output = run_without(model.net, x.repeat(count, 1, 1, 1), layer.place, units)
    return class_scores(output, count, model.head)[: len(units)].detach().cpu()

"""What of one unit would have sent an image to the other side of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

"""A generator's code and losses once more, slowly: number by number, as the papers print them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def code_step(
    z: Sequence[float], gradient: Sequence[float], scale: Sequence[float],
    bottom: Sequence[float], top: Sequence[float], rate: float, decay: float,
) -> list[float]:  # fmt: skip
    """z ← clip(decay · (z + step)), each unit's step in shares of its scale."""
    uphill = [g * s for g, s in zip(gradient, scale, strict=True)]  # by shares
    size = math.sqrt(sum(u * u for u in uphill) / len(uphill))
    found = []
    for value, step, unit, low, high in zip(z, uphill, scale, bottom, top, strict=True):
        moved = decay * (value + rate * unit * step / size)
        found.append(min(max(moved, low), high))
    return found


def squared(made: np.ndarray, wanted: np.ndarray, spread: float) -> float:
    total = 0.0
    for a, b in zip(made.ravel(), wanted.ravel(), strict=True):
        total += (float(a) - float(b)) ** 2
    return total / made.size / spread


def generators_loss(scores: Sequence[float]) -> float:
    """−log σ(D), the mean."""
    return -sum(math.log(1 / (1 + math.exp(-s))) for s in scores) / len(scores)


def critics_loss(photos: Sequence[float], made: Sequence[float]) -> float:
    """−log σ(D(x)) − log(1 − σ(D(G))), the means."""
    right = -sum(math.log(1 / (1 + math.exp(-s))) for s in photos) / len(photos)
    return right - sum(math.log(1 - 1 / (1 + math.exp(-s))) for s in made) / len(made)


def nearest(one: np.ndarray, others: np.ndarray) -> tuple[int, float]:
    distances = []
    for other in others:
        pairs = zip(one.ravel(), other.ravel(), strict=True)
        distances.append(math.sqrt(np.mean([(a - b) ** 2 for a, b in pairs])))
    return int(np.argmin(distances)), min(distances)

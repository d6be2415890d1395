"""COCO's masks, point by point: slow, and as literal as the COCO API's rule can be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

FINER = 5


def polygon(ring: Sequence[float], height: int, width: int) -> np.ndarray:
    """Fill a polygon x, y, x, y, …: (height, width) bool.

    The outline is walked on the finer grid. Where a step goes from one of its columns to the next,
    and the border between the two is the middle of a pixel's column, all pixels of that column from
    the crossing's height down to the end of the image, and all later columns, change.
    """
    corners = [
        (int(FINER * x + 0.5), int(FINER * y + 0.5))
        for x, y in zip(ring[::2], ring[1::2], strict=True)
    ]
    walk: list[tuple[int, int]] = []
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        walk += _edge(start, end)
    changed = [0] * (height * width)  # column after column
    for (u0, v0), (u1, v1) in pairwise(walk):
        if u0 == u1:
            continue
        x = (min(u0, u1 - 1 if u1 > u0 else u1) + 0.5) / FINER - 0.5
        y = math.ceil(min(max((min(v0, v1) + 0.5) / FINER - 0.5, 0), height))
        if x == math.floor(x) and 0 <= x <= width - 1:
            for place in range(int(x) * height + y, height * width):
                changed[place] ^= 1
    return np.array(changed, bool).reshape(width, height).T


def _edge(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Points of an edge, in its direction; rounded as seen from its left, or upper, end."""
    dx, dy = abs(end[0] - start[0]), abs(end[1] - start[1])
    along = 0 if dx >= dy else 1
    low, high = sorted((start, end), key=lambda p: p[along])
    points = []
    for step in range(max(dx, dy) + 1):
        slope = (high[1 - along] - low[1 - along]) / max(dx, dy) if max(dx, dy) else 0.0
        across = int(low[1 - along] + slope * step + 0.5)
        points.append((low[0] + step, across) if along == 0 else (across, low[1] + step))
    return points if low == start else points[::-1]


def run_lengths(mask: np.ndarray) -> list[int]:
    """Count runs of off and on, column after column, beginning with off."""
    runs, on = [0], False
    for value in mask.T.ravel().tolist():
        if value != on:
            runs.append(0)
            on = not on
        runs[-1] += 1
    return runs


def compressed(runs: Sequence[int]) -> str:
    """Write run lengths as COCO's text."""
    text = ""
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + (32 if more else 0))
    return text

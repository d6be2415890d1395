"""Eq. (22) of the survey taken literally, with relative sums: loops over channels and positions."""

from __future__ import annotations

import numpy as np


def gram(maps: np.ndarray) -> np.ndarray:
    """Gram matrix (C, C) over C·H·W of maps (C, H, W), entry by entry."""
    channels, height, width = maps.shape
    found = np.zeros((channels, channels))
    for i in range(channels):
        for j in range(channels):
            for y in range(height):
                for x in range(width):
                    found[i, j] += float(maps[i, y, x]) * float(maps[j, y, x])
    return found / (channels * height * width)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """‖found − wanted‖²/‖wanted‖²."""
    above = below = 0.0
    for a, b in zip(found.ravel().tolist(), wanted.ravel().tolist(), strict=True):
        above += (a - b) ** 2
        below += b**2
    return above / below


def losses(
    maps: dict[str, np.ndarray],
    content: dict[str, np.ndarray],
    style: dict[str, np.ndarray],
    content_layers: list[str],
    style_layers: list[str],
) -> tuple[float, float]:
    """Content and style loss of a picture's maps, by layer, against those of its two aims."""
    contents = [relative(maps[name], content[name]) for name in content_layers]
    styles = [relative(gram(maps[name]), gram(style[name])) for name in style_layers]
    return sum(contents) / len(contents), sum(styles) / len(styles)

"""An up-convolution as Dosovitskiy and Brox describe it, one value at a time."""

from __future__ import annotations

import numpy as np


def up_convolution(maps: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Replace each value of `maps` (C, H, W) by a 2×2 block with it at the top left and zeros
    elsewhere, then convolve with `kernel` (K, C, 5, 5), zeros around: (K, 2H, 2W).
    """
    channels, height, width = maps.shape
    blocks = np.zeros((channels, 2 * height, 2 * width))
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                blocks[c, 2 * y, 2 * x] = maps[c, y, x]
    found = np.zeros((len(kernel), 2 * height, 2 * width))
    for k, y, x in np.ndindex(found.shape):
        total = float(bias[k])
        for c, v, u in np.ndindex(kernel.shape[1:]):
            row, column = y + v - 2, x + u - 2
            if 0 <= row < 2 * height and 0 <= column < 2 * width:
                total += kernel[k, c, v, u] * blocks[c, row, column]
        found[k, y, x] = total
    return found

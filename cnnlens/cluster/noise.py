"""Random images of several kinds, from white noise to plain colours (Dai 2020, §2.5)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NoiseMaker = Callable[[np.random.Generator, tuple[int, int, int, int]], np.ndarray]


def _smooth(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Noise whose frequencies fall off as natural images' do, 1/f."""
    _, _, height, width = shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency
    values = np.fft.irfft2(spectrum, s=(height, width))
    spread = values.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(0.5 + 0.25 * (values - values.mean((1, 2, 3), keepdims=True)) / spread)


def _coarse(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Squares of random colours, eight to a side."""
    count, channels, height, width = shape
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.asarray(rng.random((count, channels, 8, 8))[:, :, rows][:, :, :, columns])


# each makes images (N, C, H, W), in [0, 1] once they are clipped
NOISES: dict[str, NoiseMaker] = {
    "uniform noise": lambda rng, shape: rng.random(shape),
    "gaussian noise": lambda rng, shape: 0.5 + 0.25 * rng.standard_normal(shape),
    "1/f noise": _smooth,
    "coarse noise": _coarse,
    "plain colours": lambda rng, shape: np.broadcast_to(rng.random((*shape[:2], 1, 1)), shape),
}


def noise_images(kind: str, shape: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """Make random images of a kind of `NOISES`, (N, C, H, W) uint8."""
    rng = np.random.default_rng([seed, list(NOISES).index(kind)])
    return np.rint(255 * np.clip(NOISES[kind](rng, shape), 0, 1)).astype(np.uint8)

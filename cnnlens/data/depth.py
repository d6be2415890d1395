"""Values of pictures deeper than 8 bits: which of them become black and white.

A detector of 12 bits writes files of 16, so that a file's type says little of its values: the
range is the data set's (see `cnnlens.data.survey`), the same for all files of one type.
"""

from __future__ import annotations

import numpy as np

from cnnlens.data.ranges import Bounds

_BAND = 256  # rows
_MOST_BITS = 16
_ENDLESS = 1e30  # beyond it lie marks of missing values


def sample_type(values: np.ndarray) -> str:
    """Name the type of a picture's samples, (H, W) or (H, W, C): ``int32``, ``uint16×13``."""
    bands = values.shape[2] if values.ndim == 3 else 1
    return values.dtype.name + (f"×{bands}" if bands > 1 else "")


def present(values: np.ndarray, missing: float | None = None) -> np.ndarray:
    """Return the values without those that mark missing ones."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values) & (np.abs(values) < _ENDLESS)]
    return values if missing is None else values[values != missing]


def extent(values: np.ndarray) -> Bounds | None:
    """Return the lowest and the highest of some values; None where there are none."""
    return (float(values.min()), float(values.max())) if values.size else None


def full_range(low: float, high: float, is_float: bool) -> Bounds:
    """Choose the bounds for values that run from `low` to `high`.

    Numbers from 0 on are taken to have as many bits as the highest needs, 8 at least: 0 to 4095 for
    12 bits. Floats up to 1 run to 1. What has a sign, or more than 16 bits, runs as it does.
    """
    if low < 0:
        return low, high
    if is_float and high <= 1:
        return 0.0, 1.0
    for bits in range(8, _MOST_BITS + 1):
        if high <= 2**bits - 1:
            return 0.0, float(2**bits - 1)
    return 0.0, high


def eight_bits(values: np.ndarray, bounds: Bounds | None) -> np.ndarray:
    """Bring samples (H, W) or (H, W, C) of any type to uint8.

    Whole numbers of 9 to 15 bits lose their lowest bits, as a picture of 8 bits has lost them;
    everything else is rounded. Without bounds: those of the type's own.
    """
    low, high = _usual(values) if bounds is None else bounds
    bits = int(high + 1).bit_length() - 1
    exact = values.dtype.kind in "iu" and low == 0 and high == 2**bits - 1 and 8 <= bits < 16
    scaled = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _BAND):  # in bands: float64 of a large picture is gigabytes
        band = np.nan_to_num(values[first : first + _BAND].astype(np.float64), nan=low)
        band = np.clip(band, low, high) - low
        step = band // 2 ** (bits - 8) if exact else np.rint(band * (255 / ((high - low) or 1.0)))
        scaled[first : first + _BAND] = step
    return scaled


def unit_range(values: np.ndarray, bounds: Bounds | None) -> np.ndarray:
    """Bring samples of any type to float32 in [0, 1]."""
    low, high = _usual(values) if bounds is None else bounds
    numbers = np.nan_to_num(values.astype(np.float32), nan=low)
    return np.clip((numbers - low) / ((high - low) or 1.0), 0, 1).astype(np.float32)


def _usual(values: np.ndarray) -> Bounds:
    """The range that a file's type alone speaks for."""
    if values.dtype == np.uint8:
        return 0.0, 255.0
    top = float(values.max(initial=0, where=np.isfinite(values)))
    if values.dtype.kind != "f":
        return 0.0, 65535.0 if top <= 65535 else 2.0**31 - 1
    return 0.0, next((full for full in (1.0, 255.0, 65535.0) if top <= full), top)

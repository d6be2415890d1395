"""Images that were given in memory and that no picture of 8 bits holds: planes in a ``.npy`` file.

(C, H, W) float32 in units of [0, 1], as the network takes them; what was normalised already may
lie beyond.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.decode import DamagedImage, flat
from cnnlens.data.unread import patiently

ENDING = ".npy"


def planes_bytes(planes: np.ndarray) -> bytes:
    """Return the content of a file of planes (C, H, W) float32."""
    buffer = io.BytesIO()
    np.save(buffer, planes.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def read_planes(path: Path, channels: int | None = None) -> np.ndarray | None:
    """Read planes (C, H, W) float32; None of a file of another kind.

    Raises
    ------
    DamagedImage
        When they cannot be read, or are not as many as the `channels` of a network.
    """
    if path.suffix != ENDING:
        return None
    try:
        planes = patiently(path, lambda: np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise DamagedImage(path, "missing") from None
    except (OSError, ValueError, EOFError) as error:
        raise DamagedImage(path, f"damaged ({error})") from error
    if planes.dtype != np.float32 or planes.ndim != 3:
        raise DamagedImage(path, f"{planes.dtype} {planes.shape}, not float32 (C, H, W)")
    if channels is not None and len(planes) != channels:
        raise DamagedImage(path, f"{len(planes)} bands, and the network takes {channels} channels")
    return np.asarray(planes)


def planes_picture(planes: np.ndarray, mode: str) -> Image.Image:
    """Show planes (C, H, W) as a picture of 8 bits: of more than three the first three."""
    pixels = np.rint(planes.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)  # (H, W, C)
    pixels = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    return flat(Image.fromarray(np.ascontiguousarray(pixels)), mode)

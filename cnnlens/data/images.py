"""Image files, from a folder to batches of pixels: the door to decode, folder and batches."""

from __future__ import annotations

from cnnlens.data.batches import TOLERATED, Batch, batches, check_skipped
from cnnlens.data.decode import ENDINGS, DamagedImage, load_image
from cnnlens.data.folder import open_folder

__all__ = [
    "ENDINGS",
    "TOLERATED",
    "Batch",
    "DamagedImage",
    "batches",
    "check_skipped",
    "load_image",
    "open_folder",
]

"""All images of some data sets, decoded once: in memory, or in a file where they fill it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.batches import Skipped, batches, check_skipped
from cnnlens.data.dataset import ImageSet
from cnnlens.progress import Step

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.model.preprocess import Preprocess

IN_MEMORY = 1 << 30  # bytes; more lie in a file

Chosen = tuple[ImageSet, Sequence[int] | None]  # a data set, and which of its images; None: all


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images as a network takes them.

    Attributes
    ----------
    pixels : torch.Tensor
        (N, C, H, W) uint8, or float32 in units of [0, 1].
    sources, positions : numpy.ndarray
        (N,) int64, the number of the data set that each is of, and its position there.
    skipped : list of (path, reason)
        Images that could not be read.
    """

    pixels: Tensor
    sources: np.ndarray
    positions: np.ndarray
    skipped: list[Skipped]


def decoded_steps(
    sets: Sequence[Chosen], preprocess: Preprocess, *, batch_size: int = 32, workers: int = 4
) -> Generator[Step, None, Decoded]:
    """Decode images of data sets, one set after the other.

    Raises
    ------
    CnnlensError
        When too many of them cannot be read.
    """
    import torch

    orders = [range(len(one.paths)) if some is None else some for one, some in sets]
    total = sum(map(len, orders))
    floats = any(one.pixel_type(preprocess) == "float32" for one, _ in sets)
    channels = max(one.shape(preprocess)[0] for one, _ in sets)  # one alone may have bands
    shape = (total, channels, *preprocess.size)
    pixels = allocate(shape, np.float32 if floats else np.uint8)
    sources, positions = np.empty(total, np.int64), np.empty(total, np.int64)
    skipped: list[Skipped] = []
    done = seen = 0
    for number, ((one, _), order) in enumerate(zip(sets, orders, strict=True)):
        for batch in batches(
            one, preprocess, batch_size=batch_size, workers=workers, indices=order
        ):
            found = batch.pixels.numpy()
            rows = slice(done, done := done + len(found))
            pixels[rows] = _as_floats(found, channels) if floats else found
            sources[rows], positions[rows] = number, batch.indices
            skipped += batch.skipped
            yield Step(seen + batch.next, total, "reading images")
        seen += len(order)
    check_skipped(skipped, total)
    return Decoded(torch.from_numpy(pixels[:done]), sources[:done], positions[:done], skipped)


def together(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images (C, H, W) that were read one by one into one array (N, C, H, W).

    Where some are uint8 and others float32 in units of [0, 1], or some have fewer channels, all
    become float32, and channels are repeated, as `Preprocess.normalize` repeats them.
    """
    if len({(image.dtype, image.shape) for image in images}) == 1:
        return np.stack(images)
    channels = max(map(len, images))
    return np.stack([_as_floats(image, channels) for image in images])


def _as_floats(images: np.ndarray, channels: int) -> np.ndarray:
    planes = images / np.float32(255) if images.dtype == np.uint8 else images  # (…, c, H, W)
    copies = -(-channels // planes.shape[-3])
    return np.concatenate([planes] * copies, axis=-3)[..., :channels, :, :]


def allocate(
    shape: tuple[int, ...], dtype: type[np.generic], in_memory: int = IN_MEMORY
) -> np.ndarray:
    """Make room for an array: of more than so many bytes in a file without a name."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= in_memory:
        return np.empty(shape, dtype)
    file = tempfile.TemporaryFile(prefix="cnnlens-pixels-")  # noqa: SIM115  (lives with the array)
    return np.memmap(file, dtype, "w+", shape=shape)

"""One run of a network over a data set: decoded ahead, checked, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.activations.forward import Forward
from cnnlens.data.dataset import ImageSet
from cnnlens.data.images import Batch, batches, check_skipped
from cnnlens.errors import CnnlensError


@dataclass(frozen=True)
class Pass:
    """A batch, each layer's maps (B, C, H, W) float32, and the logits (B, K) where asked for."""

    batch: Batch
    maps: list[np.ndarray]
    logits: np.ndarray | None


def passes(
    forward: Forward,
    images: ImageSet,
    *,
    batch_size: int,
    workers: int,
    start: int = 0,
    skipped: Sequence[tuple[str, str]] = (),
) -> Iterator[Pass]:
    """Run a network over the images from position `start` on.

    Parameters
    ----------
    forward : Forward
        The network and its layers.
    images : ImageSet
        The data.
    batch_size, workers : int
        Images per batch; threads that decode.
    start : int
        Where to go on.
    skipped : sequence of (path, reason)
        Images before `start` that were damaged.

    Raises
    ------
    CnnlensError
        When more than 5 % of all images are damaged, or activations are not finite.
    """
    damaged = list(skipped)
    for batch in batches(
        images, forward.model.preprocess, batch_size=batch_size, workers=workers, start=start
    ):
        if batch.skipped:
            damaged += batch.skipped
            check_skipped(damaged, len(images.paths))
        if len(batch.indices) == 0:  # all that was left was damaged
            continue
        maps, logits = forward(batch.pixels)
        for layer, values in zip(forward.layers, maps, strict=True):
            if values.shape[1:] != layer.shape:
                raise CnnlensError(f"layer '{layer.name}' changes its output size between images")
            _check_finite(layer.name, values, [images.paths[i] for i in batch.indices])
        yield Pass(batch, maps, logits)


def _check_finite(layer: str, values: np.ndarray, paths: list[str]) -> None:
    if np.isfinite(values.sum(dtype=np.float64)):  # one pass; a single bad value spoils the sum
        return
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        raise CnnlensError(
            f"layer '{layer}' is not finite on {paths[int(finite.argmin())]}",
            "the network overflows there: check its weights, and --mean and --std",
        )

"""Passes of a network over images: `Forward` reads layers for a batch of pixels, in whatever
batches the memory allows; `passes` runs it over a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnlens.data.batches import Batch, batches, check_classes, check_skipped
from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_scores
from cnnlens.model.device import in_batches
from cnnlens.model.hooks import read_and_run
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.streams import fetched, overlaps, sent
from cnnlens.model.trace import Place

Waiting = Callable[[], tuple[list[np.ndarray], np.ndarray | None]]  # maps and logits, of a pass


@dataclass
class Forward:
    """Reads layers of a model for batches of pixels.

    Attributes
    ----------
    model : Model
        The network.
    layers : sequence of Layer
        What to read; the forward pass stops at the deepest, unless `logits`.
    logits : bool
        Run to the end and return the network's output too.
    limit : int
        The largest batch that goes through at once; halves itself when memory runs out.
    scores_at : Place or None
        Where the logits are instead of in its output (see `model.ending.before_sigmoid`).
    """

    model: Model
    layers: Sequence[Layer]
    logits: bool
    limit: int
    scores_at: Place | None = None

    def __post_init__(self) -> None:
        self.limit = self.model.batch or self.limit

    def __call__(self, pixels: Tensor) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return each layer's maps (N, C, H, W) and the logits (N, K), as float32 arrays.

        Parameters
        ----------
        pixels : torch.Tensor
            (N, C, H, W), uint8, on any device.
        """
        return self.begin(pixels)()

    def begin(self, pixels: Tensor) -> Waiting:
        """Start a pass; what is returned waits for its results."""
        with self.model.in_use():
            parts, self.limit = in_batches(
                len(pixels), self.limit, lambda rows: self._run(pixels[rows]), self.model
            )
        return lambda: self._joined([wait() for wait in parts])

    def _joined(self, parts: list[list[np.ndarray]]) -> tuple[list[np.ndarray], np.ndarray | None]:
        found = [np.concatenate(p) if len(p) > 1 else p[0] for p in zip(*parts, strict=True)]
        return (found[:-1], found[-1]) if self.logits else (found, None)

    def _run(self, pixels: Tensor) -> Callable[[], list[np.ndarray]]:
        count = len(pixels)
        if self.model.batch and count < self.model.batch:  # a fixed batch is filled up
            filler = pixels[-1:].expand(self.model.batch - count, -1, -1, -1)
            pixels = torch.cat([pixels, filler])
        x = self.model.laid_out(self.model.preprocess.normalize(sent(pixels, self.model.device)))
        places = [layer.place for layer in self.layers]
        places += [self.scores_at] if self.scores_at else []
        # not inference mode: what a network caches must serve gradients later
        with torch.no_grad(), self.model.autocast():
            values, output = read_and_run(self.model.net, x, places, stop=not self.logits)
        if self.scores_at:
            values = [*values[:-1], values[-1].reshape(len(x), -1).float()]
        elif self.logits:
            values = [*values, class_scores(output, len(x), self.model.head)]
        # its code may turn gradients on
        return fetched([value[:count].detach() for value in values])


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
    blocks: Sequence[range] | None = None,
    skipped: Sequence[tuple[str, str]] = (),
) -> Iterator[Pass]:
    """Run a network over the images, in their order.

    Parameters
    ----------
    forward : Forward
        The network and its layers.
    images : ImageSet
        The data.
    batch_size, workers : int
        Images per batch; who decodes: processes beside a GPU, else threads.
    blocks : sequence of range, optional
        Positions to run it over, block by block; left out: all.
    skipped : sequence of (path, reason)
        Images of other blocks that were damaged.

    Raises
    ------
    CnnlensError
        When more than 5 % of all images are damaged, or activations are not finite.
    """
    begun: tuple[Batch, Waiting] | None = None  # on a device that goes on while results come back
    ahead = overlaps(forward.model.device)
    for batch in _read(forward, images, batch_size, workers, blocks, skipped):
        now = batch, forward.begin(batch.pixels) if len(batch.indices) else _nothing(forward)
        if begun is not None:
            yield _finished(forward, images, *begun)
        begun = now if ahead else None
        if not ahead:
            yield _finished(forward, images, *now)
    if begun is not None:
        yield _finished(forward, images, *begun)


def _read(
    forward: Forward,
    images: ImageSet,
    batch_size: int,
    workers: int,
    blocks: Sequence[range] | None,
    skipped: Sequence[tuple[str, str]],
) -> Iterator[Batch]:
    """Read batches, empty ones where a block ends with damaged images; too many of these raise."""
    damaged = list(skipped)
    for batch in batches(
        images, forward.model.preprocess, batch_size=batch_size, workers=workers, blocks=blocks,
        apart=overlaps(forward.model.device),
    ):  # fmt: skip
        if batch.skipped:
            damaged += batch.skipped
            check_skipped(damaged, len(images.paths))
            check_classes(images, damaged)
        if len(batch.indices) or batch.ends:
            yield batch


def _nothing(forward: Forward) -> Waiting:
    """Return what comes of no images."""
    none = [np.empty((0, *layer.shape), np.float32) for layer in forward.layers]
    return lambda: (none, None)


def _finished(forward: Forward, images: ImageSet, batch: Batch, wait: Waiting) -> Pass:
    """Wait for a batch's results, and check them."""
    maps, logits = wait()
    for layer, values in zip(forward.layers, maps, strict=True):
        if values.shape[1:] != layer.shape:
            raise CnnlensError(f"layer '{layer.name}' changes its output size between images")
        _check_finite(layer.name, values, [images.paths[i] for i in batch.indices])
    return Pass(batch, maps, logits)


def _check_finite(layer: str, values: np.ndarray, paths: list[str]) -> None:
    if np.isfinite(values.sum(dtype=np.float64)):  # one pass; a single bad value spoils the sum
        return
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        raise CnnlensError(
            f"layer '{layer}' is not finite on {paths[int(finite.argmin())]}",
            "the network overflows there: check its weights, and --mean and --std",
        )

"""Where activations come from: stores, or a network that is run over images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from cnnlens.activations.chunks import block_ranges, block_size, even_batch
from cnnlens.activations.passes import Forward, passes
from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.distributed import ALL, Share
from cnnlens.errors import CnnlensError
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model
from cnnlens.progress import Step
from cnnlens.settings import RunSettings

Observer = Callable[[np.ndarray, np.ndarray], None]  # positions (B,), maps (B, C, H, W)


class Source(Protocol):
    """Activations of some layers, to be looked at as often as needed.

    Attributes
    ----------
    shapes : sequence of (int, int, int)
        (C, H, W) of each layer.
    limits : sequence of int
        The most images each layer can have.
    skipped : sequence of (str, str)
        Images that could not be read, with the reason, once a sweep is over.
    """

    shapes: Sequence[tuple[int, int, int]]
    limits: Sequence[int]

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """See above."""
        ...

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show each layer's observer all batches, in the data's order."""
        ...


class StoreSource:
    """Activations that stand in stores.

    Parameters
    ----------
    stores : sequence of Store
        One per layer.
    alike : bool
        Whether all have to be of the same images, so that what is listed of one holds for all.

    Raises
    ------
    CnnlensError
        When they are not: an image was damaged while one was made, and whole at another time.
    """

    def __init__(self, stores: Sequence[Store], alike: bool = True) -> None:
        if alike:
            _check_alike(stores)
        self.stores = stores
        self.limits: Sequence[int] = [store.shape[0] for store in stores]
        self.total = sum(self.limits) // len(stores)  # images, as people count them
        self.shapes: Sequence[tuple[int, int, int]] = [store.shape[1:] for store in stores]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Damaged images, which have no rows."""
        return [(p, r) for p, r in self.stores[0].skipped]

    def most(self, share: Share) -> Sequence[int]:
        """Say how many images of each layer a share has at most."""
        return [len(share.run_of(range(limit))) for limit in self.limits]

    def sweep(self, observers: Sequence[Observer], share: Share = ALL) -> Iterator[Step]:
        """Show every observer the batches of its layer, in the data's order: all, or a share."""
        done = 0
        for store, observe in zip(self.stores, observers, strict=True):
            for positions, maps in _batches(store, share):
                observe(positions, maps)
                done += len(positions)
                yield Step(done // len(self.stores), self.total)


def _check_alike(stores: Sequence[Store]) -> None:
    first, *others = ({path for path, _ in store.skipped} for store in stores)
    for store, skipped in zip(stores[1:], others, strict=True):
        if skipped != first:
            raise CnnlensError(
                f"{stores[0].path} and {store.path} are not of the same images: only one of them "
                f"lacks {min(skipped ^ first)}",
                "name both layers, with --force, which makes the stores anew",
            )


def _batches(store: Store, share: Share) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions and maps of a share of the rows."""
    mine = np.zeros(len(store), bool)
    mine[share.run_of(range(len(store)))] = True
    positions = store.positions
    for rows, maps in store.blocks(mine):
        kept = mine[rows]
        yield positions[rows[kept]], maps if kept.all() else maps[kept]


class ModelSource:
    """Activations straight from the model: every sweep runs it over all images, nothing is kept.

    Its batches are those that a store is made of, and so are the values.

    Parameters
    ----------
    model, images, layers, run
        As in `extract`.
    """

    def __init__(
        self, model: Model, images: ImageSet, layers: Sequence[Layer], run: RunSettings
    ) -> None:
        model = model.computing(run.precision)
        self._forward = Forward(model, layers, logits=False, limit=even_batch(run.batch_size))
        self._images, self._run = images, run
        self._blocks = block_ranges(len(images.paths), block_size(self._forward.limit))
        self.total = len(images.paths)
        self.limits: Sequence[int] = [self.total] * len(layers)
        self.shapes: Sequence[tuple[int, int, int]] = [layer.shape for layer in layers]
        self.skipped: list[tuple[str, str]] = []

    def most(self, share: Share) -> Sequence[int]:
        """Say how many images of each layer a share has at most."""
        return [sum(map(len, share.run_of(self._blocks)))] * len(self.limits)

    def sweep(self, observers: Sequence[Observer], share: Share = ALL) -> Iterator[Step]:
        """Show every observer the batches of its layer, in one forward pass for all layers: all,
        or those of a share of the blocks.
        """
        self.skipped = []
        with self._forward.model.in_use():
            for one in passes(
                self._forward,
                self._images,
                batch_size=self._forward.limit,
                workers=self._run.workers,
                blocks=share.run_of(self._blocks),
            ):
                self.skipped += one.batch.skipped
                for observe, values in zip(observers, one.maps, strict=True):
                    observe(one.batch.indices, values)
                yield Step(one.batch.next, self.total, limit=self._forward.limit)


def probe(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """Read the last layer on an image of noise; say what is assumed where that is defined.

    Raises
    ------
    CnnlensError
        When it cannot be read, or is not finite.
    """
    layer = layers().resolve("last")
    size = (1, model.preprocess.channels, *model.preprocess.size)
    noise = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0)).byte()
    (maps,), _ = Forward(model, [layer], logits=False, limit=1)(noise)  # (1, C, H, W)
    if not np.isfinite(maps).all():
        raise CnnlensError(f"{layer.name} is not finite on noise", "check the weights")
    return [f"maps of {layer.name} are 1×1, without places"] if maps.shape[2:] == (1, 1) else []

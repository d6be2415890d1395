"""Where activations come from: stores, or the model itself, run anew for every sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from cnnlens.activations.forward import Forward, passes
from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.model.layers import Layer
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
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores
        self.limits: Sequence[int] = [store.shape[0] for store in stores]
        self.shapes: Sequence[tuple[int, int, int]] = [store.shape[1:] for store in stores]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Damaged images, which have no rows."""
        return [(p, r) for p, r in self.stores[0].skipped]

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show every observer all batches of its layer, in the data's order."""
        total = sum(self.limits)
        done = 0
        for store, observe in zip(self.stores, observers, strict=True):
            for positions, maps in store.batches():
                observe(positions, maps)
                done += len(positions)
                yield Step(done, total)


class ModelSource:
    """Activations straight from the model: every sweep runs it over all images, nothing is kept.

    Parameters
    ----------
    model, images, layers, run
        As in `extract`.
    """

    def __init__(
        self, model: Model, images: ImageSet, layers: Sequence[Layer], run: RunSettings
    ) -> None:
        self._forward = Forward(model, layers, logits=False, limit=run.batch_size)
        self._images, self._run = images, run
        self._size = self._forward.limit
        self.limits: Sequence[int] = [len(images.paths)] * len(layers)
        self.shapes: Sequence[tuple[int, int, int]] = [layer.shape for layer in layers]
        self.skipped: list[tuple[str, str]] = []

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show every observer all batches of its layer, in one forward pass for all layers."""
        total = len(self._images.paths)
        self.skipped = []
        with self._forward.model.in_use():
            for one in passes(
                self._forward, self._images, batch_size=self._size, workers=self._run.workers
            ):
                self.skipped += one.batch.skipped
                for observe, values in zip(observers, one.maps, strict=True):
                    observe(one.batch.indices, values)
                yield Step(one.batch.next, total, limit=self._forward.limit)

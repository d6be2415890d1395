"""One sweep over a source, shared by the processes of a run: each looks at rows of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Protocol, runtime_checkable

import numpy as np

from cnnlens.activations.in_turn import SourcesInTurn
from cnnlens.activations.sources import ModelSource, Observer, StoreSource
from cnnlens.data.batches import Skipped, check_classes, check_skipped
from cnnlens.data.dataset import ImageSet
from cnnlens.distributed import Share
from cnnlens.progress import Step

_SWEEPS = count()  # all processes count the same ones


@runtime_checkable
class SharedObserver(Protocol):
    """What looks at a share of the rows, and can be put together with what looked at the others."""

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in images at `positions` (B,) with maps (B, C, H, W)."""
        ...

    def put_together(self, share: Share) -> None:
        """Go on as if it had seen all rows; earlier processes saw earlier rows."""
        ...


class SharedSource:
    """Activations of which every process of a run shows its observers a part, a run of rows each.

    Parts follow each other in the order of the processes. A sweep ends in all processes at once,
    with observers that have seen all rows as far as `put_together` says.

    Parameters
    ----------
    source : ModelSource, StoreSource or SourcesInTurn
        The activations, the same in every process.
    images : ImageSet
        The data.
    share : Share
        This process's, of several that wait for each other.

    Attributes
    ----------
    held : sequence of int
        The most images of each layer that this process is to have tables of: the first one of all,
        another of those that it looks at.
    stored : bool
        Whether the activations stand in stores.
    """

    def __init__(
        self, source: ModelSource | StoreSource | SourcesInTurn, images: ImageSet, share: Share
    ) -> None:
        if not share.joined:
            raise ValueError(f"nobody waits for the other parts of share {share}")
        self._source, self._images, self.share = source, images, share
        self.limits, self.shapes = source.limits, source.shapes
        self.held = source.limits if share.leads else source.most(share)
        self.stored = isinstance(source, StoreSource)
        self.skipped: list[Skipped] = []

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show every observer this share's batches of its layer; then put all shares together.

        Raises
        ------
        CnnlensError
            When too many images are damaged, over all shares, or another process has ended.
        TypeError
            When an observer cannot be put together.
        """
        together = [one for one in observers if isinstance(one, SharedObserver)]
        if len(together) < len(observers):
            raise TypeError("what looks at a part of the rows must be put together")
        name = f"sweep {next(_SWEEPS)}"
        step = Step(0, self._source.total)
        before = 0
        for step in self._source.sweep(observers, self.share):
            yield replace(step, done=self.share.count(name, step.done - before))
            before = step.done
        for _ in self.share.wait():
            yield replace(step, done=self.share.count(name))
        every = self.share.gathered([*self._source.skipped])
        self.skipped = [*dict.fromkeys(chain(*every))]  # a store knows all, the network some
        check_skipped(self.skipped, len(self._images.paths))
        check_classes(self._images, self.skipped)
        for one in together:
            one.put_together(self.share)

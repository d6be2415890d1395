"""Layers of several sources, looked at one source after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import mul

from cnnlens.activations.sources import ModelSource, Observer, StoreSource
from cnnlens.distributed import ALL, Share
from cnnlens.progress import Step


class SourcesInTurn:
    """Layers of several sources over the same images, as one source.

    Parameters
    ----------
    sources : sequence of ModelSource or StoreSource
        In turn.
    """

    def __init__(self, sources: Sequence[ModelSource | StoreSource]) -> None:
        self._sources = sources
        self.limits: Sequence[int] = [limit for one in sources for limit in one.limits]
        self.shapes: Sequence[tuple[int, int, int]] = [s for one in sources for s in one.shapes]
        self.total = self._images([one.total for one in sources])

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Images that the first could not read."""
        return self._sources[0].skipped

    def most(self, share: Share) -> Sequence[int]:
        """Say how many images of each layer a share has at most."""
        return [images for one in self._sources for images in one.most(share)]

    def sweep(self, observers: Sequence[Observer], share: Share = ALL) -> Iterator[Step]:
        """Show every observer the batches of its layer: all, or a share."""
        first, done = 0, [0] * len(self._sources)
        for number, one in enumerate(self._sources):
            for step in one.sweep(observers[first : first + len(one.shapes)], share):
                done[number] = step.done
                yield replace(step, done=self._images(done), total=self.total)
            first += len(one.shapes)

    def _images(self, seen: Sequence[int]) -> int:
        """Count images: so many are seen on the layers of each source, whatever the layers."""
        layers = [len(one.shapes) for one in self._sources]
        return sum(map(mul, seen, layers)) // sum(layers)

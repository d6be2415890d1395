"""What a network answers with some of a layer's units changed: taken out, turned up, projected out.

Images go in batches. The pass of a batch is run once up to the layer, and from there on once for
every change; where a batch has room, several changes go through together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cnnlens.data.batches import batches
from cnnlens.data.dataset import ImageSet
from cnnlens.model.device import is_memory_error
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.restart import Restart, is_repeatable
from cnnlens.model.trace import Place
from cnnlens.settings import RunSettings

Units = slice | list[int]


class Change(Protocol):
    """What is put in the place of some units' maps."""

    @property
    def units(self) -> Units:
        """Whose maps."""
        ...

    def of(self, maps: Tensor) -> Tensor:
        """Give what stands there instead of maps (n, u, H, W)."""
        ...


@dataclass(frozen=True, eq=False)
class Removed:
    """Units are taken out: `to`, (C, H, W), stands in for their maps."""

    members: tuple[int, ...]
    to: Tensor

    @property
    def units(self) -> Units:
        """Whose maps; a run of one is a view, which is quicker."""
        first = self.members[0]
        return slice(first, first + 1) if len(self.members) == 1 else list(self.members)

    def of(self, maps: Tensor) -> Tensor:
        """Give `to`."""
        return self.to[self.units].expand_as(maps)


@dataclass(frozen=True, eq=False)
class Projected:
    """What of all maps lies along a direction (C,) of length 1 becomes that of `to` (C, H, W)."""

    direction: Tensor
    to: Tensor

    @property
    def units(self) -> Units:
        """All."""
        return slice(None)

    def of(self, maps: Tensor) -> Tensor:
        """Give the maps without it."""
        along = torch.einsum("c,nchw->nhw", self.direction, maps - self.to)
        return maps - torch.einsum("c,nhw->nchw", self.direction, along)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Units' maps are multiplied."""

    members: tuple[int, ...]
    factor: float

    @property
    def units(self) -> Units:
        """Whose maps."""
        return list(self.members)

    def of(self, maps: Tensor) -> Tensor:
        """Give their multiple."""
        return maps * self.factor


class Asker:
    """Asks a network about images with units of a layer changed.

    Parameters
    ----------
    model, layer : Model, Layer
        The network, and whose units.
    batch_size : int
        Rows of a batch.
    scores_at : Place, optional
        Where the class scores are, before a softmax; left out: what the network returns.
    tell : callable, optional
        Hears that passes have to be run from their beginning.
    """

    def __init__(
        self,
        model: Model,
        layer: Layer,
        batch_size: int,
        scores_at: Place | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.model, self.layer, self.scores_at = model, layer, scores_at
        self.size = model.batch or batch_size
        self._tell, self._whole = tell, False
        self.is_lone = False  # whether there is a single score
        self._is_known = False  # whether passes can go on from the layer

    def ask(
        self, pixels: Tensor, changes: Sequence[Change]
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the scores of images with some of the changes, and the scores as they are.

        Parameters
        ----------
        pixels : torch.Tensor
            (n, C, H, W) at most `size`.
        changes : sequence of Change
            One after the other.

        Yields
        ------
        (int, torch.Tensor, torch.Tensor)
            The first change's number; (changes, n, K); (n, K). A single score s is taken as two,
            -s and s.
        """
        count = len(pixels)
        tiles = max(1, min(self.size // count, len(changes)))
        x = self.model.preprocess.normalize(pixels.to(self.model.device)).repeat(tiles, 1, 1, 1)
        if self.model.batch:  # filled up
            x = torch.cat([x, x[-1:].expand(self.model.batch - len(x), -1, -1, -1)])
        restart = self._restart(x)
        self.is_lone = restart.first.shape[1] == 1
        first = two(restart.first[:count])
        for start in range(0, len(changes), tiles):
            part = changes[start : start + tiles]
            scores = two(changed_scores(restart, part, count))
            yield start, scores.unflatten(0, (len(part), count)), first

    def over(
        self, images: ImageSet, rows: Sequence[int], changes: Sequence[Change], run: RunSettings
    ) -> Iterator[tuple[np.ndarray, int, Tensor, Tensor]]:
        """Ask about images of a data set, by position; yield positions (n,) ahead of `ask`'s."""
        with self.model.in_use():
            for batch in batches(
                images, self.model.preprocess,
                batch_size=self.size, workers=run.workers, indices=rows,
            ):  # fmt: skip
                yield from self._ask(batch.indices, batch.pixels, changes)

    def _ask(
        self, positions: np.ndarray, pixels: Tensor, changes: Sequence[Change]
    ) -> Iterator[tuple[np.ndarray, int, Tensor, Tensor]]:
        """Ask about a batch, or about its halves where memory runs out."""
        try:
            for start, scores, first in self.ask(pixels, changes):
                yield positions, start, scores, first
            return
        except (RuntimeError, MemoryError) as error:
            if len(pixels) == 1 or self.model.batch or not is_memory_error(error):
                raise
        self.size = half = (len(pixels) + 1) // 2  # the error is gone, and what it held with it
        for part in (slice(half), slice(half, None)):
            yield from self._ask(positions[part], pixels[part], changes)

    def _restart(self, x: Tensor) -> Restart:
        place = self.layer.place
        restart = Restart(self.model, place, x, self.scores_at, self._whole)
        if not self._is_known:
            self._is_known = True
            self._whole = restart.is_whole
            if not self._whole:
                whole = Restart(self.model, place, x, self.scores_at, whole=True)
                self._whole = not is_repeatable(restart, whole)
                restart = whole if self._whole else restart
            if self._whole and self._tell:
                self._tell(
                    f"the pass behind {self.layer.name} cannot be gone on with: all of it is run "
                    "for every unit, which takes longer"
                )
        return restart


def changed_scores(restart: Restart, changes: Sequence[Change], count: int) -> Tensor:
    """Scores (changes · count, K), each change made in as many rows of a pass in turn."""
    kept = []
    for number, change in enumerate(changes):
        maps = restart.maps[number * count : (number + 1) * count]
        kept.append((maps, change.units, maps[:, change.units].clone()))
        maps[:, change.units] = change.of(kept[-1][2].float()).to(maps.dtype)
    scores = restart.scores()[: len(changes) * count]
    for maps, units, before in kept:
        maps[:, units] = before
    return scores


def two(scores: Tensor) -> Tensor:
    """A single score s as two, -s and s: (N, K) with K at least 2."""
    return torch.cat([-scores, scores], 1) if scores.shape[1] == 1 else scores

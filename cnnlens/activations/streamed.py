"""A layer's maps straight from the network, read as a store is: equal rows in equal blocks."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from cnnlens.activations.chunks import block_ranges, block_size, chunk_shape, even_batch
from cnnlens.activations.passes import Forward, passes
from cnnlens.data.batches import Skipped, batches, check_classes, check_skipped
from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import Step
from cnnlens.settings import RunSettings


def readable_steps(
    images: ImageSet, preprocess: Preprocess, run: RunSettings
) -> Generator[Step, None, tuple[np.ndarray, list[Skipped]]]:
    """Decode every image once: a store has rows of those alone that can be read.

    Returns
    -------
    numpy.ndarray, list of (path, reason)
        (N,) int64 positions of the images that can be read; the others.

    Raises
    ------
    CnnlensError
        When too many cannot (see `check_skipped`), or all of a category.
    """
    found = [np.zeros(0, np.int64)]
    damaged: list[Skipped] = []
    for batch in batches(images, preprocess, batch_size=run.batch_size, workers=run.workers):
        found.append(batch.indices)
        if batch.skipped:
            damaged += batch.skipped
            check_skipped(damaged, len(images.paths))
            check_classes(images, damaged)
        yield Step(batch.next, len(images.paths), "looking for damaged images")
    return np.concatenate(found), damaged


class ModelMaps:
    """Maps of a layer, read like its `Store`: every reading runs the network, nothing is kept.

    Rows and blocks are those of a float32 store, and the network's batches those that fill it, so
    that whoever adds up block by block gets the same sums.

    Parameters
    ----------
    model, images, layer, run
        As in `extract`.
    positions : numpy.ndarray
        (N,) int64 places in the data's order of the images that can be read, as `readable_steps`
        finds them.
    """

    def __init__(
        self, model: Model, images: ImageSet, layer: Layer, run: RunSettings, positions: np.ndarray
    ) -> None:
        model = model.computing(run.precision)
        self._forward = Forward(model, [layer], logits=False, limit=even_batch(run.batch_size))
        self._images, self._run = images, run
        self._rows = chunk_shape(layer.shape, np.dtype(np.float32).itemsize)[0]
        self.positions = positions
        self.shape: tuple[int, int, int, int] = (len(positions), *layer.shape)

    @property
    def images(self) -> list[str]:
        """Paths of the images, relative to the data folder, one per row."""
        return [self._images.paths[at] for at in self.positions.tolist()]

    def batches(self, units: slice = slice(None)) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions (B,) and float32 maps (B, C, H, W), block by block in the data's order.

        Raises
        ------
        CnnlensError
            When an image cannot be read any more, or activations are not finite.
        """
        for rows, maps in self.blocks(np.ones(len(self.positions), bool)):
            yield self.positions[rows], maps[:, units]

    def blocks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows (B,) and maps of the chunks that hold a wanted row, (N,) bool.

        The network runs over the blocks of images that these rows come from, and over no others.
        """
        chunks = np.unique(np.flatnonzero(wanted) // self._rows)
        rows = np.flatnonzero(np.isin(np.arange(len(wanted)) // self._rows, chunks))
        size = block_size(self._forward.limit)
        every = block_ranges(len(self._images.paths), size)
        some = [every[at] for at in np.unique(self.positions[rows] // size).tolist()]
        held: dict[int, list[np.ndarray]] = {chunk: [] for chunk in chunks.tolist()}
        for found, maps in self._read(some):
            of = found // self._rows
            for chunk in np.unique(of).tolist():
                if chunk not in held:
                    continue
                held[chunk].append(maps[of == chunk])
                whole = np.arange(len(wanted))[chunk * self._rows : (chunk + 1) * self._rows]
                if sum(map(len, held[chunk])) == len(whole):
                    parts = held.pop(chunk)
                    yield whole, np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _read(self, blocks: list[range]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows, and the network's maps of them, of some blocks of images."""
        known = {self._images.paths[at] for at in self.positions.tolist()}
        with self._forward.model.in_use():
            for one in passes(
                self._forward,
                self._images,
                batch_size=self._forward.limit,
                workers=self._run.workers,
                blocks=blocks,
            ):
                for path, reason in one.batch.skipped:
                    if path in known:
                        raise CnnlensError(
                            f"{path} could be read at first and cannot be read now: {reason}",
                            "repeat the command",
                        )
                yield np.searchsorted(self.positions, one.batch.indices), one.maps[0]

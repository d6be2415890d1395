"""Activations of some of a source's images: of those that are there once.

What chooses on some images and is held against others takes them to be others. An image that lies
there twice would be on both sides, and be found again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from cnnlens.activations.sources import Observer, Source
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.errors import counted
from cnnlens.measure.unit_lists import firsts, repeats
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import Step


class Among:
    """A source of activations, of some images alone.

    Parameters
    ----------
    source : Source
        Of all.
    positions : numpy.ndarray
        Places in the data's order.
    """

    def __init__(self, source: Source, positions: np.ndarray) -> None:
        self._source, self._positions = source, positions
        self.shapes: Sequence[tuple[int, int, int]] = source.shapes
        self.limits: Sequence[int] = [min(limit, len(positions)) for limit in source.limits]

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """Images that could not be read."""
        return self._source.skipped

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show every observer those of its layer's batches that are among them."""
        yield from self._source.sweep([self._some(one) for one in observers])

    def _some(self, observer: Observer) -> Observer:
        def look(positions: np.ndarray, maps: np.ndarray) -> None:
            among = np.isin(positions, self._positions)
            if among.any():
                observer(positions[among], np.ascontiguousarray(maps[among]))

        return look


def among(source: Source, positions: np.ndarray | None) -> Source:
    """Give a source of some images alone; of all where none are named."""
    return source if positions is None else Among(source, positions)


def distinct(
    source: Source, data: ImageSet, preprocess: Preprocess
) -> Generator[Step, None, tuple[np.ndarray, int]]:
    """Find the images of a source that no earlier one equals, pixel by pixel.

    Parameters
    ----------
    source : Source
        Activations of one layer; only images that these do not tell apart are decoded.
    data : ImageSet
        The images.
    preprocess : Preprocess
        How they become input.

    Returns
    -------
    (numpy.ndarray, int)
        Their places in the data's order, ascending, and how many others there are.
    """
    peaks = Peaks(source.limits[0], source.shapes[0][0])
    for step in source.sweep([peaks]):
        yield Step(step.done, step.total, "equal images", limit=step.limit)
    return peaks.distinct(data, preprocess)


def pixels(data: ImageSet, position: int, preprocess: Preprocess) -> np.ndarray:
    """Decode an image; one that is gone since it was looked at is like no other."""
    try:
        return data.pixels(int(position), preprocess)
    except DamagedImage:
        return np.array([position])


def firsts_of(
    data: ImageSet, positions: np.ndarray, preprocess: Preprocess, say: Callable[[str], None]
) -> Callable[[np.ndarray], np.ndarray]:
    """Give a function of what a network answers to images at `positions`, (N, D), that finds the
    first row of each row's image (see `firsts`), and says how many are copies.
    """

    def look(answers: np.ndarray) -> np.ndarray:
        found = firsts(answers, lambda row: pixels(data, int(positions[row]), preprocess))
        if copies := int((found != np.arange(len(found))).sum()):
            say(
                f"{counted(copies, 'image')} of {data.name} equal to earlier ones, pixel by pixel: "
                "of equal ones only the first counts in what is measured of categories"
            )
        return found

    return look


class Peaks:
    """Keeps every unit's peak on every image, (N, C), by which equal images are found.

    Parameters
    ----------
    images, units : int
        How many there are, at most.
    """

    def __init__(self, images: int, units: int) -> None:
        self.values = np.empty((images, units), np.float32)
        self.positions = np.empty(images, np.int64)
        self.count = 0

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        rows = slice(self.count, self.count + len(positions))
        self.values[rows] = maps.max(axis=(2, 3))
        self.positions[rows] = positions
        self.count = rows.stop

    def distinct(self, data: ImageSet, preprocess: Preprocess) -> tuple[np.ndarray, int]:
        """Say what `distinct` does, of the images that were taken in."""
        positions, found = self.positions[: self.count], self.values[: self.count]
        with np.errstate(invalid="ignore", over="ignore"):  # of peaks that are not finite
            twice = repeats(found, lambda row: pixels(data, int(positions[row]), preprocess))
        return positions[~twice], int(twice.sum())

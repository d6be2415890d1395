"""What learning concepts needs of images, as bits: where units are active, where concepts are.

A layer's activations are looked at once more after their thresholds are known. Of each image the
units and places above the threshold are kept (one in two hundred at the usual quantile), every
concept's pixels as bits, and the units' means. All of it stands in files that are read by every
epoch; in memory are an index of images and concepts, and counts of units × concepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cnnlens.measure.iou import GroundTruth, ratios
from cnnlens.measure.label_cache import LabelCache
from cnnlens.measure.masks import compiled, mask_pixels, unwritten

EVERYWHERE = -1  # in place of a mask: the concept covers the whole image


@dataclass(frozen=True)
class Pairs:
    """Images and concepts that they show, in the images' order.

    Attributes
    ----------
    image, concept : numpy.ndarray
        (P,) int32: rows of the source, indices of concepts.
    mask : numpy.ndarray
        (P,) int64: where the concept's mask begins among the masks, or `EVERYWHERE`.
    size : numpy.ndarray
        (P, 2) int32: of the mask, height and width.
    area : numpy.ndarray
        (P,) float32: share of the mask that the concept covers.
    """

    image: np.ndarray
    concept: np.ndarray
    mask: np.ndarray
    size: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, which: np.ndarray | slice) -> Pairs:
        return Pairs(*(column[which] for column in vars(self).values()))

    def runs(self) -> Iterator[tuple[Pairs, tuple[int, int]]]:
        """Yield stretches of masks of one size, in order."""
        borders = np.flatnonzero((self.size[1:] != self.size[:-1]).any(axis=1)) + 1
        ends = [*borders.tolist(), len(self)] if len(self) else []
        for start, stop in pairwise([0, *ends]):
            yield self[start:stop], (int(self.size[start, 0]), int(self.size[start, 1]))

    def dealt(self, concepts: int, parts: int) -> list[Pairs]:
        """Cut them into parts that have whole concepts, about as much work in each."""
        counts = np.bincount(self.concept, minlength=concepts)
        before = np.cumsum(counts) - counts
        part = before * parts // max(1, len(self))
        return [self[part[self.concept] == number] for number in range(parts)]


@dataclass(frozen=True)
class Bits:
    """A layer's binary maps and the concepts' masks.

    Attributes
    ----------
    units, places : numpy.ndarray
        (M,) int32: every unit above its threshold, and where on the map, row-major; image by image.
    ends : numpy.ndarray
        (N + 1,) int64: an image's are ends[i] … ends[i + 1] - 1.
    masks : numpy.ndarray
        (B,) uint8: masks, packed row-major, a byte's highest bit first.
    extent : (int, int)
        (H, W) of the layer's maps.
    means : numpy.ndarray
        (N, C) float32: each unit's mean over the map.
    positions : numpy.ndarray
        (N,) int64: each row's place in the data's order.
    """

    units: np.ndarray
    places: np.ndarray
    ends: np.ndarray
    masks: np.ndarray
    extent: tuple[int, int]
    means: np.ndarray
    positions: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What compiled loops read."""
        return tuple(map(unwritten, (self.units, self.places, self.ends, self.masks)))


@dataclass
class Overlap:
    """How units' masks meet concepts, each counted on the images that show the concept.

    Attributes
    ----------
    shared, area : numpy.ndarray
        (C, K) int64, pixels: of both, and of the unit's mask.
    pixels, images : numpy.ndarray
        (K,) int64: of the concept.
    """

    shared: np.ndarray
    area: np.ndarray
    pixels: np.ndarray
    images: np.ndarray

    @classmethod
    def none(cls, units: int, concepts: int) -> Overlap:
        """Begin with nothing counted."""
        two = (np.zeros((units, concepts), np.int64) for _ in range(2))
        return cls(*two, *(np.zeros(concepts, np.int64) for _ in range(2)))

    @property
    def iou(self) -> np.ndarray:
        """(C, K) float64; 0 where there is nothing."""
        return ratios(self.shared, self.area + self.pixels - self.shared)


class Collector:
    """Looks at a layer's activations and the images' labels, and keeps bits of both.

    Parameters
    ----------
    thresholds : numpy.ndarray
        (C,) float32.
    shape : (int, int, int)
        (C, H, W).
    book : LabelCache
        Labels.
    split_of : numpy.ndarray
        (images of the data,) int: 0 to learn on, 1 to validate, -1 for neither.
    folder : pathlib.Path
        Where files may be written.
    """

    def __init__(
        self,
        thresholds: np.ndarray,
        shape: tuple[int, int, int],
        book: LabelCache,
        split_of: np.ndarray,
        folder: Path,
    ) -> None:
        self.thresholds, self._shape, self._book = thresholds, shape, book
        self._split_of, self._folder = split_of, folder
        space = book.space
        self.overlaps = [Overlap.none(shape[0], len(space.concepts)) for _ in range(2)]
        self.spread = Spread(shape[0])
        self._files = {name: (folder / name).open("wb") for name in _KINDS}
        self._ends, self._masks_end = [0], 0
        self._positions: list[int] = []
        self._carried: list[np.ndarray] = []
        self._pairs: list[np.ndarray] = []

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in images at `positions` (B,) with maps (B, C, H, W)."""
        for position, of_image in zip(positions.tolist(), maps, strict=True):
            split = int(self._split_of[position])
            truth = self._book.read(position) if split >= 0 else None
            if truth is not None:
                self._add(position, of_image, truth, self.overlaps[split])
        self.spread(maps)

    def _add(self, position: int, maps: np.ndarray, truth: GroundTruth, overlap: Overlap) -> None:
        row = len(self._positions)
        above = maps.reshape(len(maps), -1) > self.thresholds[:, None]  # (C, HW)
        units, places = np.nonzero(above)
        self._write(units=units, places=places, means=maps.mean((1, 2), dtype=np.float64))
        self._ends.append(self._ends[-1] + len(units))
        self._positions.append(position)
        self._carried.append(truth.present)
        whole = [(row, k, EVERYWHERE, *truth.size, 1.0) for k in truth.whole.tolist()]
        shown = np.array([*self._masks(row, truth), *whole], np.float64).reshape(-1, 6)
        self._pairs.append(shown)
        held = shown[:, 1].astype(np.int64)
        found = mask_pixels(maps, self.thresholds, truth.size)
        _overlap(
            found.pixels, found.ends, truth.planes, truth.whole, held, overlap.shared, overlap.area
        )
        size = truth.size[0] * truth.size[1]
        overlap.images[held] += 1
        overlap.pixels[held] += np.rint(shown[:, 5] * size).astype(np.int64)

    def _masks(self, row: int, truth: GroundTruth) -> Iterator[tuple[float, ...]]:
        """Keep every concept's pixels; yield the pair's row of the table."""
        for code in np.unique(truth.planes).tolist():
            if code:
                mask = (truth.planes == code).any(axis=0)
                packed = np.packbits(mask)
                self._write(masks=packed)
                yield row, code - 1, self._masks_end, *truth.size, float(mask.mean())
                self._masks_end += len(packed)

    def _write(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self._files[name].write(array.astype(_KINDS[name]).tobytes())

    def bits(self) -> Bits:
        """Return all that was taken in, from its files."""
        for file in self._files.values():
            file.close()
        read = {name: _mapped(self._folder / name, dtype) for name, dtype in _KINDS.items()}
        means = read.pop("means").reshape(-1, self._shape[0])
        return Bits(
            **read,
            ends=np.array(self._ends, np.int64),
            extent=self._shape[1:],
            means=means,
            positions=np.array(self._positions, np.int64),
        )

    @property
    def pairs(self) -> Pairs:
        """Every image with every concept that it shows."""
        table = np.concatenate([np.zeros((0, 6)), *self._pairs])
        image, concept, mask, height, width, area = table.T
        size = np.stack([height, width], axis=1).astype(np.int32)
        kinds = (image.astype(np.int32), concept.astype(np.int32), mask.astype(np.int64))
        return Pairs(*kinds, size, area.astype(np.float32))

    @property
    def carried(self) -> np.ndarray:
        """(N, categories) bool: whether a row's image carries labels of a category."""
        categories = self._book.categories
        return np.array(self._carried, bool).reshape(-1, categories)


class Spread:
    """Standard deviation of every unit's activations over all images and positions."""

    def __init__(self, units: int) -> None:
        self._sums = np.zeros((2, units))
        self._count = 0

    def __call__(self, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        values = maps.astype(np.float64)
        self._sums += [values.sum((0, 2, 3)), np.square(values).sum((0, 2, 3))]
        self._count += maps[:, 0].size

    @property
    def deviation(self) -> np.ndarray:
        """(C,) float64."""
        mean, square = self._sums / max(1, self._count)
        return np.sqrt(np.maximum(square - mean**2, 0))


_KINDS: dict[str, type[np.generic]] = {
    "units": np.int32,
    "places": np.int32,
    "masks": np.uint8,
    "means": np.float32,
}


def _mapped(path: Path, dtype: type[np.generic]) -> np.ndarray:
    """Map a file into memory, read as it is needed; an empty one cannot be."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)


@compiled
def _overlap(pixels, ends, planes, whole, held, shared, area):
    """Count units' mask pixels, and those of each concept in them, on one image."""
    for unit in range(len(ends) - 1):
        begin, end = ends[unit], ends[unit + 1]
        if begin == end:
            continue
        for plane in range(len(planes)):
            for position in range(begin, end):
                code = planes[plane, pixels[position]]
                if code:
                    shared[unit, code - 1] += 1
        for concept in whole:
            shared[unit, concept] += end - begin
        for concept in held:
            area[unit, concept] += end - begin

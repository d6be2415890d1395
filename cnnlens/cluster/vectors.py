"""Images as vectors: a layer's maps laid flat, with the category that each image belongs to.

An image's vector has C·H·W entries. Nothing here holds more of them than it is asked for: a source
is read in blocks of images, and of units where vectors are long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

_BLOCK = 128 * 2**20  # bytes of sums held at once
_HELD = 2**30  # bytes of maps of categories held at once


class MapSource(Protocol):
    """Where maps are read from: an activation store, or arrays in memory."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        ...

    def batches(self, units: slice = ...) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions (B,) and float32 maps (B, C, H, W), in order."""
        ...


@dataclass(frozen=True)
class Groups:
    """Which category each image belongs to.

    Attributes
    ----------
    names : tuple of str
        The categories.
    of_image : numpy.ndarray
        (N,) int64, an index into `names`; -1 for none.
    """

    names: tuple[str, ...]
    of_image: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(K,) int64: images of each category."""
        return np.bincount(self.of_image[self.of_image >= 0], minlength=len(self.names))

    def rows(self, name: str) -> np.ndarray:
        """Rows of a category's images, ascending."""
        return np.flatnonzero(self.of_image == self.names.index(name))


def group(categories: Sequence[str]) -> Groups:
    """Number the categories of images in alphabetical order."""
    names = sorted(set(categories))
    number = {name: index for index, name in enumerate(names)}
    return Groups(tuple(names), np.array([number[c] for c in categories], np.int64))


def group_rows(rows: np.ndarray, categories: Sequence[str] | None) -> Groups | None:
    """Group the rows of a store by the categories that its images have now; None without any.

    Parameters
    ----------
    rows : numpy.ndarray
        (N,) int: the number of each row's image.
    categories : sequence of str or None
        Of all images of the data set.
    """
    return None if categories is None else group([categories[at] for at in rows])


@dataclass(frozen=True)
class Maps:
    """Maps (N, C, H, W) that are in memory, read like a store."""

    values: np.ndarray = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        count, units, height, width = self.values.shape
        return count, units, height, width

    def batches(self, units: slice = slice(None)) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions (B,) and float32 maps (B, C, H, W), 32 images at a time."""
        for start in range(0, len(self.values), 32):
            maps = self.values[start : start + 32, units]
            yield np.arange(start, start + len(maps)), maps.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Joined:
    """Several sources of equal units and sizes, one after the other."""

    sources: tuple[MapSource, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        count = sum(source.shape[0] for source in self.sources)
        return count, *self.sources[0].shape[1:]

    def batches(self, units: slice = slice(None)) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows counted over all sources, and maps."""
        offset = 0
        for source in self.sources:
            for rows, maps in numbered(source, units):
                yield rows + offset, maps
            offset += source.shape[0]


def numbered(
    source: MapSource, units: slice = slice(None)
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield row numbers (B,), from 0 without gaps, and maps (B, C, H, W)."""
    done = 0
    for _, maps in source.batches(units):
        yield np.arange(done, done + len(maps)), maps
        done += len(maps)


@dataclass(frozen=True)
class CategoryMaps:
    """A layer's maps of all images of one category.

    Attributes
    ----------
    name : str
        The category.
    rows : numpy.ndarray
        (n,) int64: the images' rows in the source, ascending.
    maps : numpy.ndarray
        (n, C, H, W) float32.
    """

    name: str
    rows: np.ndarray
    maps: np.ndarray = field(repr=False)


def read_categories(
    source: MapSource, groups: Groups, names: Sequence[str] | None = None
) -> Iterator[CategoryMaps]:
    """Read the maps of one category after the other, as many in one pass as 1 GiB holds.

    Parameters
    ----------
    source : MapSource
        (N, C, H, W).
    groups : Groups
        The category of each image.
    names : sequence of str, optional
        The categories that are wanted, in this order. Default: all.
    """
    for portion in _portions(source, groups, groups.names if names is None else names):
        found = _read_together(source, groups, portion)
        while found:  # what was handed on is no longer held here
            yield found.pop(0)


def _portions(source: MapSource, groups: Groups, names: Sequence[str]) -> Iterator[list[str]]:
    """Cut categories into portions whose maps fit into memory together, or are one category."""
    each = 4 * int(np.prod(source.shape[1:]))
    portion: list[str] = []
    held = 0
    for name in names:
        size = each * len(groups.rows(name))
        if portion and held + size > _HELD:
            yield portion
            portion, held = [], 0
        portion.append(name)
        held += size
    if portion:
        yield portion


def _read_together(source: MapSource, groups: Groups, names: Sequence[str]) -> list[CategoryMaps]:
    shape = source.shape[1:]
    found = [
        CategoryMaps(name, rows, np.empty((len(rows), *shape), np.float32))
        for name in names
        for rows in (groups.rows(name),)
    ]
    place = {groups.names.index(one.name): one for one in found}
    for rows, maps in numbered(source):
        mine = groups.of_image[rows]
        for number in np.unique(mine):
            if number in place:
                here = mine == number
                one = place[number]
                one.maps[np.searchsorted(one.rows, rows[here])] = maps[here]
    return found


def unit_peaks(source: MapSource, units: Sequence[int]) -> np.ndarray:
    """Highest activation of some units on every image, (U, N) float32."""
    chosen = list(units)
    found = np.empty((len(chosen), source.shape[0]), np.float32)
    for rows, maps in numbered(source):
        found[:, rows] = maps[:, chosen].max(axis=(2, 3)).T
    return found


def unit_blocks(source: MapSource, sums: int) -> list[slice]:
    """Cut the units into blocks of which `sums` float64 vectors fit into memory."""
    _, units, height, width = source.shape
    step = max(1, _BLOCK // max(1, sums * height * width * 8))
    return [slice(start, min(start + step, units)) for start in range(0, units, step)]


def gram(source: MapSource, groups: Groups, weights: np.ndarray) -> np.ndarray:
    """Dot products of the categories' weighted mean vectors, for several weightings at once.

    The means themselves, which may be long and many, are never held as a whole: the products are
    summed over blocks of units.

    Parameters
    ----------
    source : MapSource
        (N, C, H, W).
    groups : Groups
        K categories; images of none are passed over.
    weights : numpy.ndarray
        (R, N): weight of each image in its category's mean, in each of R weightings.

    Returns
    -------
    numpy.ndarray
        (R, K, K) float64.
    """
    count = len(groups.names)
    if weights.shape[1:] != (source.shape[0],) or len(groups.of_image) != source.shape[0]:
        raise ValueError(f"weights {weights.shape}, {len(groups.of_image)} labels: {source.shape}")
    totals = np.stack([_per_group(groups, row) for row in weights])  # (R, K)
    products = np.zeros((len(weights), count, count))
    for block in unit_blocks(source, len(weights) * count):
        sums = _sums(source, groups, weights, block)  # (R, K, D)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(totals[..., None] > 0, sums / totals[..., None], 0)
        products += means @ means.transpose(0, 2, 1)
    return products


def _per_group(groups: Groups, weights: np.ndarray) -> np.ndarray:
    there = groups.of_image >= 0
    return np.bincount(
        groups.of_image[there], weights=weights[there], minlength=len(groups.names)
    ).astype(np.float64)


def _sums(source: MapSource, groups: Groups, weights: np.ndarray, block: slice) -> np.ndarray:
    """Weighted sums of the vectors of each category: (R, K, D) over the units of a block."""
    _, _, height, width = source.shape
    length = (block.stop - block.start) * height * width
    sums = np.zeros((len(weights), len(groups.names), length))
    for rows, maps in numbered(source, block):
        flat = maps.reshape(len(maps), -1).astype(np.float64)  # (B, D)
        mine = groups.of_image[rows]
        for category in np.unique(mine[mine >= 0]):
            here = mine == category
            sums[:, category] += weights[:, rows[here]] @ flat[here]
    return sums

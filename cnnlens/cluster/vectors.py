"""Images as vectors: a layer's maps laid flat, with the category that each image belongs to.

An image's vector has C·H·W entries. Nothing here holds more of them than it is asked for: a source
is read in blocks of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

# of images by their vectors (N, D): the first row of each one's image, (N,)
Firsts = Callable[[np.ndarray], np.ndarray]
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


class RowSource(MapSource, Protocol):
    """One that need not be read as a whole."""

    def blocks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows (B,) and maps (B, C, H, W) of the blocks with a row that is wanted, in order.

        `wanted` is (N,) bool.
        """
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

    def once(self, firsts: np.ndarray) -> np.ndarray:
        """Rows of the images of each category, of equal ones the first: `firsts` (N,) says of each
        row in which the same image is first.
        """
        pairs = np.stack([firsts, self.of_image], axis=1)
        return np.sort(np.unique(pairs, axis=0, return_index=True)[1])

    def among(self, rows: np.ndarray | slice) -> Groups:
        """The same categories, of some rows."""
        return replace(self, of_image=self.of_image[rows])


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

    def blocks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and maps of the blocks of 32 images with one that is wanted, (N,) bool."""
        for rows, maps in self.batches():
            if wanted[rows].any():
                yield rows, maps


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
    source: RowSource, groups: Groups, names: Sequence[str] | None = None
) -> Iterator[CategoryMaps]:
    """Read the maps of one category after the other, as many at once as 1 GiB holds.

    Where a category's images follow each other, as those of a class folder do, every block of the
    source is read once, or twice where two categories share it.

    Parameters
    ----------
    source : RowSource
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


def _portions(source: RowSource, groups: Groups, names: Sequence[str]) -> Iterator[list[str]]:
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


def _read_together(source: RowSource, groups: Groups, names: Sequence[str]) -> list[CategoryMaps]:
    shape = source.shape[1:]
    found = [
        CategoryMaps(name, rows, np.empty((len(rows), *shape), np.float32))
        for name in names
        for rows in (groups.rows(name),)
    ]
    place = {groups.names.index(one.name): one for one in found}
    for rows, maps in source.blocks(np.isin(groups.of_image, list(place))):
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

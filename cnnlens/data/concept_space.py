"""Concepts of a data set by number, and what is known about each of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.decode import reason_of
from cnnlens.data.paths import file_source, held
from cnnlens.data.tables import Label, Row, items
from cnnlens.data.unread import UnreadFile, patiently
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    from cnnlens.data.broden import Broden

MOST_CONCEPTS = 65534
_UNDECLARED = 65535


class BadLabels(Exception):  # noqa: N818
    """The labels of one image cannot be used: the image is skipped, counted and named.

    Attributes
    ----------
    path : str
        The image, relative to the data folder.
    reason : str
        What is wrong, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Concept:
    """A label under one category: `number` and `label` as in ``label.csv``."""

    number: int
    label: str
    category: str


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known about one image.

    Attributes
    ----------
    planes : numpy.ndarray
        (P, sh, sw) uint16, concept index + 1, 0 = nothing. Categories in order; no concept
        stands twice at one pixel; none of `whole` stands here; planes of nothing are left out.
    whole : numpy.ndarray
        int64 indices of concepts that cover the whole image, ascending, unique.
    present : numpy.ndarray
        (n_categories,) bool: the image carries ground truth of the category.
    size : (int, int)
        (sh, sw), in pixels.
    """

    planes: np.ndarray
    whole: np.ndarray
    present: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ConceptSpace:
    """The concepts of a data set, by category and label number, and every image's labels.

    Attributes
    ----------
    concepts : tuple of Concept
        K concepts.
    category_of : numpy.ndarray
        (K,) int64, index into the data set's category names.
    """

    concepts: tuple[Concept, ...]
    category_of: np.ndarray
    pooled: bool
    _broden: Broden
    _codes: np.ndarray  # (n_categories, numbers + 1) uint16: concept index + 1, 0 or _UNDECLARED

    @classmethod
    def build(
        cls, broden: Broden, pairs: Sequence[tuple[int, int, str]], pooled: bool
    ) -> ConceptSpace:
        """Make the space of sorted (category index, label number, label name) triples."""
        names = broden.category_names
        if not pairs:
            raise CnnlensError(
                f"{broden.root / 'label.csv'} declares no label of any category in index.csv",
                f"index.csv has the categories {', '.join(names)}",
            )
        if len(pairs) > MOST_CONCEPTS:
            raise CnnlensError(
                f"{broden.root / 'label.csv'} declares {len(pairs):,} concepts; "
                f"at most {MOST_CONCEPTS:,} can be told apart"
            )
        concepts = tuple(Concept(number, label, names[c]) for c, number, label in pairs)
        category_of = np.array([c for c, _, _ in pairs], np.int64)
        return cls(concepts, category_of, pooled, broden, _codes(len(names), pairs, pooled))

    @property
    def category_names(self) -> tuple[str, ...]:
        """The data set's categories, in its order; some may have no concept."""
        return self._broden.category_names

    def labels(self, index: int) -> Labels:
        """Read the labels of image number `index`.

        Raises
        ------
        BadLabels
            When a plane is missing, unreadable or of the wrong size, or a number is unknown.
        """
        row = self._broden.rows[index]
        try:
            return self._labels(row)
        except _Fault as fault:
            raise BadLabels(self._broden.paths[index], str(fault)) from fault.__cause__

    def _labels(self, row: Row) -> Labels:
        whole: set[int] = set()
        planes: list[np.ndarray] = []
        for category, cell in enumerate(row.cells):
            for item in items(cell):
                if isinstance(item, int):
                    whole |= self._whole(category, item)
                else:
                    planes.append(self._plane(category, item, row.size))
        codes = np.array(sorted(whole), np.int64)
        present = np.array([bool(items(cell)) for cell in row.cells])
        return Labels(_distinct(planes, codes + 1, row.size), codes, present, row.size)

    def _whole(self, category: int, number: int) -> set[int]:
        codes = self._codes[category]
        code = int(codes[number]) if number < len(codes) else _UNDECLARED
        if code == _UNDECLARED:
            raise _Fault(self._undeclared(category, number))
        return {code - 1} if code else set()

    def _plane(self, category: int, item: str, size: tuple[int, int]) -> np.ndarray:
        numbers = read_plane(self._broden.root / "images" / item, item)  # (sh, sw)
        if numbers.shape != size:
            (h, w), (sh, sw) = numbers.shape, size
            raise _Fault(f"{item} is {h}×{w} pixels, index.csv says {sh}×{sw}")
        codes = self._codes[category].take(numbers)
        if codes.max(initial=0) == _UNDECLARED:
            raise _Fault(self._undeclared(category, int(numbers[codes == _UNDECLARED][0]), item))
        return codes

    def _undeclared(self, category: int, number: int, where: str = "") -> str:
        found = f"label {number}" + (f" in {where}" if where else "")
        label: Label | None = self._broden.label_table.get(number)
        if label is None:
            return f"{found} is not in label.csv"
        name = self._broden.category_names[category]
        return f"{found} ({label.name}) is not declared for category {name} in label.csv"


class _Fault(Exception):  # noqa: N818
    """A reason why a row's labels are bad, on its way to the row's name."""


def read_plane(path: Path, name: str) -> np.ndarray:
    """Read a label plane: (sh, sw) of label numbers, R + 256·G.

    Grey planes hold the number itself (8 or 16 bits); palettes stand for the colours in them.
    """
    try:
        array = patiently(path, lambda: _decoded(path))
    except FileNotFoundError:
        raise _Fault(f"{name} is missing") from None
    except UnreadFile:
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise _Fault(f"{name} cannot be read: {reason_of(error)}") from error
    if array.ndim == 2:
        return np.clip(array, 0, 65535).astype(np.uint16)
    numbers = array[..., 0].astype(np.uint16)
    if array.shape[2] > 2:  # not grey with alpha
        numbers |= array[..., 1].astype(np.uint16) << 8
    return numbers


def _decoded(path: Path) -> np.ndarray:
    from PIL import Image

    source = file_source(held(path))
    with Image.open(source, formats=("PNG", "BMP", "TIFF", "WEBP")) as image:
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def _codes(categories: int, pairs: Sequence[tuple[int, int, str]], pooled: bool) -> np.ndarray:
    """Table from (category, label number) to concept index + 1."""
    length = max(65535, *(number for _, number, _ in pairs)) + 1
    codes = np.full((categories, length), _UNDECLARED, np.uint16)
    codes[:, 0] = 0
    for code, (category, number, _) in enumerate(pairs, 1):
        codes[slice(None) if pooled else category, number] = code
    return codes


def _distinct(planes: list[np.ndarray], whole: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Zero what is said twice: by an earlier plane at the pixel, or of the whole image."""
    kept: list[np.ndarray] = []
    for plane in planes:
        for earlier in kept:
            plane[plane == earlier] = 0
        for code in whole:
            plane[plane == code] = 0
        if plane.any():
            kept.append(plane)
    return np.stack(kept) if kept else np.zeros((0, *size), np.uint16)  # (P, sh, sw)

"""Broden's layout: an index of images, each with label planes or whole-image labels per category.

``index.csv`` has one row per image and one column per category; a cell holds PNG planes
(a pixel is R + 256·G = label number, 0 = nothing) and whole-image label numbers, separated by
semicolons. ``label.csv`` names the numbers and declares their categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import reason_of
from cnnlens.data.member_path import located
from cnnlens.data.paths import below, file_source, held, state_of
from cnnlens.data.tables import (
    Counted,
    Label,
    Row,
    RowFault,
    items,
    read_c_table,
    read_categories,
    read_index,
    read_labels,
)
from cnnlens.data.unread import UnreadFile, patiently
from cnnlens.errors import CnnlensError

MOST_CONCEPTS = 65534
_UNDECLARED = 65535
_SAME_SHAPE = 0.02  # difference of logarithms of two shapes that rounding may make


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


@dataclass(frozen=True, repr=False)
class Broden(ImageSet):
    """Images with label maps.

    Attributes
    ----------
    category_names : tuple of str
        The category columns of ``index.csv``, in order.
    rows : tuple of Row
        One per image, parallel to `paths`: label map size and cells.
    label_table : dict of int to Label
        ``label.csv`` by number.
    """

    category_names: tuple[str, ...] = ()
    rows: tuple[Row, ...] = field(default=(), repr=False)
    label_table: dict[int, Label] = field(default_factory=dict, repr=False, hash=False)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The split of each image, ``train`` or ``val``."""
        return tuple(row.split for row in self.rows)

    def of_split(self, name: str) -> Broden:
        """Return the images of one split alone."""
        kept = [place for place, row in enumerate(self.rows) if row.split == name]
        paths = tuple(self.paths[place] for place in kept)
        return replace(self, paths=paths, rows=tuple(self.rows[k] for k in kept), split=name)

    def is_turned(self, index: int, stored: tuple[int, int], turned: tuple[int, int]) -> bool:
        """Whether the image's label planes were made for it as turned, not as it is stored.

        Sizes (H, W) decide: those of the planes, else those in ``index.csv``; where neither
        tells, planes are taken to be stored as the images are.
        """
        row = self.rows[index]
        for height, width in (row.size, row.image_size):
            apart = [abs(np.log(height * w / (width * h))) for h, w in (stored, turned)]
            if abs(apart[0] - apart[1]) > _SAME_SHAPE:
                return bool(apart[1] < apart[0])
        return False

    @cached_property
    def labels_fingerprint(self) -> str:
        """Hash of the tables, and of the planes' sizes and times: equal hash, same labels."""
        tables = b""
        for name in ("index.csv", "label.csv", *(f"c_{name}.csv" for name in self.category_names)):
            path = self.root / name
            tables += name.encode() + (path.read_bytes() if path.exists() else b"")
        cells = (item for row in self.rows for cell in row.cells for item in items(cell))
        planes = (item for item in cells if isinstance(item, str))
        files = ((plane, below(self.root, f"images/{plane}")) for plane in planes)
        return state_of(files, tables, exact=True)

    def concept_space(self, pooled: bool = False) -> ConceptSpace:
        """Number the concepts from 0 to K - 1, by category and then label number.

        Parameters
        ----------
        pooled : bool
            False: a label declared under two categories is two concepts. True, the older tool's
            way: it is one, in the category of its largest coverage.

        Raises
        ------
        CnnlensError
            When no label belongs to any category of ``index.csv``, or there are over 65,534.
        """
        order = {name: place for place, name in enumerate(self.category_names)}
        pairs = [
            (order[category], label.number, label.name)
            for label in self.label_table.values()
            for category in ([self._home(label)] if pooled else label.categories)
            if category in order
        ]
        return ConceptSpace.build(self, sorted(pairs), pooled)

    def _home(self, label: Label) -> str:
        """The category in which a label covers most; the first of equals."""
        declared = [name for name in self.category_names if name in label.categories]
        if len(declared) < 2:
            return declared[0] if declared else ""
        counted = [self._counted[name].get(label.number) for name in declared]
        measured = [row.coverage for row in counted if row is not None]
        if len(measured) < len(declared):  # not comparable with each other: fall back to counts
            measured = [float(label.categories[name] or 0) for name in declared]
        return declared[measured.index(max(measured))]

    @cached_property
    def _counted(self) -> dict[str, dict[int, Counted]]:
        return {name: read_c_table(self.root / f"c_{name}.csv") for name in self.category_names}


def open_broden(root: Path | str, faults: list[RowFault] | None = None) -> Broden:
    """Read ``index.csv`` and ``label.csv``; planes are read when asked for.

    Parameters
    ----------
    root : path
        The folder with the tables and ``images``.
    faults : list, optional
        Collects malformed rows, which are then left out; without it the first one raises.

    Raises
    ------
    CnnlensError
        When files or columns are missing or a row is malformed, with the file and the row.
    """
    root = located(root)
    labels = read_labels(root / "label.csv", faults)
    declared = {category for label in labels.values() for category in label.categories}
    categories, rows = read_index(root / "index.csv", declared | read_categories(root), faults)
    if not rows:
        raise CnnlensError(f"{root / 'index.csv'} lists no images")
    paths = tuple(f"images/{row.image}" for row in rows)
    return Broden(
        root, paths, "broden", None, category_names=categories, rows=rows, label_table=labels
    )

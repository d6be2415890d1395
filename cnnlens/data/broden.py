"""Broden's layout: an index of images, each with label planes or whole-image labels per category.

``index.csv`` has one row per image and one column per category; a cell holds PNG planes
(a pixel is R + 256·G = label number, 0 = nothing) and whole-image label numbers, separated by
semicolons. ``label.csv`` names the numbers and declares their categories.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnlens.data.concept_space import ConceptSpace
from cnnlens.data.dataset import ImageSet
from cnnlens.data.member_path import located
from cnnlens.data.paths import below, state_of
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
from cnnlens.errors import CnnlensError

_SAME_SHAPE = 0.02  # difference of logarithms of two shapes that rounding may make


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

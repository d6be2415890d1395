"""Broden's layout: an index of images, each with label planes or whole-image labels per category.

``index.csv`` has one row per image and one column per category; a cell holds PNG planes
(a pixel is R + 256·G = label number, 0 = nothing) and whole-image label numbers, separated by
semicolons. ``label.csv`` names the numbers and declares their categories.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cnnlens.data.concepts import BadLabels, Concept, ConceptSpace, Labels
from cnnlens.data.dataset import ImageSet
from cnnlens.data.tables import (
    Counted,
    Label,
    Row,
    RowFault,
    read_c_table,
    read_categories,
    read_index,
    read_labels,
)
from cnnlens.errors import CnnlensError

__all__ = ["BadLabels", "Broden", "Concept", "ConceptSpace", "Labels", "open_broden"]


@dataclass(frozen=True)
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

    @cached_property
    def labels_fingerprint(self) -> str:
        """Hash of the tables that say what is where: equal hash, same labels."""
        digest = hashlib.sha256()
        for name in ("index.csv", "label.csv", *(f"c_{name}.csv" for name in self.category_names)):
            path = self.root / name
            digest.update(name.encode() + (path.read_bytes() if path.exists() else b""))
        return digest.hexdigest()[:16]

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
    root = Path(root)
    labels = read_labels(root / "label.csv", faults)
    declared = {category for label in labels.values() for category in label.categories}
    categories, rows = read_index(root / "index.csv", declared | read_categories(root), faults)
    if not rows:
        raise CnnlensError(f"{root / 'index.csv'} lists no images")
    paths = tuple(f"images/{row.image}" for row in rows)
    return Broden(
        root, paths, "broden", None, category_names=categories, rows=rows, label_table=labels
    )

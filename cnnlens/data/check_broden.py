"""Read a whole data set in Broden's layout and list what is wrong with it, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cnnlens.data.broden import BadLabels, Broden, ConceptSpace, open_broden
from cnnlens.data.checked import Problem, Report, looked_at, named
from cnnlens.data.decode import DamagedImage
from cnnlens.data.open import in_split
from cnnlens.data.survey import surveyed
from cnnlens.data.tables import FIXED, RowFault, read_c_table, read_categories, read_header
from cnnlens.errors import CnnlensError


def check_broden(
    root: Path, split: str | None, progress: Callable[[int, int], None] | None
) -> Report:
    """Decode every image and read every label; `split` is the only one to be read."""
    faults: list[RowFault] = []
    broden = surveyed(in_split(open_broden(root, faults), split))
    assert isinstance(broden, Broden)
    space = broden.concept_space()
    used = np.zeros(len(space.concepts) + 1, bool)

    def look(index: int) -> list[str]:
        return [*_bad_size(broden, index), *_bad_labels(space, index, used)]

    malformed = [Problem(f"{fault.table}, row {fault.line}", fault.what) for fault in faults]
    bad = [
        Problem(f"index.csv, row {broden.rows[index].line} ({broden.rows[index].image})", what)
        for index, what in looked_at(broden, look, progress)
    ]
    lost = sum(fault.table == "index.csv" for fault in faults)
    count = len(broden.paths)
    notes = (*_unused(broden, space, used), *_table_notes(broden), *broden.notes)
    return Report(str(root), "broden", count + lost, count, (*malformed, *bad), notes)


def _bad_size(broden: Broden, index: int) -> list[str]:
    """What is wrong with the picture itself, or with what the index says of its size."""
    row = broden.rows[index]
    try:
        width, height = broden.load(index).size
    except DamagedImage as damage:
        return [f"image {damage.reason}"]
    if (height, width) == row.image_size:
        return []
    ih, iw = row.image_size
    return [f"the image is {height}×{width} pixels, index.csv says {ih}×{iw}"]


def _bad_labels(space: ConceptSpace, index: int, used: np.ndarray) -> list[str]:
    try:
        labels = space.labels(index)
    except BadLabels as bad:
        return [bad.reason]
    used[labels.whole + 1] = True
    used[labels.planes.ravel()] = True  # only ever set, so threads cannot disagree
    return []


def _unused(broden: Broden, space: ConceptSpace, used: np.ndarray) -> Iterator[str]:
    for place, category in enumerate(broden.category_names):
        if not any(row.cells[place] for row in broden.rows):
            yield f"category {category} is empty in every row"
    names = [
        f"{concept.label} ({concept.number}, {concept.category})"
        for concept, seen in zip(space.concepts, used[1:], strict=True)
        if not seen
    ]
    if names:
        yield named("labels that no image shows", names)


def _table_notes(broden: Broden) -> Iterator[str]:
    """Where the tables disagree with each other."""
    declared = {name for label in broden.label_table.values() for name in label.categories}
    columns = set(broden.category_names)
    header = set(read_header(broden.root / "index.csv"))
    pairs = (
        ("categories of label.csv without a column in index.csv", declared - columns),
        ("categories of category.csv without a column", read_categories(broden.root) - columns),
        ("columns of index.csv that are no category", header - columns - set(FIXED) - {""}),
        ("columns of index.csv without a label in label.csv", columns - declared),
    )
    yield from (named(what, sorted(names)) for what, names in pairs if names)
    for category in broden.category_names:
        yield from _c_table_notes(broden, category)


def _c_table_notes(broden: Broden, category: str) -> Iterator[str]:
    path = broden.root / f"c_{category}.csv"
    if not path.exists():
        yield f"{path.name} is missing (it is not needed)"
        return
    try:
        listed = read_c_table(path)
    except CnnlensError as error:
        yield error.message
        return
    declared = {
        number: label.name
        for number, label in broden.label_table.items()
        if category in label.categories
    }
    pairs = (
        ("labels that label.csv does not declare for it", set(listed) - set(declared)),
        ("missing labels that label.csv declares for it", set(declared) - set(listed)),
        (
            "labels of another name than in label.csv",
            {n for n in set(listed) & set(declared) if listed[n].name != declared[n]},
        ),
    )
    for what, numbers in pairs:
        if numbers:
            yield f"{path.name}: {named(what, [str(number) for number in sorted(numbers)])}"

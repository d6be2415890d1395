"""Read a whole data set of any kind and list what is wrong with it, row by row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.data.batches import check_classes, read_ahead
from cnnlens.data.broden import BadLabels, Broden, ConceptSpace, open_broden
from cnnlens.data.dataset import ImageSet, listed_images, open_folder
from cnnlens.data.decode import DamagedImage
from cnnlens.data.open import in_split, labelled_folder, open_data, split_folder
from cnnlens.data.parts import PartSet
from cnnlens.data.splits import chosen
from cnnlens.data.survey import surveyed
from cnnlens.data.tables import FIXED, RowFault, read_c_table, read_categories, read_header
from cnnlens.data.walk import list_files
from cnnlens.errors import CnnlensError

_AHEAD = 64
_NAMED = 5  # things that a note names before it counts the rest


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `where` is a row of a table or an image's path."""

    where: str
    what: str


@dataclass(frozen=True)
class Report:
    """The outcome of reading a data set.

    Attributes
    ----------
    root, kind : str
        The folder that was read and what it is ("images", "classes", "broden", "parts").
    images : int
        Rows of ``index.csv``, or image files.
    checked : int
        Those that could be looked at one by one; malformed rows could not.
    problems : tuple of Problem
        What makes `dissect` skip an image or refuse the data set, in the data's order.
    notes : tuple of str
        Oddities that do no harm.
    """

    root: str
    kind: str
    images: int
    checked: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def summary(self) -> str:
        """The outcome in a line."""
        count = len(self.problems)
        return (
            f"{self.root}: {self.kind}, {self.checked} of {self.images} checked, "
            f"{count or 'no'} problem{'' if count == 1 else 's'}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and strings, for JSON."""
        return {**asdict(self), "ok": self.ok}


def check(
    path: Path | str,
    progress: Callable[[int, int], None] | None = None,
    split: str | None = None,
) -> Report:
    """Decode every image and read every label of a data set.

    Parameters
    ----------
    path : path
        A data folder of any kind.
    progress : callable, optional
        Called with (images looked at, images in all).
    split : str, optional
        The only split to be read; left out: all of them.

    Raises
    ------
    CnnlensError
        When there is no data set to be checked: the folder or a table is missing or empty.
    """
    root, kind = labelled_folder(Path(path))
    if kind == "broden":
        return _check_broden(root, split, progress)
    if kind is not None:
        images = open_data(path, split)
        assert isinstance(images, PartSet)
        return _check_parts(images, progress)
    root, known = split_folder(root)
    if split is not None:
        return _check_folder(root, chosen(root, split, known), progress)
    if known:
        return _all_of(root, [_check_folder(root, name, progress) for name in known], known)
    return _check_folder(root, None, progress)


def _check_folder(
    root: Path, split: str | None, progress: Callable[[int, int], None] | None
) -> Report:
    """Check a folder of images; a class that vanishes is one thing that is wrong."""
    listing = list_files(root, f"{split}/" if split else "")
    if not listing.images:
        open_folder(root, split)  # says what is there instead
    images = surveyed(listed_images(root, listing, split))
    problems = [Problem(f"{listing.start}{name}/", files) for name, files in listing.vanished()]
    bad = list(_looked_at(images, lambda index: _bad_image(images, index), progress))
    problems += [Problem(images.paths[index], what) for index, what in bad]
    try:
        check_classes(images, [(images.paths[index], what) for index, what in bad])
    except CnnlensError as error:
        problems.append(Problem(str(root), error.message))
    total, notes = len(images.paths), (*images.notes, *listing.said_of_leftovers())
    return Report(str(images.root), images.kind, total, total, tuple(problems), notes)


def _all_of(root: Path, reports: list[Report], splits: Sequence[str]) -> Report:
    """Put the reports of a folder's splits together."""
    counts = [f"{name} ({one.images})" for name, one in zip(splits, reports, strict=True)]
    notes = [f"splits, of which commands read one (--split NAME): {', '.join(counts)}"]
    notes += [f"{n}: {note}" for n, one in zip(splits, reports, strict=True) for note in one.notes]
    images, checked = sum(one.images for one in reports), sum(one.checked for one in reports)
    problems = tuple(problem for one in reports for problem in one.problems)
    return Report(str(root), reports[0].kind, images, checked, problems, tuple(notes))


def _check_parts(parts: PartSet, progress: Callable[[int, int], None] | None) -> Report:
    def look(index: int) -> list[str]:
        return [*_bad_image(parts, index), *_bad_masks(parts, index)]

    problems = [Problem(fault.where, fault.what) for fault in parts.faults]
    problems += [Problem(parts.paths[i], what) for i, what in _looked_at(parts, look, progress)]
    shown = ~np.isnan(parts.centres[:, :, 0])  # (N, P)
    notes = []
    if bare := int((~shown.any(axis=1)).sum()):
        notes.append(f"{bare} objects show no part")
    if unseen := [
        name for name, seen in zip(parts.parts, shown.any(axis=0), strict=True) if not seen
    ]:
        notes.append(_named("parts that no object shows", unseen))
    notes += parts.notes
    count = len(parts.paths)
    kind = f"parts, {len(parts.parts)} on {len(set(parts.image_categories or ()))} categories"
    return Report(str(parts.root), kind, count, count, tuple(problems), tuple(notes))


def _bad_masks(parts: PartSet, index: int) -> list[str]:
    if parts.masks is None:
        return []
    try:
        parts.masks(index)
    except DamagedImage as damage:
        return [f"part masks: {damage.path.name} {damage.reason}"]
    except CnnlensError as error:
        return [error.message]
    return []


def _looked_at(
    images: ImageSet,
    look: Callable[[int], list[str]],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, str]]:
    """Look at every image in threads; yield what is wrong in the data's order."""
    total = len(images.paths)
    with closing(read_ahead(look, range(total), os.cpu_count() or 1, _AHEAD)) as found:
        for index, faults in enumerate(found):
            yield from ((index, what) for what in faults)
            if progress is not None:
                progress(index + 1, total)


def _bad_image(images: ImageSet, index: int) -> list[str]:
    try:
        images.load(index)
    except DamagedImage as damage:
        return [f"image {damage.reason}"]
    return []


def _check_broden(
    root: Path, split: str | None, progress: Callable[[int, int], None] | None
) -> Report:
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
        for index, what in _looked_at(broden, look, progress)
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
        yield _named("labels that no image shows", names)


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
    yield from (_named(what, sorted(names)) for what, names in pairs if names)
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
            yield f"{path.name}: {_named(what, [str(number) for number in sorted(numbers)])}"


def _named(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}: {', '.join(names[:_NAMED])}{more}"

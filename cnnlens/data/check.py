"""Read a whole data set of any kind and list what is wrong with it, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnlens.data.batches import check_classes
from cnnlens.data.broden import Broden, open_broden
from cnnlens.data.checked import (
    Problem,
    Report,
    bad_image,
    equated,
    looked_at,
    named,
    odd_sizes,
    same_files,
    same_images,
)
from cnnlens.data.concept_space import BadLabels, ConceptSpace
from cnnlens.data.dataset import ImageSet, listed_images, open_folder
from cnnlens.data.decode import DamagedImage
from cnnlens.data.open import in_split, labelled_folder, open_data, split_folder
from cnnlens.data.parts import PartSet
from cnnlens.data.splits import chosen, splits_within
from cnnlens.data.survey import surveyed
from cnnlens.data.tables import FIXED, RowFault, read_c_table, read_categories, read_header
from cnnlens.data.unread import UnreadFile
from cnnlens.data.walk import Listing, list_files
from cnnlens.errors import CnnlensError, counted

_ONE_SPLIT = "splits, of which commands read one (--split NAME)"


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
    root, kind = labelled_folder(path)
    if kind == "broden":
        return check_broden(root, split, progress)
    if kind is not None:
        images = open_data(path, split)
        assert isinstance(images, PartSet)
        return _check_parts(images, progress)
    root, known = split_folder(root)
    if split is not None and not known:
        images = open_data(root, split)  # in every class
        return _check_images(images, list_files(root), progress)
    if split is not None:
        return _check_folder(root, chosen(root, split, known), progress)
    if known:
        return _all_of(root, [_check_folder(root, name, progress) for name in known], known)
    return _check_folder(root, None, progress)


def _check_folder(
    root: Path, split: str | None, progress: Callable[[int, int], None] | None
) -> Report:
    listing = list_files(root, f"{split}/" if split else "")
    if not listing.images:
        open_folder(root, split)  # says what is there instead
    return _check_images(_surveyed(listed_images(root, listing, split)), listing, progress)


def _surveyed(images: ImageSet) -> ImageSet:
    try:
        return surveyed(images)
    except UnreadFile:  # which is named, with all others, when it is looked at
        return images


def _check_images(
    images: ImageSet, listing: Listing, progress: Callable[[int, int], None] | None
) -> Report:
    """Check a folder of images; a class that vanishes is one thing that is wrong."""
    sizes: dict[int, tuple[int, int]] = {}

    def look(index: int) -> list[str]:
        try:
            sizes[index] = images.load(index).size
        except DamagedImage as damage:
            return [f"image {damage.reason}"]
        return []

    problems = [Problem(f"{listing.start}{name}/", files) for name, files in listing.vanished()]
    bad = list(looked_at(images, look, progress))
    problems += [Problem(images.paths[index], what) for index, what in bad]
    try:
        check_classes(images, [(images.paths[index], what) for index, what in bad])
    except CnnlensError as error:
        problems.append(Problem(str(images.root), error.message))
    notes = [*images.notes, *listing.said_of_leftovers(), *odd_sizes(images, sizes)]
    notes += same_images(images)
    if not images.split and (inner := splits_within(images.paths)):
        notes.append(f"{_ONE_SPLIT}: {', '.join(inner)}, in every class")
    total, classes = len(images.paths), len(set(images.image_categories or ()))
    return Report(
        str(images.root), images.kind, total, total, tuple(problems), tuple(notes), classes
    )


def _all_of(root: Path, reports: list[Report], splits: Sequence[str]) -> Report:
    """Put the reports of a folder's splits together."""
    counts = [f"{name} ({one.images})" for name, one in zip(splits, reports, strict=True)]
    notes = [f"{_ONE_SPLIT}: {', '.join(counts)}"]
    notes += [f"{n}: {note}" for n, one in zip(splits, reports, strict=True) for note in one.notes]
    paths = [path for name in splits for path in list_files(root, f"{name}/").images]
    shared = [one for one in same_files(root, paths) if len({p.split("/")[0] for p in one}) > 1]
    if shared:
        notes.append(named("the same image in several splits", [equated(one) for one in shared]))
    images, checked = sum(one.images for one in reports), sum(one.checked for one in reports)
    problems = tuple(problem for one in reports for problem in one.problems)
    classes = max(one.categories for one in reports)
    kind = reports[0].kind
    return Report(str(root), kind, images, checked, problems, tuple(notes), classes)


def _check_parts(parts: PartSet, progress: Callable[[int, int], None] | None) -> Report:
    def look(index: int) -> list[str]:
        return [*bad_image(parts, index), *_bad_masks(parts, index)]

    problems = [Problem(fault.where, fault.what) for fault in parts.faults]
    problems += [Problem(parts.paths[i], what) for i, what in looked_at(parts, look, progress)]
    shown = ~np.isnan(parts.centres[:, :, 0])  # (N, P)
    notes = []
    if bare := int((~shown.any(axis=1)).sum()):
        notes.append(f"no part is shown on {counted(bare, 'object')}")
    if unseen := [
        name for name, seen in zip(parts.parts, shown.any(axis=0), strict=True) if not seen
    ]:
        notes.append(named("parts that no object shows", unseen))
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


# -- data in Broden's layout ----------------------------------------------------------------------


def check_broden(
    root: Path, split: str | None, progress: Callable[[int, int], None] | None
) -> Report:
    """Decode every image and read every label; `split` is the only one to be read."""
    faults: list[RowFault] = []
    broden = _surveyed(in_split(open_broden(root, faults), split))
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

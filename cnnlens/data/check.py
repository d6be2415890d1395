"""Read a whole data set of any kind and list what is wrong with it, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnnlens.data.batches import check_classes
from cnnlens.data.check_broden import check_broden
from cnnlens.data.checked import Problem, Report, bad_image, looked_at, named
from cnnlens.data.dataset import ImageSet, listed_images, open_folder
from cnnlens.data.decode import DamagedImage
from cnnlens.data.oddities import equated, odd_sizes, same_files, same_images
from cnnlens.data.open import labelled_folder, open_data, split_folder
from cnnlens.data.parts import PartSet
from cnnlens.data.splits import chosen, splits_within
from cnnlens.data.survey import surveyed
from cnnlens.data.walk import Listing, list_files
from cnnlens.errors import CnnlensError

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
    root, kind = labelled_folder(Path(path))
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
    return _check_images(surveyed(listed_images(root, listing, split)), listing, progress)


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
        notes.append(f"{bare} objects show no part")
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

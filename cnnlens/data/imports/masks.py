"""Folders ``images`` and ``masks``: a mask per image, or a folder of binary masks per class.

A mask has its image's name, or its name and one ending that all masks share (``_L``, ``_mask``), in
place of one that all images share (``_leftImg8bit``, ``_gtFine_color``).
Its values are numbers, indices of a palette, or colours that a table names.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from cnnlens.data.ahead import read_ahead
from cnnlens.data.folder import existing_folder
from cnnlens.data.imports.label_names import Named, one_of_each_colour, read_names
from cnnlens.data.imports.mask_files import (
    VOID,
    Table,
    grey,
    is_nothing,
    packed,
    read_mask,
    table_of,
)
from cnnlens.data.imports.mask_names import Matched, by_class, one_each
from cnnlens.data.imports.source import (
    Left,
    Photo,
    Read,
    Source,
    Unusable,
    by_stem,
    lists,
    number,
    pictures,
    split_of,
    stacked,
)
from cnnlens.data.walk import list_files
from cnnlens.errors import CnnlensError, UsageError

IMAGES = ("images", "imgs", "image", "img", "leftImg8bit")  # Cityscapes' are the last
MASKS = ("masks", "mask", "labels", "annotations", "segmentations", "gtFine", "gtCoarse")
_AHEAD = 64

Progress = Callable[[int, int], None] | None


def open_masks(src: Path, names: Path | None = None, progress: Progress = None) -> Source:
    """Match masks with images, and find out what their values mean.

    Parameters
    ----------
    src : pathlib.Path
        The folder with ``images`` and ``masks``.
    names : pathlib.Path, optional
        Names of numbers or colours, as `read_names` reads them.
    progress : callable, optional
        Called with (masks read, masks in all) while all masks are read for their values, which is
        needed where names say no numbers.

    Raises
    ------
    CnnlensError
        When folders are missing, nothing matches, or what values mean cannot be known.
    """
    root = existing_folder(src)
    images = _folder(root, IMAGES)
    photos, twins = by_stem(_some(images, pictures(images)))
    folder, paths = _mask_paths(root, images)
    _some(folder, paths)
    named = read_names(names) if names is not None else []
    coloured = bool(named) and isinstance(named[0][0], tuple)
    matched = one_each(
        photos, paths, lambda path: _is_coloured(folder / path, coloured) == coloured
    )
    if matched.masks:
        meaning = _meaning(folder, list(matched.masks.values()), names, named, progress)
        source = _single(images, folder, photos, matched, paths, *meaning)
        source.left_out += twins
        return source
    classes = by_class(photos, paths)
    if classes:
        if names is not None:
            raise UsageError("--names is of no use here", f"folders in {folder} name the classes")
        source = _classes(images, folder, photos, classes)
        source.left_out += twins
        return source
    raise CnnlensError(
        f"no mask bears an image's name: {images.name} holds {next(iter(photos.values()))}, "
        f"{folder.name} holds {paths[0]}",
        "masks/0001.png goes with images/0001.jpg; so does masks/CLASS/0001.png",
    )


def _folder(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise CnnlensError(
        f"no folder {names[0]} in {root}; {lists(root)}",
        "masks are imported from a folder that holds images/ and masks/",
    )


def _some(folder: Path, paths: list[str]) -> list[str]:
    """The pictures of a folder, of which there must be some."""
    if not paths:
        passed = next(list_files(folder).notes(), "it is empty")
        raise CnnlensError(
            f"no pictures in {folder}: {passed}",
            "photos and masks are pictures: masks are PNG, TIFF or BMP",
        )
    return paths


def _mask_paths(root: Path, images: Path) -> tuple[Path, list[str]]:
    """The folder of masks, and those in it; `root` where classes stand beside the images."""
    beside = [entry for entry in root.iterdir() if entry.is_dir() and entry != images]
    if any(entry.name in MASKS for entry in beside) or not beside:
        folder = _folder(root, MASKS)
        return folder, pictures(folder)
    paths = [p for p in pictures(root) if not p.startswith(f"{images.name}/")]
    if not paths:
        _folder(root, MASKS)
    return root, paths


# ---- a mask per image


def _single(
    images: Path,
    folder: Path,
    photos: Mapping[str, str],
    matched: Matched,
    paths: Sequence[str],
    table: Table,
    labels: dict[int, str],
    notes: list[str],
) -> Source:
    single = matched.masks
    found = [
        Photo(images / photos[stem], photos[stem], _split(stem), partial(table.read, folder / path))
        for stem, path in sorted(single.items())
    ]
    left: list[Left] = [(path, "it has no mask") for s, path in photos.items() if s not in single]
    used = {*single.values(), *matched.others}
    left += [(path, "a mask without an image of its own") for path in paths if path not in used]
    return Source({"object": labels}, found, sorted(left), [*matched.notes, *notes])


def _is_coloured(path: Path, palettes: bool) -> bool:
    """Whether a mask that can be read holds colours, those of `palettes` among them."""
    try:
        return grey(read_mask(path, palettes)) is None
    except Unusable:
        return False


def _split(stem: str) -> str:
    return split_of(stem.rpartition("/")[0]) or "train"


def _meaning(
    folder: Path,
    paths: Sequence[str],
    names: Path | None,
    named: Named,
    progress: Progress,
) -> tuple[Table, dict[int, str], list[str]]:
    """Find out what masks' values mean by their names, or without: the labels, and what is said."""
    named, notes = one_of_each_colour(named)
    if not named:
        named, note = _unnamed(_values(folder, paths, progress))
        notes.append(note)
    elif named[0][0] is None:
        first = _first(names, [name for _, name in named], _values(folder, paths, progress))
        notes.append(f"{names} counts from {first}: {first} is {named[0][1]}")
        named = [(value, name) for value, (_, name) in enumerate(named, first)]
    table, labels = table_of([(value, name) for value, name in named if value is not None])
    return table, labels, notes


def _values(folder: Path, paths: Sequence[str], progress: Progress) -> list[int]:
    """All values of all masks that can be read; the first coloured one raises."""

    def look(index: int) -> list[int]:
        try:
            mask = read_mask(folder / paths[index])
        except Unusable:
            return []
        numbers = grey(mask)
        if numbers is None:
            raise _colours(paths[index], mask)
        return np.flatnonzero(np.bincount(numbers.ravel())).tolist()

    found: set[int] = set()
    order = range(len(paths))
    with closing(read_ahead(look, order, os.cpu_count() or 1, _AHEAD)) as results:
        for done, values in enumerate(results, 1):
            found.update(values)
            if progress is not None:
                progress(done, len(paths))
    return sorted(found)


def _colours(path: str, mask: np.ndarray) -> CnnlensError:
    codes = np.unique(packed(mask))[:3].tolist()
    shown = ", ".join(f"{c >> 16},{c >> 8 & 255},{c & 255}" for c in codes)
    return CnnlensError(
        f"{path} is coloured ({shown} …), and nothing says what its colours mean",
        "name them in a CSV with the columns name,r,g,b: --names colours.csv",
    )


def _unnamed(values: Sequence[int]) -> tuple[Named, str]:
    """Labels by number where nothing names them; one value beside 0 is called mask."""
    there = [value for value in values if value]
    if len(there) == 1:
        return [(there[0], "mask")], "masks of one value: their label is called mask"
    there = [value for value in there if value != VOID]
    named: Named = [(value, f"label {value}") for value in there]
    return named, (
        "labels are called by their numbers, 0 and 255 count as nothing; --names FILE names them"
    )


def _first(names: Path | None, listed: Sequence[str], values: Sequence[int]) -> int:
    """The number of the first of names that stand without numbers, where it can be known."""
    if is_nothing(listed[0]):
        return 0
    most = max((v for v in values if v != VOID or len(listed) >= VOID), default=0)
    if most == len(listed):
        return 1
    say = f"{names} has {len(listed)} names without numbers, and the masks' values go to {most}"
    raise UsageError(
        f"{say}: which is the first's cannot be known",
        f"write the numbers before the names: `1 {listed[0]}`",
    )


# ---- a folder per class


def _classes(
    images: Path, folder: Path, photos: Mapping[str, str], classes: dict[str, dict[str, str]]
) -> Source:
    named = [name for name in classes if not is_nothing(name)]
    labels = number(named)
    files: dict[str, dict[int, Path]] = defaultdict(dict)
    for n, name in zip(labels, named, strict=True):
        for stem, path in classes[name].items():
            files[stem][n] = folder / path
    found = [
        Photo(images / photos[stem], photos[stem], _split(stem), partial(_binary, of))
        for stem, of in sorted(files.items())
    ]
    left = [(path, "no class has a mask of it") for s, path in photos.items() if s not in files]
    return Source({"object": labels}, found, sorted(left), ["a folder of masks is a class"])


def _binary(files: Mapping[int, Path]) -> Read:
    """Lay the masks of one image's classes on planes."""
    masks = {n: _on(path) for n, path in files.items()}
    if len({mask.shape for mask in masks.values()}) > 1:
        raise Unusable("its masks are of several sizes")
    height, width = next(iter(masks.values())).shape
    return Read({"object": stacked(masks, (height, width))})


def _on(path: Path) -> np.ndarray:
    """The pixels (h, w) of a class: of two values, the larger."""
    values = read_mask(path)
    flat: np.ndarray = values if values.ndim == 2 else values.max(axis=2)
    found = np.unique(flat)
    if len(found) > 2:
        raise Unusable(f"{path.name} holds {len(found)} values, a mask of one class holds two")
    return (flat == found[-1]) & (found[-1] > 0)

"""CUB-200-2011 in its own layout: lists of images, species, boxes and part positions.

    images.txt               number  path below images/
    image_class_labels.txt   number  class
    classes.txt              class   name
    bounding_boxes.txt       number  left  top  width  height
    parts/parts.txt          part    name
    parts/part_locs.txt      number  part  x  y  visible
    train_test_split.txt     number  1 for training, 0 for testing

Beside it, where the synthetic animals have them, ``part_masks/`` with a picture of part numbers
for each photo. Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from cnnlens.data.parts import Fault, Masks, PartObject, PartSet, part_set
from cnnlens.data.splits import chosen
from cnnlens.errors import CnnlensError
from cnnlens.model.numbered import OutputName

MASKS = "part_masks"
SPLITS = "train_test_split.txt"
_TOLERATED = 0.05  # share of malformed lines that is passed over; more than this is fatal
_NUMBERED = re.compile(r"\d{3}\.(?=.)")  # 001.Black_footed_Albatross

Cell = TypeVar("Cell")


def open_cub(root: Path, split: str | None = None) -> PartSet:
    """Open a folder in CUB-200-2011's layout, or one that has some of its images alone.

    Parameters
    ----------
    root : pathlib.Path
        The folder.
    split : str, optional
        ``train`` or ``test``, as ``train_test_split.txt`` has them; left out, all images.

    Raises
    ------
    UsageError
        When there is no such split.
    CnnlensError
        When a table is missing or not of this layout, or no object is left.
    """
    faults: list[Fault] = []
    names = _table(root, "images.txt", 2, lambda c: (c[0], c[1]), faults)
    if split is not None:
        split = chosen(root, split, ("train", "test") if (root / SPLITS).is_file() else ())
        of = dict(_table(root, SPLITS, 2, lambda c: (c[0], int(c[1])), faults))
        names = [(n, path) for n, path in names if of.get(n) == int(split == "train")]
    kinds = dict(_table(root, "image_class_labels.txt", 2, lambda c: (c[0], c[1]), faults))
    titles = dict(_table(root, "classes.txt", 2, lambda c: (c[0], c[1]), faults))
    boxes = dict(_table(root, "bounding_boxes.txt", 5, _box, faults))
    parts = dict(_table(root, "parts/parts.txt", 2, lambda c: (c[0], c[1]), faults))
    shown: dict[str, dict[str, tuple[float, float]]] = {}
    for image, part, x, y, seen in _table(root, "parts/part_locs.txt", 5, _place, faults):
        if seen and part in parts:
            shown.setdefault(image, {})[parts[part]] = (y, x)
    things = []
    for number, path in names:
        if not _is_inside(path) or number not in boxes or number not in kinds:
            lacking = "box" if number not in boxes else "class"
            what = f"it has no {lacking}" if _is_inside(path) else "its path leads out of images/"
            faults.append(Fault(path, what))
            continue
        kind = _kind(kinds[number], titles)
        things.append(PartObject(f"images/{path}", kind, boxes[number], shown.get(number, {})))
    numbers = {part: place for place, part in enumerate(parts)}
    masks = _masks(root, things, numbers) if (root / MASKS).is_dir() else None
    files = [_mask_file(thing) for thing in things] if masks else []
    return replace(part_set(root, things, list(parts.values()), masks, faults, files), split=split)


def _kind(number: str, titles: Mapping[str, str]) -> str:
    """The name of a class, with its place where the classes are numbered from 1 on: networks are
    trained on folders in that order, which is not the alphabetical one of the bare names.
    """
    name = _NUMBERED.sub("", titles.get(number, number), count=1).replace("_", " ")
    if set(titles) != {str(n) for n in range(1, len(titles) + 1)} or number not in titles:
        return name
    return OutputName(name, int(number) - 1, len(titles))


def _table(
    root: Path, name: str, columns: int, read: Callable[[list[str]], Cell], faults: list[Fault]
) -> list[Cell]:
    """Read a table without header; malformed lines are named, many of them are an error."""
    found, bad = [], []
    total = 0
    for number, line in _lines(root / name):
        total += 1
        try:
            found.append(read(line.split(maxsplit=columns - 1)))
        except (ValueError, IndexError):
            bad.append(Fault(f"{name}, line {number}", f"not {columns} columns: {line[:60]!r}"))
    if len(bad) > _TOLERATED * total:
        raise CnnlensError(
            f"{root / name}, line {bad[0].where.split()[-1]}: {bad[0].what}",
            "this is not CUB-200-2011's layout, or the file is damaged",
        )
    faults += bad
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise CnnlensError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}",
            "CUB-200-2011 has it; unpack the archive again",
        ) from error
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise CnnlensError(f"{path} is empty", "unpack the archive again")
    yield from lines


def _box(cells: list[str]) -> tuple[str, tuple[float, float, float, float]]:
    left, top, width, height = (float(cell) for cell in cells[1:])
    return cells[0], (left, top, width, height)


def _place(cells: list[str]) -> tuple[str, str, float, float, bool]:
    return cells[0], cells[1], float(cells[2]), float(cells[3]), cells[4].strip() == "1"


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


def _mask_file(thing: PartObject) -> str:
    photo = PurePosixPath(thing.file.removeprefix("images/"))
    return str(MASKS / photo.with_suffix(".png"))


def _masks(
    root: Path, things: Sequence[PartObject], numbers: Mapping[str, int]
) -> Callable[[Sequence[int]], Masks]:
    """Read the pictures of part numbers, those of `kept` objects by their new positions."""

    def of(kept: Sequence[int]) -> Masks:
        def read(index: int) -> dict[int, np.ndarray]:
            from cnnlens.data.decode import load_image

            plane = np.asarray(load_image(root / _mask_file(things[kept[index]]), "L"))
            present = set(np.unique(plane).tolist())
            return {n: plane == int(part) for part, n in numbers.items() if int(part) in present}

        return read

    return of

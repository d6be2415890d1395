"""PASCAL VOC's segmentation: ``JPEGImages``, ``SegmentationClass``, ``ImageSets/Segmentation``.

Masks are palette PNGs whose indices are the classes (255: void, which counts as nothing), or drawn
in VOC's colours. With a ``labelmap.txt`` beside, as CVAT writes it, or a ``class_names.txt``, as
labelme's script does, its names count.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cnnlens.data.folder import existing_folder
from cnnlens.data.imports.mask_files import Colour, Table, grey, read_mask, table_of
from cnnlens.data.imports.source import Left, Photo, Read, Source, by_stem, lists, pictures
from cnnlens.errors import CnnlensError, UsageError

PHOTOS = "JPEGImages"
MASKS = ("SegmentationClassPNG", "SegmentationClass", "SegmentationClassAug")  # labelme's, once
NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_VOID = (224, 224, 192)


def open_voc(src: Path) -> Source:
    """Find the images that have masks; which split each is in.

    Raises
    ------
    CnnlensError
        When there is no such folder, or no mask in it.
    """
    root = _root(existing_folder(src))
    masks = _masks(root)
    photos, twins = by_stem(pictures(root / PHOTOS))
    splits = _splits(root)
    rows, whose = _rows(root)
    by_number, by_colour, labels = _tables(rows)
    found, left = [], twins
    for stem, mask in sorted(masks.items()):
        if stem not in photos:
            left.append((f"{stem}.jpg", f"missing in {PHOTOS}"))
            continue
        file, split = photos[stem], splits.get(stem, "unlisted" if splits else "train")
        read = partial(_read, mask, by_number, by_colour)
        found.append(Photo(root / PHOTOS / file, file, split, read))
    left += _without_mask(splits, masks)
    return Source({"object": labels}, found, left, [whose, "void (255) counts as nothing"])


def _root(src: Path) -> Path:
    """The folder of one year: `src`, or the only one below it."""
    below = [*sorted(src.glob("*")), *sorted(src.glob("VOCdevkit/*"))]
    fits = [
        f for f in [src, *below] if (f / PHOTOS).is_dir() and any((f / m).is_dir() for m in MASKS)
    ]
    if src in fits:
        return src
    if len(fits) > 1:
        raise UsageError(
            f"{src} holds several: {', '.join(f.name for f in fits)}", f"name one: {fits[-1]}"
        )
    if not fits:
        raise CnnlensError(
            f"no {PHOTOS} and {MASKS[0]} in {src}; {lists(src)}",
            "name the folder of one year, VOCdevkit/VOC2012",
        )
    return fits[0]


def _masks(root: Path) -> dict[str, Path]:
    folder = next(root / name for name in MASKS if (root / name).is_dir())
    return {stem: folder / path for stem, path in by_stem(pictures(folder))[0].items()}


def _splits(root: Path) -> dict[str, str]:
    """The split of each image that a list names: train, val or test, the first that has it."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if path.is_file():
            for line in path.read_text(encoding="utf-8-sig").splitlines():
                found.setdefault(line.split()[0], split) if line.strip() else None
    return found


def _without_mask(splits: dict[str, str], masks: dict[str, Path]) -> list[Left]:
    """Images that the lists of train and val name without a mask; test has none by design."""
    lost = [stem for stem, split in splits.items() if split != "test" and stem not in masks]
    return [(f"{stem}.jpg", f"{splits[stem]}.txt names it, and it has no mask") for stem in lost]


def _rows(root: Path) -> tuple[list[tuple[str, Colour]], str]:
    """Names and colours in the indices' order, and whose they are, for people."""
    listed, named = root / "labelmap.txt", root / "class_names.txt"
    if listed.is_file():
        return _labelmap(listed), f"names are those of {listed.name}"
    if named.is_file():
        names = [line.strip() for line in named.read_text(encoding="utf-8-sig").splitlines()]
        return _painted([name for name in names if name]), f"names are those of {named.name}"
    said = "names are VOC's twenty, as neither labelmap.txt nor class_names.txt says others"
    return _painted(["background", *NAMES]), said


def _painted(names: Sequence[str]) -> list[tuple[str, Colour]]:
    return [(name, voc_colour(n)) for n, name in enumerate(names)]


def _tables(rows: Sequence[tuple[str, Colour]]) -> tuple[Table, Table, dict[int, str]]:
    """What indices mean, what colours mean, and the labels."""
    by_number, labels = table_of([(n, name) for n, (name, _) in enumerate(rows)])
    number_of = {name: n for n, name in labels.items()}
    colours = {colour: number_of.get(" ".join(name.split()), 0) for name, colour in rows}
    return by_number, Table({_VOID: 0, **colours}, coloured=True), labels


def voc_colour(index: int) -> Colour:
    """VOC's colour of a class: its number's bits, dealt to the highest bits of red, green, blue."""
    r, g, b = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(8))
        for channel in range(3)
    )
    return r, g, b


def _labelmap(path: Path) -> list[tuple[str, Colour]]:
    """Read ``name:r,g,b:parts:actions`` a line; the lines' order is that of the indices."""
    rows = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            r, g, b = (int(channel) for channel in rest.partition(":")[0].split(","))
        except ValueError:
            raise CnnlensError(f"{path} has a line without a colour: {line.strip()}") from None
        rows.append((name, (r, g, b)))
    return rows


def _read(mask: Path, by_number: Table, by_colour: Table) -> Read:
    """Read a mask by its colours where all have a name, as tools may reorder a palette; else by its
    numbers, where it has some. Greys that are the numbers themselves are no colours.
    """
    values, colours = read_mask(mask), read_mask(mask, colours=True)
    numbers, greys = grey(values), grey(colours)
    if values.ndim == 2 and greys is not None and np.array_equal(greys, np.minimum(values, 255)):
        return by_number.of(values)
    drawn = by_colour.of(colours)
    return drawn if numbers is None or not drawn.odd else by_number.of(numbers)

"""Objects cut out of photos, with the places of their parts, and masks where there are any.

What every parts data set is, whatever its layout: each object is cropped to its box and stretched
to the network's input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.data.paths import file_source, state_of
from cnnlens.data.unread import UnreadFile, patiently
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.numbered import written

Masks = Callable[[int], Mapping[int, np.ndarray]]  # an object's: part → (h, w) bool, of the photo


@dataclass(frozen=True)
class Fault:
    """Something in a data set that was left out, and where it stands."""

    where: str
    what: str


@dataclass(frozen=True)
class PartObject:
    """One object as its layout's reader found it.

    Attributes
    ----------
    file : str
        The photo, below the data folder.
    category : str
        Its class.
    box : (float, float, float, float)
        Left, top, width and height in the photo, in pixels.
    places : mapping of str to (float, float)
        A part's centre (y, x) in the photo, in pixels, for every part that is shown.
    """

    file: str
    category: str
    box: tuple[float, float, float, float]
    places: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, eq=False, repr=False)
class PartSet(ImageSet):
    """An ordered list of objects.

    Attributes
    ----------
    files : tuple of str
        The photo of each object below `root`; `paths` count on where one shows several.
    boxes : numpy.ndarray
        (N, 4) int64: left, top, width, height in the photo, in pixels.
    parts : tuple of str
        Names, in the data's order.
    centres : numpy.ndarray
        (N, P, 2) float64, y and x in the crop as shares of its height and width; NaN where a
        part is not shown.
    masks : callable or None
        From an object's position to its parts' masks in the photo.
    mask_files : tuple of str
        The files below `root` that these are read from.
    faults : tuple of Fault
        Objects and parts that were left out.
    """

    files: tuple[str, ...] = ()
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    parts: tuple[str, ...] = ()
    centres: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 2)))
    masks: Masks | None = None
    mask_files: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    def file(self, index: int) -> Path:
        """Where the photo of an object is."""
        return self.root / self.files[index]

    def is_turned(self, index: int, stored: tuple[int, int], turned: tuple[int, int]) -> bool:
        """Whether an object's box fits the photo (H, W) as turned alone, not as it is stored."""
        left, top, width, height = (int(v) for v in self.boxes[index])
        fits = [top + height <= h + 1 and left + width <= w + 1 for h, w in (stored, turned)]
        return fits[1] and not fits[0]

    def load(self, index: int, mode: str = "RGB") -> Image.Image:
        """Decode a photo and cut the object out; beyond the photo's edge it is black."""
        from cnnlens.data.decode import DamagedImage

        photo = super().load(index, mode)
        left, top, width, height = (int(v) for v in self.boxes[index])
        if left >= photo.width or top >= photo.height or left + width <= 0 or top + height <= 0:
            raise DamagedImage(self.file(index), "its box lies outside of the picture")
        return photo.crop((left, top, left + width, top + height))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the photos' names, sizes and times, and of the boxes: equal hash, same crops."""
        photos = super().fingerprint
        return hashlib.sha256(photos.encode() + self.boxes.tobytes()).hexdigest()[:16]

    @cached_property
    def labels_fingerprint(self) -> str:
        """Hash of the categories and their numbers, of where the parts are, and of the masks'
        sizes and times.
        """
        names = "\0".join([*self.parts, "", written(self.image_categories or ())])
        content = names.encode("utf-8", "surrogateescape") + self.centres.tobytes()
        masks = ((file, self.root / file) for file in self.mask_files)
        return state_of(masks, content, exact=True)

    def part_masks(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Return an object's part masks (P, height, width) bool, stretched as the crop is."""
        found = np.zeros((len(self.parts), *size), bool)
        if self.masks is None:
            return found
        left, top, width, height = (int(v) for v in self.boxes[index])
        for part, mask in self.masks(index).items():
            crop = Image.fromarray(mask).crop((left, top, left + width, top + height))
            found[part] = np.asarray(crop.resize(size[::-1], Image.Resampling.NEAREST))
        return found

    def choose(self, names: Sequence[str] | None, merged: str | None = None) -> PartSet:
        """Keep some parts, and give all objects one category where `merged` names it.

        Raises
        ------
        UsageError
            For a part that the data does not have; the nearest name is offered.
        """
        chosen = self if merged is None else self._merged(merged)
        if not names:
            return chosen
        for name in names:
            if name not in self.parts:
                hint = did_you_mean(name, list(self.parts)) or f"it has {', '.join(self.parts)}"
                raise UsageError(f"{self.root} has no part '{name}'", hint)
        kept = [self.parts.index(name) for name in dict.fromkeys(names)]
        masks = self.masks

        def some(index: int) -> Mapping[int, np.ndarray]:
            every = masks(index) if masks else {}
            return {new: every[old] for new, old in enumerate(kept) if old in every}

        return replace(
            chosen,
            parts=tuple(self.parts[k] for k in kept),
            centres=self.centres[:, kept],
            masks=some if masks else None,
        )

    def take(self, positions: Sequence[int], called: str) -> Self:
        """Keep some objects, by position; the data's name says what they are `called`."""
        masks, rows = self.masks, list(positions)
        return replace(
            super().take(rows, called),
            files=tuple(self.files[row] for row in rows),
            boxes=self.boxes[rows],
            centres=self.centres[rows],
            masks=(lambda index: masks(rows[index])) if masks else None,
        )

    def _merged(self, name: str) -> PartSet:
        return replace(self, image_categories=(name,) * len(self.paths))


def part_set(
    root: Path,
    things: Sequence[PartObject],
    parts: Sequence[str],
    masks: Callable[[Sequence[int]], Masks] | None = None,
    faults: Sequence[Fault] = (),
    mask_files: Sequence[str] = (),
) -> PartSet:
    """Put a data set together; objects without area are left out.

    Parameters
    ----------
    root : pathlib.Path
        The data folder.
    things : sequence of PartObject
        All objects, in the data's order.
    parts : sequence of str
        Names of all parts.
    masks : callable, optional
        From the positions in `things` that were kept to a reader of their masks.
    faults : sequence of Fault
        What the layout's reader left out.
    mask_files : sequence of str
        Files below `root` that `masks` reads.

    Raises
    ------
    CnnlensError
        When no object is left.
    """
    boxes = np.array([_whole(thing.box) for thing in things], np.int64).reshape(-1, 4)
    kept = [i for i in range(len(things)) if boxes[i, 2] > 0 and boxes[i, 3] > 0]
    lost = [Fault(things[i].file, "its box has no area") for i in set(range(len(things))) - {*kept}]
    if not kept:
        raise CnnlensError(
            f"{root} holds no object with a box", "`cnnlens data check DIR` lists what is wrong"
        )
    number = {name: place for place, name in enumerate(parts)}
    centres = np.full((len(kept), len(parts), 2), np.nan)
    for row, index in enumerate(kept):
        left, top, width, height = boxes[index]
        for name, (y, x) in things[index].places.items():
            centres[row, number[name]] = (y - top) / height, (x - left) / width
    files = tuple(things[i].file for i in kept)
    found = PartSet(
        root=root,
        paths=_counted(files),
        kind="parts",
        image_categories=tuple(things[i].category for i in kept),
        files=files,
        boxes=boxes[kept],
        parts=tuple(parts),
        centres=centres,
        masks=masks(kept) if masks else None,
        mask_files=tuple(dict.fromkeys(mask_files)),
    )
    return replace(found, faults=(*faults, *lost, *_strays(found)))


def _whole(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Whole pixels that a box covers; no area for one that is no box."""
    left, top, width, height = box
    if not all(np.isfinite(box)) or width <= 0 or height <= 0:
        return 0, 0, 0, 0
    x, y = round(left), round(top)
    return x, y, max(round(left + width) - x, 1), max(round(top + height) - y, 1)


def _counted(files: Sequence[str]) -> tuple[str, ...]:
    """Give the second object of a photo another name, ``a.jpg#2``."""
    seen: dict[str, int] = {}
    names = []
    for file in files:
        seen[file] = seen.get(file, 0) + 1
        names.append(file if seen[file] == 1 else f"{file}#{seen[file]}")
    return tuple(names)


def _strays(found: PartSet) -> list[Fault]:
    """Forget parts outside of their photo; only those outside of the box need a look at it."""
    beyond = (found.centres < 0) | (found.centres > 1)  # (N, P, 2)
    outside: np.ndarray = np.any(beyond, axis=2)
    faults = []
    for index in np.flatnonzero(outside.any(axis=1)).tolist():
        size = _size(found.file(index))
        if size is None:
            continue  # damaged: met again, and named, when it is decoded
        left, top, width, height = found.boxes[index]
        for part in np.flatnonzero(outside[index]):
            y, x = found.centres[index, part] * (height, width) + (top, left)
            if not (0 <= y <= size[1] and 0 <= x <= size[0]):
                found.centres[index, part] = np.nan
                what = f"the part {found.parts[part]} lies outside of the picture"
                faults.append(Fault(found.paths[index], what))
    return faults


def _size(path: Path) -> tuple[int, int] | None:
    def read() -> tuple[int, int]:
        with Image.open(file_source(path)) as image:
            return image.size

    try:
        return patiently(path, read)
    except UnreadFile:
        raise
    except Exception:  # whatever it is, `load` says it better
        return None

"""From images with label masks of any kind to a folder in Broden's layout.

A kind of data set says where its images are and how the labels of one are read (`Source`); images
are looked at in threads and written as they come, so that memory does not grow with their number.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.data.ahead import read_ahead
from cnnlens.data.decode import DamagedImage, load_image
from cnnlens.data.imports.source import (
    NAMED,
    PLANES,
    Left,
    Photo,
    Read,
    Size,
    Source,
    Unusable,
    safe_names,
)
from cnnlens.data.imports.turns import BACK, Laid, Unsure, laid, notes_of, shown_by, sides_of
from cnnlens.data.tables import FIXED, LARGEST_SIDE, Numbers, Tally, save_plane, shares
from cnnlens.errors import CnnlensError, counted
from cnnlens.files import write_json
from cnnlens.files.tables import write_csv

_AHEAD = 64
_ORIENTATION = 0x0112

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class _Done:
    row: list[object]
    shares: dict[int, float]
    read: Read
    laid: Laid  # without its planes


def write_source(
    source: Source,
    folder: Path,
    *,
    link: bool = False,
    progress: Progress = None,
) -> dict[str, Any]:
    """Write a data set in Broden's layout.

    Parameters
    ----------
    source : Source
        What to write.
    folder : pathlib.Path
        An empty folder.
    link : bool
        Hard links to the images instead of copies, where the file system has them.
    progress : callable, optional
        Called with (images looked at, images in all).

    Returns
    -------
    dict
        ``images``, ``skipped`` (image, reason), ``labels`` per category, ``notes``; also written
        as ``import.json``.

    Raises
    ------
    CnnlensError
        When no image can be used.
    """
    names = safe_names(photo.name for photo in source.photos)
    left, tally = list(source.left_out), Tally()
    odd, said = Counter[str](), Counter[str]()
    rows: list[list[object]] = []
    turns: list[Laid] = []
    (folder / "images" / PLANES).mkdir(parents=True)
    for result in _all_brought(source, names, folder / "images", link, progress):
        if isinstance(result, tuple):
            left.append(result)
        else:
            rows.append(result.row)
            tally.add(result.shares)
            odd.update(result.read.odd)
            said.update(result.read.said)
            turns.append(result.laid)
    if not rows:
        raise _none(left)
    seen = _seen(source.numbers, tally)
    write_csv(folder / "index.csv", [*FIXED, *source.numbers], rows)
    tally.write(folder, seen)
    told = [f"{what} ({counted(count, 'image')})" for what, count in sorted(said.items())]
    notes = [*source.notes, *_odd_notes(odd), *told, *notes_of(turns)]
    summary = _summary(rows, left, seen, notes)
    write_json(folder / "import.json", summary)
    return summary


def _all_brought(
    source: Source, names: Sequence[str], images: Path, link: bool, progress: Progress
) -> list[_Done | Left]:
    """Bring every image with its labels, some at once, and those last whose labels fit in two ways;
    return them in their order, those that cannot be used, too.
    """
    found: dict[int, _Done | Left] = {}

    def bring(index: int, as_those: frozenset[str] | None) -> _Done | Left | None:
        photo = source.photos[index]
        try:
            return _bring(photo, names[index], index, images, source.numbers, link, as_those)
        except (DamagedImage, Unusable) as wrong:
            return photo.name, wrong.reason
        except Unsure:
            return None

    def bring_all(order: Sequence[int], as_those: frozenset[str] | None = None) -> None:
        look = partial(bring, as_those=as_those)
        with closing(read_ahead(look, order, os.cpu_count() or 1, _AHEAD)) as results:
            for index, result in zip(order, results, strict=True):
                if result is not None:
                    found[index] = result
                    if progress is not None:
                        progress(len(found), len(names))

    bring_all(range(len(names)))
    done = [one.laid for one in found.values() if isinstance(one, _Done)]
    bring_all([index for index in range(len(names)) if index not in found], shown_by(done))
    return [found[index] for index in range(len(names))]


def _none(left: Sequence[Left]) -> CnnlensError:
    if not left:
        return CnnlensError("no image has a label: there is nothing to import")
    named = "; ".join(f"{image}: {reason}" for image, reason in left[:3])
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    return CnnlensError(f"none of {len(left)} images can be imported ({named}{more})")


def _seen(numbers: Numbers, tally: Tally) -> Numbers:
    """Labels that some image shows, and their categories."""
    kept = {
        category: {n: name for n, name in names.items() if tally.frequency.get(n)}
        for category, names in numbers.items()
    }
    if not any(kept.values()):
        raise CnnlensError(
            "not one image shows a label: every mask is empty, or none of its values has a name"
        )
    return {category: names for category, names in kept.items() if names}


def _summary(
    rows: Sequence[object], left: Sequence[Left], seen: Numbers, notes: list[str]
) -> dict[str, Any]:
    return {
        "images": len(rows),
        "skipped": [{"image": image, "reason": reason} for image, reason in left],
        "labels": {category: len(names) for category, names in seen.items()},
        "notes": notes,
    }


def _odd_notes(odd: Counter[str]) -> list[str]:
    if not odd:
        return []
    most = sorted(odd.items(), key=lambda one: (-one[1], one[0]))
    named = ", ".join(f"{what} ({counted(count, 'image')})" for what, count in most[:NAMED])
    more = f" and {len(most) - NAMED} more" if len(most) > NAMED else ""
    return [f"without a name, so that it counts as nothing: {named}{more}"]


# ---- one image


def _bring(
    photo: Photo,
    name: str,
    index: int,
    images: Path,
    numbers: Numbers,
    link: bool,
    as_those: frozenset[str] | None,
) -> _Done:
    """Check an image and its labels, write both, and give its row."""
    size, turn = _look(photo.file)
    read = photo.labels()
    found = laid(read.cells, size, turn, as_those)
    cells, sides = found.cells, sides_of(found.cells) or size
    _place(photo.file, images / name, turn != 1, link)
    written = [_written(images, index, category, cells.get(category, [])) for category in numbers]
    row = [name, photo.split, *size, *sides, *written]
    return _Done(row, shares(cells), replace(read, cells={}), replace(found, cells={}))


def _look(file: Path) -> tuple[Size, int]:
    """Give an image's size as stored, and its EXIF orientation (1: none); decode all of it."""
    load_image(file)
    with Image.open(file) as image:
        size, turn = (image.height, image.width), _orientation(image)
        if turn != 1 and image.format not in ("JPEG", "MPO"):
            raise Unusable("it bears an EXIF turn and is no JPEG: save it upright")
    if max(size) > LARGEST_SIDE:
        raise Unusable(f"it is {size[0]}×{size[1]} pixels, more than {LARGEST_SIDE} on a side")
    return size, turn


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken tag does not make the picture unreadable
        return 1
    return found if found in BACK else 1


def _place(file: Path, target: Path, turned: bool, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if turned:
        target.write_bytes(without_exif(file.read_bytes()))
        return
    if link:
        try:
            os.link(file.resolve(), target)
            return
        except OSError:  # another file system, or one without hard links
            pass
    shutil.copyfile(file, target)


def without_exif(data: bytes) -> bytes:
    """Leave a JPEG's EXIF and XMP segments out: the same pixels, no turn."""
    kept, place = [data[:2]], 2
    while data[place] == 0xFF and data[place + 1] != 0xDA:  # up to the start of the scan
        if data[place + 1] == 0xFF:  # padding
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] != 0xE1:
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])


def _written(images: Path, index: int, category: str, items: Sequence[np.ndarray | int]) -> str:
    """Write the planes of a cell, and give its text."""
    parts = []
    for place, item in enumerate(items):
        if isinstance(item, int):
            parts.append(str(item))
            continue
        name = f"{PLANES}/{index:06}-{category}{f'-{place + 1}' if place else ''}.png"
        save_plane(images / name, item)
        parts.append(name)
    return ";".join(parts)

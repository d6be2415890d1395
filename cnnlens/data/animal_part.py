"""Animal-Part, and VOC-Part as the interpretable-CNN authors repackaged it: ``truth_partNN.mat``.

    <category>/truth_part01.mat       struct array `truth`: pHW_center, pHW_scale (rows, columns in
                                      a crop of 224×224), obj: folder, filename, bndbox, ID
    <category>_obj/img/img/00001.jpg  the photos of Animal-Part, by ID
    JPEGImages/2008_000054.jpg        those of PASCAL VOC, by file name

Zhang et al., "Interpretable Convolutional Neural Networks", CVPR 2018, §5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cnnlens.data.matlab import listed, read_mat
from cnnlens.data.parts import Fault, PartObject, PartSet, part_set
from cnnlens.errors import CnnlensError

PATTERN = "truth_part*.mat"
_FRAME = 224  # the crop's side that positions are given in
_ENDINGS = ("", ".jpg", ".JPEG", ".jpeg", ".png")

Key = tuple[str, int, str]  # category, the object's number, its file name


def open_animal_part(root: Path) -> PartSet:
    """Open a folder with a folder of ``truth_partNN.mat`` per category.

    Raises
    ------
    CnnlensError
        When a file is damaged or not of this layout, or the photos are missing.
    """
    faults: list[Fault] = []
    objects: dict[Key, Any] = {}
    places: dict[Key, dict[str, tuple[float, float]]] = {}
    parts: dict[str, None] = {}
    for file in sorted(root.glob(f"*/{PATTERN}")):
        category = file.parent.name
        part = f"part {int(re.sub(r'[^0-9]', '', file.stem) or 0):02d}"
        parts[part] = None
        for number, (obj, centre) in enumerate(_rows(file), 1):
            key = (category, int(_number(obj.get("ID"), number)), str(obj.get("filename", "")))
            objects.setdefault(key, obj)
            places.setdefault(key, {})[part] = centre
    things = []
    for key, obj in objects.items():
        box = _box(obj)
        photo = _photo(root, key, obj)
        if box is None or photo is None:
            what = "its photo is not there" if box else "its box is malformed"
            faults.append(Fault(f"{key[0]}, object {key[1]} ({key[2]})", what))
            continue
        left, top, width, height = box
        at = {
            part: (top + y * height / _FRAME, left + x * width / _FRAME)
            for part, (y, x) in places[key].items()
        }
        things.append(PartObject(photo, key[0], box, at))
    if not things:
        raise CnnlensError(
            f"{root} holds {len(objects)} annotated objects and none of their photos",
            "put Animal-Part's folders `<category>_obj` beside `<category>`, or PASCAL VOC's "
            "JPEGImages",
        )
    return part_set(root, things, list(parts), faults=faults)


def _rows(file: Path) -> Iterator[tuple[dict[str, Any], tuple[float, float]]]:
    """Yield every object that shows the part, with the part's centre."""
    content = read_mat(file)
    truth = listed(content.get("truth", ()))
    if "truth" not in content or not all(isinstance(row, dict) for row in truth):
        raise CnnlensError(
            f"{file} holds no struct array 'truth'", f"it has {', '.join(content) or 'nothing'}"
        )
    for row in truth:
        centre = np.asarray(row.get("pHW_center", ()), float).ravel()
        obj = row.get("obj")
        if len(centre) == 2 and isinstance(obj, dict) and np.isfinite(centre).all():
            yield obj, (float(centre[0]), float(centre[1]))


def _number(value: Any, otherwise: int) -> float:
    try:
        return float(np.asarray(value, float).ravel()[0])
    except (TypeError, ValueError, IndexError):
        return otherwise


def _box(obj: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Left, top, width, height; MATLAB counts pixels from 1, and the last one is inside."""
    sides = obj.get("bndbox")
    try:
        assert isinstance(sides, dict)
        left, top, right, bottom = (float(sides[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
    except (AssertionError, KeyError, TypeError, ValueError):
        return None
    return left - 1, top - 1, right - left + 1, bottom - top + 1


def _photo(root: Path, key: Key, obj: dict[str, Any]) -> str | None:
    category, number, name = key
    folder = str(obj.get("folder", "")).strip("./")
    places = [f"{category}_obj/img/img/{number:05d}.jpg"]
    places += [f"{at}/{name}" for at in ("JPEGImages", "images", folder, category) if at and name]
    for place in places:
        if ".." in PurePosixPath(place).parts:
            continue
        for ending in _ENDINGS:
            if (root / (place + ending)).is_file():
                return place + ending
    return None

"""COCO: ``annotations/instances_*.json`` with polygons and run lengths, images in folders beside.

Also LVIS, PACO and what annotation tools export in COCO's format; ``stuff_*.json`` gives a category
of its own, and categories of supercategory PART are parts. ``panoptic_*.json`` (see `panoptic`) is
read where it is named, or there is no other. Of an image's instances of one name, crowd regions
included, the union counts; where two names overlap, both are kept.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.data.folder import existing_folder
from cnnlens.data.imports.coco_masks import mask_of, segments
from cnnlens.data.imports.coco_places import Places
from cnnlens.data.imports.json_lists import element_at, elements, first_of
from cnnlens.data.imports.source import (
    NAMED,
    Left,
    Photo,
    Read,
    Size,
    Source,
    Unusable,
    lists,
    number,
    split_of,
    stacked,
)
from cnnlens.data.tables import LARGEST_SIDE
from cnnlens.errors import CnnlensError, counted

_PARTS = ("part", "parts")  # supercategories whose categories are parts
_EMPTY = "masks that cover no pixel (polygons are in pixels): taken for nothing"
_OF_CVAT = "; of CVAT's formats export COCO, or Segmentation mask for `data import voc`"
_LABELME = "these are labelme's: its labelme2voc.py writes what `data import voc` reads"
_REST = "other"  # in COCO's files of stuff the union of all things, which is no stuff

Label = tuple[str, str]  # category of Broden's layout, name


@dataclass
class _File:
    """One annotation file: its categories, images, and where each image's annotations are."""

    path: Path
    labels: dict[Any, tuple[Label, str]] = field(
        default_factory=dict
    )  # by id: label, supercategory
    images: dict[Any, Mapping[str, Any]] = field(default_factory=dict)
    places: dict[Any, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    maps: dict[Any, str] = field(default_factory=dict)  # pictures of segments, by image
    masks = boxes = crowds = 0
    shapes = False  # whether it is labelme's
    some_alone = False  # whether its images were searched for some categories only, as LVIS'

    @property
    def stuff(self) -> bool:
        return self.path.name.startswith("stuff")


def open_coco(src: Path, *, supercategories: bool = False) -> Source:
    """Read the annotation files of a folder, or the one file that `src` is.

    Parameters
    ----------
    src : pathlib.Path
        The folder with ``annotations`` and the folders of images.
    supercategories : bool
        A category ``supercategory`` beside ``object``.

    Raises
    ------
    CnnlensError
        When there are no annotation files, none holds masks, or there are no images.
    """
    root = _above(src) if src.is_file() else src
    paths, passed = _annotation_files(existing_folder(root), src)
    every = [_read(path) for path in paths]
    files = [one for one in every if one.masks]
    if not files:
        beside = f" ({passed[0]})" if passed else ""
        raise CnnlensError(
            f"{src} has no masks: no annotation file has categories and segmentations{beside}",
            _LABELME
            if any(one.shapes for one in every)
            else "boxes alone, keypoints and captions say nothing about pixels",
        )
    numbers = _numbers(files, supercategories)
    photos, left = _photos(root, files, numbers)
    return Source(numbers, photos, left, [*_notes(files), *passed])


def _above(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _annotation_files(root: Path, src: Path) -> tuple[list[Path], list[str]]:
    """The files of instances and stuff; where no file is called so, all that are JSON objects; and
    what is said of those that are none.
    """
    if src != root:
        return [src], []
    found = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(".json") and not name.startswith(".")
    )
    usual = [path for path in found if path.name.startswith(("instances", "stuff"))]
    usual = usual or [path for path in found if path.name.startswith("panoptic")]
    if not found:
        raise CnnlensError(
            f"no annotations/instances_*.json in {root}; {lists(root)}",
            "name the folder that holds annotations/ and the images"
            + ("" if next(root.rglob("annotations.xml"), None) is None else _OF_CVAT),
        )
    if usual:
        return usual, []
    others = [path for path in found if _is_other(path)]
    said = f"no JSON objects, passed over: {', '.join(path.name for path in others[:NAMED])}"
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return [path for path in found if path not in others], [said + more] if others else []


def _is_other(path: Path) -> bool:
    """Whether a file holds JSON that is no object: a list of results, as detectors write it."""
    try:
        return first_of(path) not in ("{", "")
    except OSError:
        return False  # reading it says why


def _read(path: Path) -> _File:
    one = _File(path)
    for key, offset, length, value in elements(path):
        if not isinstance(value, dict):
            continue
        if any(isinstance(value.get(name), dict | list) for name in ("id", "image_id")):
            raise CnnlensError(f"{path} is damaged: an id at byte {offset} is no number")
        if key == "categories" and "name" in value:
            one.labels[value.get("id")] = _label(one, value)
        elif key == "shapes":
            one.shapes = True
        elif key == "images":
            one.images[value.get("id")] = {
                name: value.get(name) for name in ("file_name", "coco_url", "height", "width")
            }
            one.some_alone |= "neg_category_ids" in value
        elif key == "annotations" and "segments_info" in value:
            one.places[value.get("image_id")].append((offset, length))
            one.maps[value.get("image_id")] = str(value.get("file_name"))
            one.masks += len(value["segments_info"])
        elif key == "annotations" and value.get("segmentation"):
            one.places[value.get("image_id")].append((offset, length))
            one.masks += 1
            one.crowds += bool(value.get("iscrowd"))
        elif key == "annotations":
            one.boxes += 1
    if not one.labels or not one.images:
        one.masks = 0
    return one


def _label(one: _File, category: Mapping[str, Any]) -> tuple[Label, str]:
    name = " ".join(str(category["name"]).split())
    above = " ".join(str(category.get("supercategory") or "").split())
    if above.lower() in _PARTS:
        return ("part", name), ""
    if "isthing" in category:
        return ("object" if category["isthing"] else "stuff", name), above
    if one.stuff and name == _REST:
        return ("", name), ""
    return ("stuff" if one.stuff else "object", name), above


def _numbers(files: Sequence[_File], supercategories: bool) -> dict[str, dict[int, str]]:
    labels = [found for one in files for found in one.labels.values()]
    names: dict[str, list[str]] = defaultdict(list)
    for (category, name), _ in labels:
        if category:
            names[category].append(name)
    if supercategories:
        names["supercategory"] = sorted({above for _, above in labels if above})
    numbers, first = {}, 1
    for category, found in names.items():
        numbers[category] = number(list(dict.fromkeys(found)), first)
        first += len(numbers[category])
    return {category: of for category, of in numbers.items() if of}


def _called(one: _File, files: Sequence[_File]) -> str:
    """Name a file, with its folder where several are called so."""
    alike = sum(other.path.name == one.path.name for other in files)
    return one.path.name if alike == 1 else f"{one.path.parent.name}/{one.path.name}"


def _notes(files: Sequence[_File]) -> list[str]:
    notes = [
        f"{_called(one, files)}: {counted(one.masks, 'mask')} on "
        f"{counted(len(one.images), 'image')}"
        for one in files
    ]
    if crowds := sum(one.crowds for one in files):
        notes.append(f"{counted(crowds, 'crowd region')}: taken for what is crowded there")
    if boxes := sum(one.boxes for one in files):
        notes.append(f"{counted(boxes, 'annotation')} without a mask: taken for nothing")
    if any(one.some_alone for one in files):
        notes.append(
            "each image was searched for some categories alone (neg_category_ids): others that it "
            "may show are taken for not there"
        )
    if lost := sum(len(one.places.keys() - one.images.keys()) for one in files):
        notes.append(f"annotations of {counted(lost, 'image')} that no file lists: passed over")
    return notes


# ---- images


def _photos(
    root: Path, files: Sequence[_File], numbers: Mapping[str, Mapping[int, str]]
) -> tuple[list[Photo], list[Left]]:
    """One photo per image file, whatever number of annotation files know it."""
    known = {(category, name): n for category, of in numbers.items() for n, name in of.items()}
    places = Places(root)
    left: dict[tuple[str, str], Left] = {}  # of instances and stuff, once
    found: dict[str, list[tuple[_File, Any]]] = defaultdict(list)
    for one in files:
        for image, entry in one.images.items():
            wanted = _wanted(entry) or f"image {image}"
            try:
                if image in one.maps:
                    one.maps[image] = str(root / places.find_map(one.maps[image], one.path))
                found[places.find(wanted, one.path)].append((one, image))
            except Unusable as unusable:
                left[split_of(one.path.stem), wanted] = (wanted, unusable.reason)
    photos = [
        Photo(
            root / path,
            path,
            split_of(of[0][0].path.stem) or split_of(path) or "train",
            partial(_labels, root / path, of, known),
        )
        for path, of in sorted(found.items())
    ]
    return photos, list(left.values())


def _wanted(entry: Mapping[str, Any]) -> str:
    """An image's name in its file; LVIS has addresses only, whose end is folder and name."""
    name = entry["file_name"] or "/".join(str(entry["coco_url"] or "").split("/")[-2:])
    return str(name).replace("\\", "/")


# ---- the labels of one image


def _labels(image: Path, of: Sequence[tuple[_File, Any]], known: Mapping[Label, int]) -> Read:
    size = _size(image, of[0][0].images[of[0][1]])
    masks: dict[str, dict[int, np.ndarray]] = {}
    empty = False
    for one, image_id in of:
        # what nothing is drawn of is known not to be there; parts are drawn on some images only
        drawn = ("object", "stuff") if one.maps else ("stuff" if one.stuff else "object",)
        for category in (*drawn, "supercategory"):
            masks.setdefault(category, {})
        for (category, name), above, mask in _masks(one, image_id, size):
            empty |= not mask.any()
            for label in ((category, name), ("supercategory", above)):
                if label in known:
                    of_category = masks.setdefault(label[0], {})
                    union = of_category.setdefault(known[label], np.zeros(size, bool))
                    union |= mask
    kinds = {category for category, _ in known}
    cells = {kind: stacked(some, size) for kind, some in masks.items() if kind in kinds}
    return Read(cells, said=(_EMPTY,) if empty else ())


def _masks(one: _File, image: Any, size: Size) -> Iterator[tuple[Label, str, np.ndarray]]:
    with one.path.open("rb") as file:
        for offset, length in one.places.get(image, ()):
            annotation = element_at(file, offset, length)
            if image in one.maps:
                yield from segments(Path(one.maps[image]), annotation, one.labels, size)
                continue
            category = annotation.get("category_id")
            if category not in one.labels:
                raise Unusable(f"{_named(annotation)} is of category {category}, which has no name")
            try:
                yield *one.labels[category], mask_of(annotation["segmentation"], size)
            except ValueError as error:
                raise Unusable(f"{_named(annotation)} has {error}") from None


def _named(annotation: Mapping[str, Any]) -> str:
    return f"annotation {annotation.get('id')}"


def _size(image: Path, entry: Mapping[str, Any]) -> Size:
    """(H, W) as the file says; an image's own where it says nothing."""
    height, width = entry["height"], entry["width"]
    if all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in (height, width)):
        return height, width
    with Image.open(image) as opened:
        return opened.height, opened.width

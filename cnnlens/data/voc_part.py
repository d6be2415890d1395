"""VOC-Part in its own layout: ``Annotations_Part/*.mat`` beside PASCAL VOC 2010's ``JPEGImages``.

A file holds `anno`: imname, objects: class, mask, parts: part_name, mask. An object's box is that
of its mask; a part's centre that of its box. Reading all masks takes minutes, so that boxes and
centres are kept in the platform's data folder.

Chen et al., "Detect What You Can: Detecting and Representing Objects using Holistic Models and
Body Parts", CVPR 2014.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.data.animal_part import listed, read_mat
from cnnlens.data.parts import Fault, Masks, PartObject, PartSet, part_set
from cnnlens.data.paths import state_of
from cnnlens.data.unread import UnreadFile
from cnnlens.errors import CnnlensError
from cnnlens.files import read_json, write_json
from cnnlens.files.user_tables import read_user_table

ANNOTATIONS, PHOTOS = "Annotations_Part", "JPEGImages"


def open_voc_part(root: Path) -> PartSet:
    """Open VOC-Part: objects of the categories in the table of merges.

    Raises
    ------
    CnnlensError
        When there are no photos or annotations, or the table of merges is damaged.
    """
    if not (root / PHOTOS).is_dir():
        raise CnnlensError(
            f"{root} holds VOC-Part's annotations but not its images",
            f"put the {PHOTOS} folder of PASCAL VOC 2010 beside {ANNOTATIONS}",
        )
    merges = read_merges(root)
    files = sorted((root / ANNOTATIONS).glob("*.mat"))
    entries = _index(root, files, merges)
    faults, things, places = [], [], []
    for file, entry in zip(files, entries, strict=True):
        if isinstance(entry, str):
            faults.append(Fault(f"{ANNOTATIONS}/{file.name}", entry))
            continue
        for number, category, box, parts in entry:
            at = {name: (y, x) for name, (y, x) in parts.items()}
            left, top, width, height = box
            photo = f"{PHOTOS}/{file.stem}.jpg"
            things.append(PartObject(photo, category, (left, top, width, height), at))
            places.append((file, number))
    names = list(dict.fromkeys(m for c in merges.values() for m in c.values()))
    masks = [f"{ANNOTATIONS}/{file.name}" for file, _ in places]
    return part_set(root, things, names, _masks(places, names, merges), faults, [*masks, TABLE])


def _index(root: Path, files: Sequence[Path], merges: Merges) -> list[Any]:
    """Per file its objects (number, category, box, part centres), or why it has none."""
    from cnnlens.files.home import home

    state = state_of((file.name, file) for file in files)
    made_from = json.dumps([str(root.resolve()), state, merges], sort_keys=True)
    mark = hashlib.sha256(made_from.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    kept = home() / "index" / f"voc-part-{mark}.json"
    if kept.exists():
        try:
            return list(read_json(kept))
        except CnnlensError:
            kept.unlink(missing_ok=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda file: _entry(file, merges), files))
    with suppress(CnnlensError):  # where there is no room to keep it, it is read again
        write_json(kept, found)
    return found


def _entry(file: Path, merges: Merges) -> list[Any] | str:
    try:
        objects = _objects(file)
    except UnreadFile:  # else it would be left out for good
        raise
    except CnnlensError as error:
        return error.message
    found = []
    for number, thing in enumerate(objects):
        category = str(thing["class"])
        if category not in merges:
            continue
        box = _box(np.asarray(thing["mask"], bool))
        parts = {}
        for name, mask in _merged(thing, merges[category]).items():
            left, top, width, height = _box(mask)
            if width:
                parts[name] = [top + height / 2, left + width / 2]
        found.append([number, category, box, parts])
    return found


def _objects(file: Path) -> list[dict[str, Any]]:
    content = read_mat(file)
    try:
        objects = listed(content["anno"]["objects"])
        for thing in objects:
            if not isinstance(thing["class"], str) or np.ndim(thing["mask"]) != 2:
                raise TypeError
            thing["parts"] = listed(thing["parts"])
    except (KeyError, TypeError) as error:
        raise CnnlensError(f"{file} holds no annotation of VOC-Part") from error
    return objects


def _merged(thing: dict[str, Any], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Masks (h, w) bool of the parts as they are counted."""
    found: dict[str, np.ndarray] = {}
    for part in thing["parts"]:
        name = names.get(str(part["part_name"]))
        if name is not None:
            mask = np.asarray(part["mask"], bool)
            found[name] = found[name] | mask if name in found else mask
    return found


def _box(mask: np.ndarray) -> list[int]:
    """Left, top, width, height; all 0 for an empty mask."""
    if not mask.any():
        return [0, 0, 0, 0]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return [int(v) for v in (columns[0], rows[0], width, height)]


def _masks(
    places: Sequence[tuple[Path, int]], names: Sequence[str], merges: Merges
) -> Callable[[Sequence[int]], Masks]:
    numbers = {name: place for place, name in enumerate(names)}

    def of(kept: Sequence[int]) -> Masks:
        def read(index: int) -> dict[int, np.ndarray]:
            file, number = places[kept[index]]
            thing = _objects(file)[number]
            found = _merged(thing, merges[str(thing["class"])])
            return {numbers[name]: mask for name, mask in found.items()}

        return read

    return of


TABLE = "part_merges.csv"  # a user's own, beside Annotations_Part: category, part, merged

Merges = dict[str, dict[str, str]]  # category → part as annotated → part as counted

_EYES = ("leye", "reye")
_EARS = ("lear", "rear")
_TORSO = ("torso", "neck")


def _legs(side: str, *segments: str) -> list[str]:
    """Left and right legs of one side, front (f) or back (b)."""
    return [f"{lr}{side}{segment}" for lr in "lr" for segment in segments]


def _with_paws() -> dict[str, list[str]]:
    return {
        "head": ["head", *_EYES, *_EARS, "nose", "muzzle"],
        "torso": [*_TORSO],
        "front legs": _legs("f", "leg", "pa"),
        "back legs": _legs("b", "leg", "pa"),
        "tail": ["tail"],
    }


def _with_hooves() -> dict[str, list[str]]:
    return {
        "head": ["head", *_EYES, *_EARS, "nose", "muzzle", "lhorn", "rhorn"],
        "torso": [*_TORSO],
        "front legs": _legs("f", "uleg", "lleg", "ho"),
        "back legs": _legs("b", "uleg", "lleg", "ho"),
    }


_BIRD = {
    "head": ["head", "beak", *_EYES],
    "torso": [*_TORSO, "lwing", "rwing"],
    "leg": ["lleg", "rleg", "lfoot", "rfoot"],
    "tail": ["tail"],
}
_MERGED = {
    "bird": _BIRD,
    "cat": _with_paws(),
    "cow": _with_hooves(),
    "dog": _with_paws(),
    "horse": _with_hooves(),
    "sheep": _with_hooves(),
}
PAPER: Merges = {
    category: {part: name for name, parts in merged.items() for part in parts}
    for category, merged in _MERGED.items()
}


def read_merges(root: Path) -> Merges:
    """Read a data set's own table where it has one, else the paper's.

    Raises
    ------
    CnnlensError
        When the table is damaged or empty.
    """
    path = root / TABLE
    if not path.exists():
        return PAPER
    found: Merges = {}
    for _, row in read_user_table(path, ("category", "part", "merged")):
        found.setdefault(row["category"], {})[row["part"]] = row["merged"]
    if not found:
        raise CnnlensError(f"{path} is empty", "remove it, and the paper's merges count")
    return found

"""ADE20K: the 150 classes of the scene parsing challenge, or the full set with its parts.

The challenge's masks are numbers, named by ``objectInfo150.txt``. The full set's ``*_seg.png`` hold
a class as R/10·256 + G and an instance as B; the ``*_atr.txt`` or ``.json`` beside names the
instances, ``*_parts_1.png`` is the same for their parts. Its index is a pickle, and not needed.

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.data.folder import existing_folder
from cnnlens.data.imports.mask_files import Table, read_mask, table_of
from cnnlens.data.imports.source import (
    Left,
    Photo,
    Read,
    Source,
    Unusable,
    lists,
    number,
    pictures,
    split_of,
)
from cnnlens.data.unread import patiently
from cnnlens.errors import CnnlensError

_INFO = "objectInfo150.txt"
_SCENES = "sceneCategories.txt"
_SEG, _PARTS = "_seg.png", "_parts_1.png"

Labels = Mapping[tuple[str, str], int]  # number by category and name


def open_ade20k(src: Path) -> Source:
    """Read either of the two layouts, whichever is in the folder.

    Raises
    ------
    CnnlensError
        When neither is there, or names are missing.
    """
    root = _root(existing_folder(src))
    if (root / "annotations").is_dir():
        return _challenge(root)
    return _full(root)


def _root(src: Path) -> Path:
    """`src`, or the only folder below it, which holds images with annotations or full masks."""
    for root in (src, *sorted(entry for entry in src.iterdir() if entry.is_dir())):
        if (root / "images").is_dir() and (root / "annotations").is_dir():
            return root
        if next(root.rglob(f"*{_SEG}"), None) is not None:
            return src
    raise CnnlensError(
        f"neither images and annotations nor *{_SEG} in {src}; {lists(src)}",
        "name the folder ADEChallengeData2016, or that of the full ADE20K",
    )


def _scenes(root: Path) -> dict[str, str]:
    """The scene of each image, by its stem, where a file lists them."""
    path = root / _SCENES
    if not path.is_file():
        return {}
    rows = (line.split() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return {row[0]: " ".join(row[1:]).replace("_", " ") for row in rows if len(row) > 1}


def _first_name(names: str) -> str:
    """The first of several words for one thing: ``wall`` of ``wall, panel``."""
    return names.replace(";", ",").split(",")[0].strip()


def _with_scenes(
    labels: dict[str, dict[int, str]], scenes: Mapping[str, str]
) -> tuple[dict[str, dict[int, str]], dict[str, int]]:
    """Add scenes to the labels; the number of each scene."""
    if not scenes:
        return labels, {}
    last = max((n for of in labels.values() for n in of), default=0)
    labels["scene"] = number(sorted(set(scenes.values())), last + 1)
    return labels, {name: n for n, name in labels["scene"].items()}


# ---- the scene parsing challenge


def _challenge(root: Path) -> Source:
    table, labels = _info(root / _INFO)
    scenes = _scenes(root)
    numbers, scene_of = _with_scenes({"object": labels}, scenes)
    masks = {path.rpartition(".")[0]: path for path in pictures(root / "annotations")}
    found, left = [], []
    for path in pictures(root / "images"):
        stem = path.rpartition(".")[0]
        mask = masks.pop(stem, None)
        if mask is None:
            left.append((path, "it has no mask in annotations"))
            continue
        scene = scene_of.get(scenes.get(stem.rpartition("/")[2], ""))
        read = partial(_indexed, table, root / "annotations" / mask, scene)
        found.append(Photo(root / "images" / path, path, split_of(path) or "train", read))
    left += [(mask, "a mask without an image") for mask in masks.values()]
    return Source(numbers, found, left)


def _info(path: Path) -> tuple[Table, dict[int, str]]:
    """Read the challenge's table: Idx, Ratio, Train, Val, Name, between tabs."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        named = [(int(row["Idx"]), _first_name(row["Name"])) for row in rows]
        if not named:
            raise ValueError("no rows")
    except FileNotFoundError:
        raise CnnlensError(f"{path} does not exist", "it names the 150 classes") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CnnlensError(f"{path} is damaged: no columns Idx and Name ({error})") from error
    return table_of(named)


def _indexed(table: Table, mask: Path, scene: int | None) -> Read:
    read = table.read(mask)
    return Read({**read.cells, "scene": [scene]}, read.odd) if scene else read


# ---- the full set


@dataclass(frozen=True)
class _Thing:
    """A row of an image's list: instance number, level (0: an object), name, class if known."""

    instance: int
    level: int
    name: str
    code: int | None = None


@dataclass(frozen=True)
class _Image:
    file: Path
    path: str
    things: tuple[_Thing, ...]
    scene: str


def _full(root: Path) -> Source:
    images, left = _images(root)
    names: dict[str, set[str]] = {"object": set(), "part": set()}
    for image in images:
        for thing in image.things:
            if thing.level < 2:
                names["part" if thing.level else "object"].add(thing.name)
    labels, first = {}, 1
    for category, some in names.items():
        if some:
            labels[category] = number(sorted(some), first)
            first += len(some)
    numbers, scene_of = _with_scenes(labels, {i.path: i.scene for i in images if i.scene})
    known = {(category, name): n for category, of in labels.items() for n, name in of.items()}
    found = [
        Photo(
            image.file,
            image.path,
            split_of(image.path) or "train",
            partial(_coded, image, known, scene_of.get(image.scene)),
        )
        for image in images
    ]
    return Source(numbers, found, left)


def _images(root: Path) -> tuple[list[_Image], list[Left]]:
    scenes = _scenes(root)
    found, left = [], []
    for path in pictures(root):
        file = root / path
        if not path.lower().endswith((".jpg", ".jpeg")) or "_seg." in path:
            continue
        if not _beside(file, _SEG).is_file():
            left.append((path, f"{_beside(file, _SEG).name} is missing"))
            continue
        try:
            things, scene = _things(file)
        except Unusable as unusable:
            left.append((path, unusable.reason))
            continue
        scene = scenes.get(file.stem) or scene or _scene_of(path)
        found.append(_Image(file, _below(path), things, scene))
    return found, left


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.stem + ending)


def _below(path: str) -> str:
    """An image's path without the folders above its split."""
    parts = path.split("/")
    place = next((i for i, part in enumerate(parts[:-1]) if split_of(part)), 0)
    return "/".join(parts[place:])


def _scene_of(path: str) -> str:
    """The scene that folders name: ``training/a/abbey``, or nothing."""
    folders = _below(path).split("/")[1:-1]
    folders = folders[1:] if folders and len(folders[0]) == 1 else folders
    return " ".join(folders).replace("_", " ")


def _things(file: Path) -> tuple[tuple[_Thing, ...], str]:
    """Read the list of what is on an image, and its scene where that is said there."""
    listed, document = _beside(file, "_atr.txt"), file.with_suffix(".json")

    def read(path: Path) -> str:
        return patiently(path, lambda: path.read_text(encoding="utf-8", errors="replace"))

    try:
        if listed.is_file():
            return tuple(_rows(read(listed))), ""
        return _of_json(json.loads(read(document), strict=False)["annotation"])
    except FileNotFoundError:
        raise Unusable(f"neither {listed.name} nor {document.name} is there") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        name = listed.name if listed.is_file() else document.name
        raise Unusable(f"{name} is damaged ({type(error).__name__}: {error})") from None


def _rows(text: str) -> Iterator[_Thing]:
    """Read ``instance # level # occluded # names # raw name # "attributes"`` a line."""
    for line in filter(str.strip, text.splitlines()):
        instance, level, _, names, *_ = line.split("#")
        yield _Thing(int(instance), int(level), _first_name(names))


def _of_json(annotation: Mapping[str, Any]) -> tuple[tuple[_Thing, ...], str]:
    things = tuple(
        _Thing(
            int(thing["id"]),
            int(thing["parts"]["part_level"]),
            _first_name(str(thing["name"])),
            int(thing["name_ndx"]) if thing.get("name_ndx") else None,
        )
        for thing in annotation["object"]
    )
    scene = annotation.get("scene") or [""]
    return things, str(scene if isinstance(scene, str) else scene[-1]).replace("_", " ")


def _coded(image: _Image, known: Labels, scene: int | None) -> Read:
    """Read an image's planes; one without masks of parts has no cell of them."""
    cells: dict[str, list[np.ndarray | int]] = {}
    if scene:
        cells["scene"] = [scene]
    cells["object"] = [_plane(_beside(image.file, _SEG), image, 0, known)]
    parts = _beside(image.file, _PARTS)
    if parts.is_file():
        cells["part"] = [_plane(parts, image, 1, known)]
    return Read(cells)


def _plane(path: Path, image: _Image, level: int, known: Labels) -> np.ndarray:
    """Label numbers (h, w) of the objects, or of the parts, of one image."""
    mask = read_mask(path)
    if mask.ndim != 3:
        raise Unusable(f"{path.name} has no colours, which hold classes and instances")
    red, green, blue = (mask[..., channel].astype(np.int64) for channel in range(3))
    codes = red // 10 * 256 + green
    things = [thing for thing in image.things if thing.level == level]
    names = _names_of(codes, blue, things, path.name)
    table = np.zeros(int(codes.max(initial=0)) + 1, np.uint16)
    category = "part" if level else "object"
    for code, name in names.items():
        table[code] = known[category, name]
    return table[codes]


def _names_of(
    codes: np.ndarray, blue: np.ndarray, things: list[_Thing], file: str
) -> dict[int, str]:
    """Name the classes of a mask by its instances' names.

    An instance is B itself, or the rank of B among the values that occur; which of the two, shows
    in that every class then has one name.
    """
    told = {thing.code: thing.name for thing in things if thing.code is not None}
    there = {int(code) for code in np.unique(codes) if code}
    if there <= told.keys():
        return {code: told[code] for code in there}
    pairs = np.unique(np.stack([codes, blue]).reshape(2, -1)[:, codes.ravel() > 0], axis=1)
    values = sorted({int(b) for b in pairs[1]})
    in_order = [thing.name for thing in sorted(things, key=lambda thing: thing.instance)]
    ways = (
        {thing.instance: thing.name for thing in things},
        dict(zip(values, in_order, strict=True)) if len(values) == len(in_order) else {},
    )
    for name_of in ways:
        named: dict[int, set[str]] = {}
        for code, b in pairs.T.tolist():
            named.setdefault(code, set()).add(name_of.get(b, ""))
        if all(len(some) == 1 and "" not in some for some in named.values()):
            return {code: some.pop() for code, some in named.items()}
    raise Unusable(f"the instances of {file} are not those of its list")

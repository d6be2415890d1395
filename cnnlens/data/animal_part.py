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

from cnnlens.data.parts import Fault, PartObject, PartSet, part_set
from cnnlens.data.paths import file_source
from cnnlens.data.unread import patiently
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


# ---- MATLAB files of both kinds, version 5 and 7.3 (which is HDF5), as plain Python values


def read_mat(path: Path) -> dict[str, Any]:
    """Read a ``.mat`` file.

    Returns
    -------
    dict
        Variables by name: struct arrays as lists of dicts, one struct alone as a dict, text as
        str, everything else as an array. A struct array of one element cannot be told from a
        struct; ask `listed`.

    Raises
    ------
    UnreadFile
        When it cannot be read for now.
    CnnlensError
        When it is missing or damaged.
    """
    try:
        return patiently(path, lambda: _variables(path))
    except CnnlensError:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CnnlensError(
            f"{path} is no MATLAB file that can be read: {reason}", "unpack or download it again"
        ) from error


def _variables(path: Path) -> dict[str, Any]:
    start = path.read_bytes()[:128]
    if b"MATLAB 7.3" in start or start[:8] == b"\x89HDF\r\n\x1a\n":
        return _read_hdf5(path)
    import scipy.io

    content = scipy.io.loadmat(file_source(path), squeeze_me=True, struct_as_record=False)
    return {k: _plain(v) for k, v in content.items() if not k.startswith("__")}


def listed(value: Any) -> list[Any]:
    """Return a struct array's elements, also where there is one or none."""
    if isinstance(value, list):
        return value
    return [] if isinstance(value, np.ndarray) and not value.size else [value]


def _plain(value: Any) -> Any:
    if hasattr(value, "_fieldnames"):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(item) for item in value.ravel(order="F")]
    if isinstance(value, np.ndarray) and value.dtype.kind in "US" and value.ndim == 0:
        return str(value)
    return value


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(file_source(path), "r") as file:
        return {
            name: _of_item(file, item) for name, item in file.items() if not name.startswith("#")
        }


def _of_item(file: Any, item: Any) -> Any:
    """A struct is a group; a struct array a group of equally long arrays of references."""
    import h5py

    if not isinstance(item, h5py.Group):
        return _of_array(file, item)
    columns = {name: _column(file, item[name]) for name in item}
    if columns and all(isinstance(c, list) for c in columns.values()):
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return {name: c[0] if isinstance(c, list) and len(c) == 1 else c for name, c in columns.items()}


def _column(file: Any, item: Any) -> Any:
    import h5py

    if isinstance(item, h5py.Dataset) and item.dtype == h5py.ref_dtype:
        return [_of_item(file, file[ref]) for ref in item[()].ravel()]
    return _of_item(file, item)


def _of_array(file: Any, item: Any) -> Any:
    import h5py

    if item.dtype == h5py.ref_dtype:
        return [_of_item(file, file[ref]) for ref in item[()].ravel()]
    if item.attrs.get("MATLAB_empty", 0):
        return np.empty(0)
    value = item[()]
    if item.attrs.get("MATLAB_class") == b"char":
        return "".join(map(chr, value.ravel(order="F")))
    return value.T  # MATLAB stores by column

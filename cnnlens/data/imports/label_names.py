"""Files that name what masks hold: numbers or colours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from cnnlens.data.imports.mask_files import Colour, is_nothing
from cnnlens.errors import CnnlensError
from cnnlens.files.user_tables import cells_of

Named = list[tuple[int | Colour | None, str]]  # what a mask holds, where it is said, and its name


def read_names(path: Path) -> Named:
    """Read names of numbers or colours.

    ``.json``: an object of numbers and names, a list of names, or of objects with id and name;
    ``.csv``: columns name, r, g, b or name, number; else a line each, with or without a number
    before or behind it.

    Raises
    ------
    CnnlensError
        When it cannot be read, is none of these, or has two names for one number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        read = {".json": _of_json, ".csv": _of_csv}.get(path.suffix.lower(), _of_lines)
        named = read(text)
        _check_once(named)
    except FileNotFoundError:
        raise CnnlensError(f"{path} does not exist") from None
    except OSError as error:
        raise CnnlensError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, LookupError) as error:
        raise CnnlensError(
            f"{path} does not name labels: {error}",
            'a JSON object {"1": "cat"}, a CSV with columns name,r,g,b, or lines like `1 cat`',
        ) from error
    if not named:
        raise CnnlensError(f"{path} names no label")
    return named


def one_of_each_colour(named: Named) -> tuple[Named, list[str]]:
    """Give each colour one name, as a mask tells no more: the first, or that nothing is there.

    Cityscapes paints cars and licence plates alike, and poles and groups of poles.

    Returns
    -------
    (list, list of str)
        The names that count, and which do not, for people.
    """
    kept: dict[Any, str] = {}
    for value, name in named:
        if value not in kept or (is_nothing(name) and not is_nothing(kept[value])):
            kept[value] = name
    lost: dict[Any, list[str]] = {}
    for value, name in named:
        if isinstance(value, tuple) and not _is_alike(name, kept[value]):
            lost.setdefault(value, []).append(name)
    notes = [
        f"colour {_said(value)} is {kept[value]}; {', '.join(names)}, of the same colour, gets no "
        "pixels"
        for value, names in lost.items()
    ]
    return [one for one in named if not isinstance(one[0], tuple) or one[1] == kept[one[0]]], notes


def _is_alike(name: str, other: str) -> bool:
    return name.split() == other.split() or (is_nothing(name) and is_nothing(other))


def _said(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_once(named: Named) -> None:
    """See that no number has two names, but what says twice that nothing is there."""
    known: dict[Any, str] = {}
    for value, name in named:
        other = known.setdefault(value, name)
        if isinstance(value, int) and not _is_alike(name, other):
            raise ValueError(f"{value} is both {other} and {name}")


def _of_json(text: str) -> Named:
    document = json.loads(text, object_pairs_hook=_pairs)
    listed = [document[key] for key in _LISTS if key in document] if _is_map(document) else []
    document = listed[0] if len(listed) == 1 and isinstance(listed[0], list) else document
    if isinstance(document, list):
        if all(map(_is_map, document)):  # [{"id": 1, "name": "leaf"}], as COCO has it
            return [(_number_in(entry), _name(entry)) for entry in document]
        return [(number, _name(entry)) for number, entry in enumerate(document)]
    if not _is_map(document):
        raise ValueError("it is neither an object nor a list")
    if all(type(value) is int for value in document.values()):  # names of numbers, turned round
        return [(value, str(name)) for name, value in document.items()]
    return [(int(value), _name(name)) for value, name in document.items()]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"{key} is both {found[key]} and {value}")
    return found


def _is_map(entry: Any) -> bool:
    return isinstance(entry, dict)


def _number_in(entry: Mapping[str, Any]) -> int:
    number = next((entry[key] for key in _NUMBER if key in entry), None)
    if type(number) is not int and not (isinstance(number, str) and number.isdecimal()):
        raise ValueError(f"{_shown(entry)} has no id that is a number")
    return int(number)


def _name(entry: Any) -> str:
    """A name, or that which an object has."""
    name = entry.get("name") if isinstance(entry, dict) else entry
    if not isinstance(name, str):
        raise ValueError(f"{_shown(entry)} is no name")
    return name


def _shown(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False)[:60]


def _of_csv(text: str) -> Named:
    rows = [row for _, row in cells_of(text)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if "name" not in header:
        raise ValueError("its first line has no column name")
    channels = [next((c for c in names if c in header), "") for names in _CHANNELS]
    keys = channels if all(channels) else [next((c for c in _NUMBER if c in header), "")]
    if not all(keys):
        raise ValueError(f"its first line must have name,r,g,b or name,number, not {header}")
    places = [header.index(key) for key in keys]
    named: Named = []
    for row in rows[1:]:
        key = tuple(int(row[place]) for place in places)
        if len(key) == 3 and not all(0 <= channel <= 255 for channel in key):
            raise ValueError(f"{key} is no colour")
        named.append((key if len(key) == 3 else key[0], row[header.index("name")]))
    number = next((header.index(c) for c in _NUMBER if c in header), None)
    if all(channels) and number is not None:  # what no mask of numbers holds comes last: id -1
        order = [row[number].strip().startswith("-") for row in rows[1:]]
        named = [one for _, one in sorted(zip(order, named, strict=True), key=itemgetter(0))]
    return named


_CHANNELS = (("r", "red"), ("g", "green"), ("b", "blue"))
_NUMBER = ("number", "index", "id", "value")
_LISTS = ("categories", "labels", "classes")
_THREE = r"(?P<r>[0-9]+)[\s,]+(?P<g>[0-9]+)[\s,]+(?P<b>[0-9]+)"
_COLOURS = (  # CamVid's label_colors.txt; CVAT's labelmap.txt
    re.compile(_THREE + r"[\s:,]+(?P<name>[^\s:,].*)"),
    re.compile(r"(?P<name>.*?[^\s:,])[\s:,]+" + _THREE + r"(:.*)?"),
)
_BEFORE = re.compile(r"(?P<number>[0-9]+)[\s:,]+(?P<name>[^\s:,].*)")
_BEHIND = re.compile(r"(?P<name>.*?\S)[\s,]+(?P<number>[0-9]+)")


def _of_colours(lines: list[str]) -> Named:
    """Read ``64 128 64 name`` or ``name:64,128,64`` a line; nothing where one says no colour."""
    for order in _COLOURS:
        found = [one for line in lines if (one := order.fullmatch(line))]
        colours = [(int(one["r"]), int(one["g"]), int(one["b"])) for one in found]
        if len(found) == len(lines) and all(max(colour) <= 255 for colour in colours):
            return [(c, one["name"].strip()) for c, one in zip(colours, found, strict=True)]
    return []


def _of_lines(text: str) -> Named:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if coloured := _of_colours([line for line in lines if not line.startswith("#")]):
        return coloured
    before = [_BEFORE.fullmatch(line) for line in lines]
    behind = [_BEHIND.fullmatch(line) for line in lines]
    if all(before):
        return [(int(one["number"]), one["name"].strip()) for one in before if one]
    names = [one["name"] for one in behind if one]
    if len(set(names)) == len(lines):  # else as in "zone 1", "zone 2", they are part of the names
        return [(int(one["number"]), one["name"]) for one in behind if one]
    return [(None, line) for line in lines]

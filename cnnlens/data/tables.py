"""Broden's layout: its tables, read strictly (a fault is named with its file and row), and written.

Beside the tables, label planes as PNG.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.formats import endings
from cnnlens.errors import CnnlensError, did_you_mean
from cnnlens.files.tables import write_csv

Cells = dict[str, list[np.ndarray | int]]  # per category: planes and whole-image numbers
Numbers = Mapping[str, Mapping[int, str]]  # per category: label names by number

FIXED = ("image", "split", "ih", "iw", "sh", "sw")
LARGEST_SIDE = 16384  # of a label map; anything beyond is a slip of the pen

_CATEGORY = re.compile(r"\s*([^();]+?)\s*(?:\(\s*(\d+)\s*\))?\s*")


@dataclass(frozen=True)
class Label:
    """A row of ``label.csv``: `categories` maps each declared category to its count, if given."""

    number: int
    name: str
    categories: dict[str, int | None]
    line: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``index.csv``; `cells` are parallel to the data set's categories, "" when empty."""

    line: int
    image: str
    split: str
    image_size: tuple[int, int]  # (ih, iw)
    size: tuple[int, int]  # (sh, sw)
    cells: tuple[str, ...]


class RowFault(CnnlensError):  # noqa: N818
    """A malformed row of a table: `table` and `line` say where, `what` what is wrong with it."""

    def __init__(self, path: Path, line: int, what: str, hint: str = "") -> None:
        super().__init__(f"{path}, row {line}: {what}", hint)
        self.table, self.line, self.what = path.name, line, what


def items(cell: str) -> list[int | str]:
    """Split a cell into whole-image numbers (int) and paths of planes (str)."""
    parts = [part.strip() for part in cell.split(";")]
    return [int(part) if part.isascii() and part.isdigit() else part for part in parts if part]


def read_labels(path: Path, faults: list[RowFault] | None = None) -> dict[int, Label]:
    """Read ``label.csv``: number, name and declared categories, by number.

    Malformed rows raise RowFault, or are left out and collected in `faults`.
    """
    labels: dict[int, Label] = {}
    header, rows = _table(path)
    places = _columns(path, header, ("number", "name", "category"))
    for line, cells in rows:
        with _collected(faults):
            _check_length(path, line, cells, header)
            label = _label(path, line, *(cells[place] for place in places))
            if label.number in labels:
                first = labels[label.number].line
                raise RowFault(path, line, f"label {label.number} is defined in row {first} too")
            if label.number:  # 0 is "nothing"
                labels[label.number] = label
    if not labels:
        raise CnnlensError(f"{path} defines no labels")
    return labels


@contextmanager
def _collected(faults: list[RowFault] | None) -> Iterator[None]:
    """Let a malformed row raise, or note it and go on with the next."""
    try:
        yield
    except RowFault as fault:
        if faults is None:
            raise
        faults.append(fault)


def _label(path: Path, line: int, number: str, name: str, category: str) -> Label:
    if not (number.isascii() and number.isdigit()):
        raise RowFault(path, line, f"the label number is {number!r}, not a whole number")
    categories: dict[str, int | None] = {}
    for part in filter(str.strip, category.split(";")):
        match = _CATEGORY.fullmatch(part)
        if match is None:
            raise RowFault(path, line, f"category {part!r} does not look like object(12)")
        categories[match[1]] = int(match[2]) if match[2] else None
    return Label(int(number), name or f"label {int(number)}", categories, line)


def read_categories(root: Path) -> set[str]:
    """Names in ``category.csv``, a file that may be missing."""
    path = root / "category.csv"
    if not path.exists():
        return set()
    header, rows = _table(path)
    (name,) = _columns(path, header, ("name",))
    return {cells[name] for _, cells in rows if name < len(cells) and cells[name]}


@dataclass(frozen=True)
class Counted:
    """A row of a ``c_<category>.csv``."""

    name: str
    coverage: float


def read_c_table(path: Path) -> dict[int, Counted]:
    """Read a ``c_<category>.csv`` by label number; a file that is missing is empty."""
    if not path.exists():
        return {}
    header, rows = _table(path)
    places = _columns(path, header, ("number", "name", "coverage"))
    found = {}
    for line, cells in rows:
        _check_length(path, line, cells, header)
        number, name, coverage = (cells[place] for place in places)
        try:
            found[int(number)] = Counted(name, float(coverage))
        except ValueError:
            raise RowFault(path, line, "number and coverage must be numbers") from None
    return found


def read_header(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    return _table(path)[0]


def read_index(
    path: Path, known: Collection[str], faults: list[RowFault] | None = None
) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Read ``index.csv``: the category columns and one row per image.

    Columns that are in `known` are categories; others are passed over unless they hold planes.
    Malformed rows raise RowFault, or are left out and collected in `faults`.
    """
    header, rows = _table(path)
    fixed = _columns(path, header, FIXED)
    others = [place for place in range(len(header)) if place not in fixed and header[place]]
    columns = [place for place in others if header[place] in known]
    strange = [place for place in others if header[place] not in known]
    if not columns:
        names = ", ".join(sorted(known)) or "no category at all"
        raise CnnlensError(
            f"{path} has no category column",
            f"its columns must bear the names that label.csv declares: {names}",
        )
    read: dict[str, Row] = {}
    for line, cells in rows:
        with _collected(faults):
            _check_length(path, line, cells, header)
            row = _row(path, line, [cells[i] for i in fixed], [cells[i] for i in columns])
            if row.image in read:
                first = read[row.image].line
                raise RowFault(path, line, f"{row.image} is listed in row {first} too")
            for place in strange:
                _refuse_planes(path, line, header[place], cells[place], known)
            for place, cell in zip(columns, row.cells, strict=True):
                _check_cell(path, line, header[place], cell)
            read[row.image] = row
    return tuple(header[place] for place in columns), tuple(read.values())


def _row(path: Path, line: int, fixed: list[str], cells: list[str]) -> Row:
    image, split, *sizes = fixed
    image = image.replace("\\", "/")
    if not image:
        raise RowFault(path, line, "the image is not named")
    _check_path(path, line, image)
    for name, size in zip(FIXED[2:], sizes, strict=True):
        if not (size.isascii() and size.isdigit() and 1 <= int(size[:9]) <= LARGEST_SIDE):
            raise RowFault(path, line, f"{name} is {size!r}, not a size in pixels")
    ih, iw, sh, sw = (int(size) for size in sizes)
    return Row(
        line, image, split, (ih, iw), (sh, sw), tuple(cell.replace("\\", "/") for cell in cells)
    )


def _check_cell(path: Path, line: int, category: str, cell: str) -> None:
    for item in items(cell):
        if isinstance(item, str):
            if not item.lower().endswith(tuple(endings())):
                what = f"{category} is {item!r}, neither a label number nor a PNG file"
                raise RowFault(path, line, what)
            _check_path(path, line, item)


def _refuse_planes(path: Path, line: int, name: str, cell: str, known: Collection[str]) -> None:
    if cell.lower().endswith(".png"):
        raise RowFault(
            path,
            line,
            f"column {name!r} holds label maps, but label.csv declares no label of that category",
            did_you_mean(name, known) or f"declared are {', '.join(sorted(known))}",
        )


def _check_path(path: Path, line: int, item: str) -> None:
    if item.startswith("/") or ".." in item.split("/") or item[1:2] == ":" or "\0" in item:
        raise RowFault(path, line, f"{item!r} leads out of the data folder")


def _columns(path: Path, header: list[str], names: tuple[str, ...]) -> list[int]:
    missing = [name for name in names if name not in header]
    if missing:
        raise CnnlensError(
            f"{path} has no column {missing[0]!r}",
            f"its first line must name {', '.join(names)}; it names {', '.join(header)}",
        )
    return [header.index(name) for name in names]


def _table(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header and the numbered rows of a table; rows are numbered as a spreadsheet does."""
    lines = _lines(path)
    _, header = next(lines, (0, []))
    if not header:
        raise CnnlensError(f"{path} is empty")
    twice = {name for name in header if name and header.count(name) > 1}
    if twice:
        raise CnnlensError(f"{path} has two columns {min(twice)!r}")

    return header, lines


def _check_length(path: Path, line: int, cells: list[str], header: list[str]) -> None:
    if len(cells) != len(header):
        raise RowFault(path, line, f"{len(cells)} cells under {len(header)} columns")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield non-empty rows, stripped; a byte order mark and any line ends are understood."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, cells in enumerate(csv.reader(file), 1):
                if any("\0" in cell for cell in cells):  # which no name in HDF5 can hold
                    raise RowFault(path, line, "it holds a NUL character")
                if any(cell.strip() for cell in cells):
                    yield line, [cell.strip() for cell in cells]
    except FileNotFoundError:
        raise CnnlensError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise CnnlensError(f"{path} is damaged: not UTF-8 text ({error.reason})") from error
    except (OSError, csv.Error) as error:
        raise CnnlensError(f"{path} cannot be read: {error}") from error


# ---- written


def save_plane(path: Path, numbers: np.ndarray) -> None:
    """Write label numbers (sh, sw), at most 65535, as a PNG whose pixels are R + 256·G."""
    rgb = np.stack([numbers & 255, numbers >> 8, np.zeros_like(numbers)], axis=-1)  # (sh, sw, 3)
    Image.fromarray(rgb.astype(np.uint8)).save(path, compress_level=1)


def shares(cells: Cells) -> dict[int, float]:
    """Give the labels of one image, and how much of it each covers."""
    found: dict[int, float] = {}
    for item in (item for items in cells.values() for item in items):
        if isinstance(item, int):
            found[item] = 1.0
            continue
        counts = np.bincount(item.ravel())
        for number in np.flatnonzero(counts[1:]) + 1:
            found[int(number)] = int(counts[number]) / item.size
    return found


class Tally:
    """In how many images a label occurs, and how many of them it would cover, for the tables."""

    def __init__(self) -> None:
        self.frequency: dict[int, int] = defaultdict(int)
        self.coverage: dict[int, float] = defaultdict(float)

    def add(self, found: Mapping[int, float]) -> None:
        """Count the labels of one image."""
        for number, share in found.items():
            self.frequency[number] += 1
            self.coverage[number] += share

    def write(self, folder: Path, numbers: Numbers) -> None:
        """Write ``label.csv``, ``category.csv`` and a ``c_<category>.csv`` each."""
        labels, categories = [], []
        for category, names in numbers.items():
            rows = [
                [number, name, self.frequency[number], f"{self.coverage[number]:.6f}"]
                for number, name in names.items()
            ]
            write_csv(
                folder / f"c_{category}.csv",
                ["code", "number", "name", "frequency", "coverage"],
                [[code, *row] for code, row in enumerate(rows, 1)],
            )
            labels += [[n, name, f"{category}({f})", f, cover, ""] for n, name, f, cover in rows]
            total = sum(self.frequency[number] for number in names)
            categories.append([category, min(names), max(names), len(names), total])
        write_csv(
            folder / "label.csv",
            ["number", "name", "category", "frequency", "coverage", "syns"],
            labels,
        )
        write_csv(
            folder / "category.csv", ["name", "first", "last", "count", "frequency"], categories
        )

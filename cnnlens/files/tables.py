"""Tables: CSV, and rows as dataclasses whose fields are the columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TextIO, TypeVar, get_type_hints

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic, reading_error

T = TypeVar("T")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows under a header; floats are written so that they read back exactly."""
    with (
        atomic(path) as temporary,
        # what is no Unicode in a file name is written as an escape: the file stays UTF-8
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv_writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def csv_writer(file: TextIO) -> Any:
    """Return a writer of rows that end in a newline, in which any text reads back as it was.

    Before Python 3.13 only characters of the line's own end are quoted: a carriage return in a name
    would end a row for whoever reads it.
    """
    return csv.writer(_Lines(file), lineterminator="\r\n")


class _Lines:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


def read_csv(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a CSV of cnnlens as a list of rows; a missing or damaged file is named as such.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    columns : sequence of str
        Columns that it must have.
    """
    redo = "remove it, or redo the command with --force"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            rows = list(reader)
    except FileNotFoundError:
        raise CnnlensError(f"{path} does not exist", "redo the command with --force") from None
    except OSError as error:
        raise reading_error(path, error) from error
    except (ValueError, csv.Error) as error:
        raise CnnlensError(f"{path} is damaged: {error}", redo) from error
    if missing:
        raise CnnlensError(f"{path} is damaged: it has no column {missing[0]}", redo)
    return rows


def finite(value: Any) -> float | None:
    """Return a number as a float, and None for what is missing, empty or not finite."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_CELLS: dict[Any, Callable[[str], Any]] = {  # how a cell is read, by its field's type
    str: str,
    int: int,
    bool: _flag,
    float: lambda text: finite(text) or 0.0,
    str | None: str,
    int | None: lambda text: int(text) if text else None,
    float | None: finite,
}


@cache
def columns(kind: Any) -> dict[str, Any]:
    """Name the columns of a table: those fields of a dataclass that a cell can hold, with types."""
    return {name: t for name, t in get_type_hints(kind).items() if t in _CELLS}


def read_rows(
    path: Path,
    kind: type[T],
    redo: str,
    more: Callable[[dict[str, str]], dict[str, Any]] = lambda row: {},
    may_miss: bool = False,
) -> list[T]:
    """Read a table as dataclasses, one per row.

    Parameters
    ----------
    path : pathlib.Path
        The CSV.
    kind : type
        A dataclass; columns of fields that may be None may be missing.
    redo : str
        What mends a damaged file.
    more : callable, optional
        Gives further fields, from a row as it is.
    may_miss : bool
        A table that is not there has no rows.

    Raises
    ------
    CnnlensError
        Naming the file, the line and the column that is damaged.
    """
    if may_miss and not path.exists():
        return []
    known = columns(kind)  # type: ignore[arg-type]
    needed = [name for name, of in known.items() if of in (str, int, float, bool)]
    rows = []
    for line, row in enumerate(read_csv(path, needed), start=2):  # line 1 is the header
        values, name = {}, ""
        try:
            for name, of in known.items():
                cell = row.get(name)
                if cell is None and name in needed:
                    raise ValueError("the line ends before it")
                values[name] = None if cell is None else _CELLS[of](cell)
            name = "a further column"
            rows.append(kind(**values, **more(row)))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CnnlensError(f"{path} is damaged: {name}, line {line}: {error}", redo) from error
    return rows


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table: what is not known is left empty, flags are true or false."""
    names = list(header)
    write_csv(path, names, ([_cell(row[name]) for name in names] for row in rows))


def _cell(value: Any) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value

"""What a workspace holds, and how its files are read: tables, documents, lists of pictures.

A table's columns are the fields of a dataclass; a damaged file is named, with line and column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv, read_json, write_csv
from cnnlens.model.layers import file_name

REDO = "redo the command with --force"
T = TypeVar("T")


@contextmanager
def reading(file: Path, redo: str = REDO) -> Iterator[None]:
    """Name a file as damaged where what is read of it is not as it should be."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        raise CnnlensError(f"{file} is damaged: {error!r}", redo) from error


# -- tables --------------------------------------------------------------------------------------


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

    Raises
    ------
    CnnlensError
        Naming the file, the line and the column that is damaged.
    """
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


# -- documents -----------------------------------------------------------------------------------


def read_object(path: Path, keys: Sequence[str] = (), redo: str = REDO) -> dict[str, Any]:
    """Read a JSON object that has some keys.

    Raises
    ------
    CnnlensError
        Naming the file, when it is damaged; `redo` is its hint.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise CnnlensError(f"{path} is damaged: not a JSON object", redo)
    if missing := [key for key in keys if key not in document]:
        raise CnnlensError(f"{path} is damaged: it lacks {', '.join(missing)}", redo)
    return document


def read_workspace(workspace: Path) -> dict[str, Any]:
    """Read ``workspace.json``; an empty dict where there is none."""
    path = workspace / "workspace.json"
    return read_object(path) if path.exists() else {}


def data_name(summary: Mapping[str, Any]) -> str:
    """Name what a summary was measured on; empty where it does not say."""
    data = summary.get("data")
    if isinstance(data, Mapping):
        data = data.get("name") or data.get("path")
    return str(data or "")


def listed(file: Path) -> tuple[dict[str, Any], list[tuple[dict[str, Any], Path]]]:
    """Read the JSON that lists a command's pictures, and those of them that are there.

    Returns
    -------
    dict, list of (dict, pathlib.Path)
        The document; entry and file of every picture.

    Raises
    ------
    CnnlensError
        When it lists none, or a picture has no file.
    """
    document = read_object(file, ("pictures",))
    entries = document["pictures"]
    if not isinstance(entries, list):
        raise CnnlensError(f"{file} is damaged: it lists no pictures", REDO)
    if not all(isinstance(e, dict) and isinstance(e.get("file"), str) for e in entries):
        raise CnnlensError(f"{file} is damaged: a picture has no file", REDO)
    paths = [(entry, file.parent / entry["file"]) for entry in entries]
    return document, [(entry, path) for entry, path in paths if path.is_file()]


# -- layers --------------------------------------------------------------------------------------


def layer_names(document: Mapping[str, Any]) -> list[str]:
    """List the layers a workspace names, whether as strings or as objects with a name."""
    layers = document.get("layers") or []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in layers]
    return [name for name in names if isinstance(name, str)]


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key under which ``layer10`` follows ``layer9``."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def finished(workspace: Path, command: str, file: str = "summary.json") -> list[Path]:
    """List the folders of layers that a command has finished, by name.

    Those without `file` are not finished; hidden ones are what a killed run left.
    """
    found = (path.parent for path in (workspace / command).glob(f"*/{file}"))
    return sorted(folder for folder in found if not folder.name.startswith("."))


def in_order(workspace: Path, folders: list[Path]) -> list[Path]:
    """Sort layers' folders as the workspace names the layers, then by name."""
    known = layer_names(read_workspace(workspace))
    order = {file_name(name): index for index, name in enumerate(known)}
    return sorted(folders, key=lambda p: (order.get(p.name, len(order)), natural(p.name)))


def listed_layers(
    workspace: Path, command: str
) -> Iterator[tuple[Path, dict[str, Any], list[tuple[dict[str, Any], Path]]]]:
    """Yield file, document and pictures of every layer that has some, in order."""
    name = f"{command}.json"
    for folder in in_order(workspace, finished(workspace, command, name)):
        document, entries = listed(folder / name)
        if entries:
            yield folder / name, document, entries

"""Tables that people make by hand or in a spreadsheet, as these write them.

A byte order mark, semicolons or tabs in place of commas, an Excel's line ``sep=;``, spaces, and
capitals in the first line say nothing else than the plain table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cnnlens.errors import UsageError

Cells = list[tuple[int, list[str]]]
_MARKS = ",;\t"


def cells_of(text: str) -> Cells:
    """Split a table into its rows that hold something, numbered as a spreadsheet does; what stands
    between their cells is what stands in the first one.

    Raises
    ------
    ValueError
        When it cannot be split.
    """
    first, _, rest = text.partition("\n")
    before, mark = 0, next((mark for mark in _MARKS if mark in first), ",")
    if first.lower().startswith("sep=") and len(first.strip("\r")) == len("sep=;"):
        before, mark, text = 1, first[4], rest
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
    try:
        found = [(reader.line_num + before, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return [(line, row) for line, row in found if any(row)]


def read_user_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table of a user's.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    columns : sequence of str
        Columns that it must have, in small letters.

    Returns
    -------
    list of (int, dict of str to str)
        The rows with their lines; cells by their columns in small letters, empty where a row ends
        early.

    Raises
    ------
    UsageError
        When there is no such table, or it lacks a column.
    """
    hint = f"it is a table with the columns {','.join(columns)}"
    try:
        rows = cells_of(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", hint) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", f"{hint}: save it as CSV UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read: {reason}", hint) from error
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    if missing := [name for name in columns if name not in header]:
        words = f"its first line is {','.join(header)[:80]}" if header else "it is empty"
        raise UsageError(f"{path} has no column {missing[0]}: {words}", hint)
    empty = [""] * len(header)
    return [(line, dict(zip(header, [*row, *empty], strict=False))) for line, row in rows[1:]]

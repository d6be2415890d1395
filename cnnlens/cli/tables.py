"""Tables of results: plain for a pipe, ruled and broken to its width for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from cnnlens.errors import plain
from cnnlens.voice import one_line

Rows = Sequence[Sequence[object]]


def aligned(columns: Sequence[str], rows: Rows, title: str = "") -> str:
    """Write a table with plain aligned columns, for a pipe."""
    cells, to_right = _cells(rows), _to_right(columns, rows)
    columns = [*map(one_line, columns)]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [one_line(title)] if title else []
    for row in [columns, *cells]:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(row, widths, to_right, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def write_ruled(stream: TextIO, columns: Sequence[str], rows: Rows, title: str = "") -> None:
    """Write a table with rules, on a terminal: as several below each other where it is too wide.

    Cells are broken between words, and in words that are very long; a path is whole however long.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, cells, to_right = Console(file=stream), _cells(rows), _to_right(columns, rows)
    terminal = console.width
    texts = [[one_line(name), *(row[at] for row in cells)] for at, name in enumerate(columns)]
    above = Text(one_line(title)) if title else None  # `Text`: what is in brackets is no markup
    for places in _side_by_side([_least(column) for column in texts], terminal):
        table = Table(box=box.SIMPLE_HEAD, title=above, title_justify="left", padding=(0, 1, 0, 0))
        widths = _fitted([texts[at] for at in places], terminal)
        for at, width in zip(places, widths, strict=True):
            justify: Any = "right" if to_right[at] else "left"
            head = Text(texts[at][0])
            table.add_column(head, justify=justify, overflow="fold", width=width)
        for row in cells:
            table.add_row(*(Text(row[at]) for at in places))
        console.width = max(terminal, _wide(widths))
        console.print(table, crop=False, soft_wrap=True)
        above = None


_SHORT = 8  # a text of so many letters is one word: 27.7 %
_LONG = 60  # a word of more letters is broken


def _wide(widths: Sequence[int]) -> int:
    return 1 + sum(width + 2 for width in widths)


def _least(column: Sequence[str]) -> int:
    """Say how narrow a column may become: words, short texts and paths stay whole."""
    from rich.cells import cell_len

    def of(text: str) -> int:
        if "/" in text or len(text) <= _SHORT:
            return cell_len(text)
        return min(_LONG, max(map(cell_len, text.split(" "))))

    return max(map(of, column))


def _side_by_side(least: Sequence[int], room: int) -> list[list[int]]:
    """Deal columns out to tables that are no wider than a terminal; each begins with the first."""
    tables = [[0]]
    for at in range(1, len(least)):
        too_wide = _wide([least[place] for place in [*tables[-1], at]]) > room
        if too_wide and len(tables[-1]) > 1:
            tables.append([0])
        tables[-1].append(at)
    if len(tables) > 1 and len(tables[-1]) == 2 and len(tables[-2]) > 2:
        # the last one does not stand alone: it often belongs to its neighbour
        together = [0, tables[-2][-1], tables[-1][-1]]
        if _wide([least[place] for place in together]) <= room:
            tables[-2:] = [tables[-2][:-1], together]
    return tables


def _fitted(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Give columns what their longest text takes; where that is too much, less to the widest."""
    from rich.cells import cell_len

    least = [_least(column) for column in columns]
    widths = [max(map(cell_len, column)) for column in columns]
    for most in range(max(widths), 0, -1):
        fitted = [max(low, min(wide, most)) for low, wide in zip(least, widths, strict=True)]
        if _wide(fitted) <= room or fitted == least:
            return fitted
    return least


def _cells(rows: Rows) -> list[list[str]]:
    return [[_cell(value) for value in row] for row in rows]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return plain(value, 4)
    return "" if value is None else one_line(str(value))


def _to_right(columns: Sequence[str], rows: Rows) -> list[bool]:
    """Columns of nothing but numbers, and of some."""
    if not rows:
        return [False] * len(columns)
    return [
        all(isinstance(v, (int, float)) or v in ("", None) for v in values)
        for values in zip(*rows, strict=True)
    ]

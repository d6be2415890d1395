"""What people see: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from cnnlens.files import to_json

if TYPE_CHECKING:
    from rich.progress import Progress

_NAMED = 5  # damaged images named on the screen


class ReaderGone(Exception):  # noqa: N818  (a message, not a fault)
    """Who reads standard output (head, less) has seen enough."""


class _Output:
    """Standard output, set aside for results."""

    guarded = False
    real: TextIO | None = None


@contextmanager
def results_apart() -> Iterator[None]:
    """Let only a `Screen` reach standard output, from the first one on until the block ends.

    Whatever else prints, a user's model for one, then prints on standard error.
    """
    before = sys.stdout
    _Output.guarded = True
    try:
        yield
    finally:
        _Output.guarded, _Output.real, sys.stdout = False, None, before


def _set_apart() -> TextIO:
    if _Output.real is not None:
        return _Output.real
    out = sys.stdout or io.StringIO()  # None where it is closed
    if _Output.guarded:
        _Output.real, sys.stdout = out, sys.stderr
    return out


@dataclass
class Screen:
    """Where a command shows things.

    Attributes
    ----------
    json : bool
        Standard output carries one JSON document and nothing else.
    quiet : bool
        No progress, tables or notes.
    """

    json: bool = False
    quiet: bool = False
    _said: set[str] = field(default_factory=set)
    _out: TextIO = field(default_factory=_set_apart)

    def document(self, document: Any) -> None:
        """Print the command's one JSON document, where it was asked for."""
        if self.json:
            text = to_json(document)
            try:
                text.encode(self._out.encoding or "utf-8")
            except UnicodeEncodeError:
                text = to_json(document, only_ascii=True)
            self._write(text)

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            raise ReaderGone from None

    def note(self, text: str) -> None:
        """Say something once, on standard error."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            _line(sys.stderr, text, style="dim")

    def skipped(self, found: Sequence[Mapping[str, str]]) -> None:
        """Name the first damaged images, and count the others."""
        for bad in found[:_NAMED]:
            self.note(f"skipped {bad['image']}: {bad['reason']}")
        if len(found) > _NAMED:
            self.note(f"skipped {len(found) - _NAMED} more; the summary lists all")

    def say(self, text: str) -> None:
        """Print a line of results."""
        if not self.json and not self.quiet:
            self._write(one_line(text) + "\n")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        """Print a table: ruled on a terminal, plain aligned columns in a pipe."""
        if self.json or self.quiet:
            return
        cells = [[_cell(value) for value in row] for row in rows]
        right = [
            bool(rows) and all(isinstance(v, (int, float)) or v in ("", None) for v in values)
            for values in (zip(*rows, strict=True) if rows else [()] * len(columns))
        ]
        if _is_styled(self._out):
            _ruled(self._out, columns, cells, right, title)
            return
        lines = [title] if title else []
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in [columns, *cells]:
            padded = (
                value.rjust(width) if to_right else value.ljust(width)
                for value, width, to_right in zip(row, widths, right, strict=True)
            )
            lines.append("  ".join(padded).rstrip())
        self._write("\n".join(lines) + "\n")

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Show progress bars while the block runs."""
        if self.quiet or not _is_terminal(sys.stderr):
            yield Bars(None)
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        ) as bars:
            yield Bars(bars)


class Bars:
    """One bar per stage of a command; nothing where nobody looks."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Set how far a stage is; `note` takes the place of its speed."""
        if self._bars is None:
            return
        if stage not in self._tasks:
            # what an earlier run did must not count into the rate: the bar starts where it stands
            self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, rate=note)
            return
        task = self._tasks[stage]
        speed = next(t.speed for t in self._bars.tasks if t.id == task)
        rate = f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else ""
        self._bars.update(task, completed=done, total=total, rate=note or rate)


def _is_terminal(stream: TextIO) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _is_styled(stream: TextIO) -> bool:
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


def _line(stream: TextIO, text: str, style: str = "", label: str = "", indent: str = "") -> None:
    """Print one line, dressed up on a terminal only."""
    text = indent + one_line(text)
    if not _is_styled(stream):
        print(f"{label} {text}" if label else text, file=stream)
        return
    from rich.console import Console

    console = Console(file=stream)
    if label:
        console.print(label, style="bold red", end=" ", highlight=False)
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _ruled(
    stream: TextIO,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    title: str,
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name, to_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if to_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=stream).print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else one_line(str(value))


def one_line(text: str) -> str:
    """Write text so that it stays on its line and cannot steer a terminal, whatever it names."""
    text = re.sub(r"\s*[\r\n]+\s*", " ", text.strip())
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def report_error(message: str, hint: str) -> None:
    """Print one clear line, and a way out, on standard error."""
    _line(sys.stderr, message, label="error:")
    if hint:
        _line(sys.stderr, hint, style="dim", indent="  ")

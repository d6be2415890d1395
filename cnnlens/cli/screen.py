"""What people see: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnlens.files import to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PIPE_WIDTH = 400  # nothing is cut or folded when nobody looks


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

    def document(self, document: Any) -> None:
        """Print the command's one JSON document, where it was asked for."""
        if self.json:
            sys.stdout.write(to_json(document))

    def note(self, text: str) -> None:
        """Say something once, on standard error."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            _console(stderr=True).print(text, style="dim", highlight=False, markup=False)

    def say(self, text: str) -> None:
        """Print a line of results."""
        if not self.json and not self.quiet:
            _console().print(text, highlight=False, markup=False, soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        """Print a table: ruled on a terminal, plain aligned columns in a pipe."""
        if self.json or self.quiet:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        console = _console()
        table = Table(
            box=box.SIMPLE_HEAD if console.is_terminal else None,
            title=title or None,
            title_justify="left",
            pad_edge=False,
        )
        for number, name in enumerate(columns):
            is_number = all(
                isinstance(row[number], (int, float)) or row[number] in ("", None) for row in rows
            )
            table.add_column(
                name, justify="right" if is_number and rows else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        console.print(table)

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Show progress bars while the block runs."""
        console = _console(stderr=True)
        if self.quiet or not console.is_terminal:
            yield Bars(None)
            return
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
            console=console,
            transient=True,
        ) as bars:
            yield Bars(bars)


class Bars:
    """One bar per stage of a command; nothing where nobody looks."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def show(self, stage: str, done: int, total: int) -> None:
        """Set how far a stage is."""
        if self._bars is None:
            return
        if stage not in self._tasks:
            # what an earlier run did must not count into the rate: the bar starts where it stands
            self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, rate="")
            return
        task = self._tasks[stage]
        speed = next(t.speed for t in self._bars.tasks if t.id == task)
        rate = f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else ""
        self._bars.update(task, completed=done, total=total, rate=rate)


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    console = Console(file=stream)
    return console if console.is_terminal else Console(file=stream, width=_PIPE_WIDTH)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def report_error(message: str, hint: str) -> None:
    """Print one clear line, and a way out, on standard error."""
    console = _console(stderr=True)
    console.print("error:", style="bold red", end=" ", highlight=False)
    console.print(message, highlight=False, markup=False, soft_wrap=True)
    if hint:
        console.print(f"  {hint}", style="dim", highlight=False, markup=False, soft_wrap=True)

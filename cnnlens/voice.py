"""What a run says: notes, damaged images and how far it is, on standard error; and tables."""

from __future__ import annotations

import codecs
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from cnnlens.progress import Step, Words

if TYPE_CHECKING:
    from rich.progress import Progress

_NAMED = 5  # damaged images that are named
_LONG = 30.0  # seconds between two lines where there is no bar
_FIRST = 5.0  # seconds after which the first of them may come


@dataclass
class Voice:
    """Where a run says things.

    Attributes
    ----------
    quiet : bool
        Say nothing.
    """

    quiet: bool = False
    _said: set[str] = field(default_factory=set)

    def note(self, text: str) -> None:
        """Say something once."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            write_line(sys.stderr, text, style="dim")

    def skipped(self, found: Sequence[Mapping[str, str]]) -> None:
        """Name the first damaged images, and count the others."""
        for bad in found[:_NAMED]:
            self.note(f"skipped {bad['image']}: {bad['reason']}")
        if len(found) > _NAMED:
            self.note(f"skipped {len(found) - _NAMED} more; the summary lists all")

    def limits(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Pass a loop's steps on; say where memory ran out and its batches became smaller."""
        limit = 0
        for step in steps:
            if limit and step.limit < limit:
                self.note(f"memory ran out: batches of {step.limit} from here on")
            limit = step.limit
            yield step

    def hush(self) -> None:
        """Say nothing from here on: another process speaks for all."""
        self.quiet = True

    @contextmanager
    def counted(self, stage: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
        """Show how far one stage is, to be called with how many units are done and in all."""
        with self.progress() as bars:
            yield lambda done, total: bars.show(Step(done, total, stage, unit=unit))

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Show how far it is while the block runs: bars on a terminal, else a line now and then."""
        if self.quiet or not is_terminal(sys.stderr):
            yield Lines(None if self.quiet else sys.stderr)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        ) as bars:
            yield TerminalBars(bars)


class Results(Protocol):
    """Where a command's results are shown: the screen of the command line."""

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        """Show a table."""

    def say(self, text: str) -> None:
        """Show a line."""


class Bars:
    """One bar per stage of a run; nothing where nobody looks."""

    def show(self, step: Step) -> None:
        """Show how far a stage is."""


class TerminalBars(Bars):
    """Bars of rich."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def show(self, step: Step) -> None:
        """Move the stage's bar; the step's note takes the place of its speed."""
        note = Words(lambda: one_line(str(step.note))) if step.note else ""
        if step.stage not in self._tasks:
            # what an earlier run did must not count into the rate: the bar starts where it stands
            self._tasks[step.stage] = self._bars.add_task(
                one_line(step.stage),
                total=step.total,
                completed=step.done,
                rate=note,
                unit=step.unit,
            )
            return
        task = self._tasks[step.stage]
        speed = next(t.speed for t in self._bars.tasks if t.id == task)
        rate = f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else ""
        self._bars.update(task, completed=step.done, total=step.total, rate=note or rate)


class Lines(Bars):
    """A plain line every half minute, and for every milestone, for logs and pipes."""

    def __init__(self, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._stage, self._began, self._first = "", clock(), 0
        self._last = self._began + _FIRST - _LONG

    def show(self, step: Step) -> None:
        """Write a line where the last one is half a minute old, or a slow stage has just begun."""
        now = self._clock()
        if step.stage != self._stage:
            self._stage, self._began, self._first = step.stage, now, step.done
        due = now - self._last >= _LONG and step.done < step.total
        if self._stream is None or not (due or step.milestone):
            return
        self._last = now
        words = f"{step.stage}: {step.done} of {step.total} {step.unit}".strip()
        left = self._left(step, now)
        more = [str(text) for text in (step.note, left and f"{left} to go") if text]
        write_line(self._stream, ", ".join([words, *more]))

    def _left(self, step: Step, now: float) -> str:
        done, spent = step.done - self._first, now - self._began
        left = step.total - step.done
        return about(spent / done * left) if done > 0 and left > 0 else ""


def about(seconds: float) -> str:
    """Write a duration for people: ``about 12 min``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at a stream, on something that can draw."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def is_styled(stream: TextIO | None) -> bool:
    """Whether a stream may be coloured."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def one_line(text: str) -> str:
    """Write text so that it stays on its line and cannot steer a terminal, whatever it names."""
    text = re.sub(r"\s*[\r\n]+\s*", " ", text.strip())
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


PLAIN = "cnnlens.plain"  # how to write for an output that lacks letters
# signs of tables and notes, one letter each, so that columns stay columns; what names are likelier
# to hold is written by its code, which tells one name from another
_PLAIN = str.maketrans("×−·→", "x-.>")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks by what comes near it, or by its code."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(PLAIN, _plainly)


def drop(out: TextIO | None) -> None:
    """Let what is still buffered for an output, and what follows, go nowhere instead of failing."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # type: ignore[union-attr]


def write_line(
    stream: TextIO | None, text: str, style: str = "", label: str = "", indent: str = ""
) -> None:
    """Write one line, dressed up on a terminal only; where nobody can hear it, nothing is said."""
    if stream is None:  # closed
        return
    text = indent + one_line(text)
    try:
        try:
            _write_line(stream, text, style, label)
        except UnicodeEncodeError as error:  # of a file that a script logs to
            text = text.encode(error.encoding, PLAIN).decode(error.encoding)
            _write_line(stream, text, style, label)
    except (OSError, ValueError):  # its disk is full, or its reader gone: results are made anyway
        drop(stream)


def _write_line(stream: TextIO, text: str, style: str, label: str) -> None:
    if not is_styled(stream):
        stream.write(f"{label} {text}\n" if label else f"{text}\n")
        return
    from rich.console import Console

    console = Console(file=stream)
    if label:
        console.print(label, style="bold red", end=" ", highlight=False)
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

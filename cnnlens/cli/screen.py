"""What people see: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from cnnlens.cli.tables import aligned, write_ruled
from cnnlens.files import encodable_json
from cnnlens.voice import Voice, drop, is_styled, one_line, write_line


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
class Screen(Voice):
    """Where a command shows things; one that is `quiet` shows no progress, tables or notes."""

    json: bool = False  # standard output carries one JSON document and nothing else
    _out: TextIO = field(default_factory=_set_apart)

    def hush(self) -> None:
        """Say nothing from here on, no document either."""
        self.quiet, self.json = True, False

    def document(self, document: Any) -> None:
        """Print the command's one JSON document, where it was asked for."""
        if self.json:
            self._write(encodable_json(document, self._out.encoding or "utf-8"))

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:  # head, less have seen enough; the page is still to be made
            drop(self._out)

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
        if is_styled(self._out):
            write_ruled(self._out, columns, rows, title)
        else:
            self._write(aligned(columns, rows, title))


def report_error(message: str, hint: str) -> None:
    """Print one clear line, and a way out, on standard error."""
    write_line(sys.stderr, message, label="error:")
    if hint:
        write_line(sys.stderr, hint, style="dim", indent="  ")

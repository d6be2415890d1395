"""The table of what was run, and what came out; it stands in docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .case import Case

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- stress: begin -->", "<!-- stress: end -->"
_HEADS = ("part", "what has to hold", "seed", "cases", "commands", "of them", "faults", "longest",
          "memory", "took")  # fmt: skip
_ROW = re.compile(r"\| `(\w+)` \|")  # begins a part's row


@dataclass
class Row:
    """What came out of one part."""

    name: str
    says: str
    seed: int
    whole: int  # cases of a full run
    cases: int = 0
    commands: int = 0
    failed: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    longest: float = 0
    peak: int = 0
    seconds: float = 0

    @property
    def faults(self) -> int:
        return len(self.failed)

    def add(self, case: Case) -> None:
        """Count a case."""
        self.cases += 1
        self.commands += len(case.outcomes)
        self.counts += case.counts
        self.failed += [case.number] if case.faults else []
        self.longest = max([self.longest, *(o.seconds for o in case.outcomes)])
        self.peak = max([self.peak, *(o.peak for o in case.outcomes)])

    def cells(self) -> list[str]:
        """The row as it is printed."""
        counts = ", ".join(f"{number} × {what}" for what, number in sorted(self.counts.items()))
        few = ", ".join(map(str, self.failed[:5])) + (" …" if self.faults > 5 else "")
        return [
            f"`{self.name}`",
            self.says,
            str(self.seed),
            f"{self.cases} of {self.whole}",
            str(self.commands or "not counted"),
            counts,
            f"**{self.faults}** (cases {few})" if self.faults else "0",
            f"{self.longest:.1f} s" if self.commands else "–",
            f"{self.peak / 2**20:.0f} MB" if self.commands else "–",
            f"{self.seconds / 60:.1f} min",
        ]


def table(rows: Iterable[Row]) -> str:
    """Give the table in Markdown."""
    return _table({row.name: _line(row.cells()) for row in rows})


def write_table(rows: Iterable[Row], order: Sequence[str]) -> None:
    """Put rows into the document's table; those of other parts stay as an earlier run left them."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(BEGIN)
    earlier, _, after = rest.partition(END)
    lines = {found[1]: line for line in earlier.splitlines() if (found := _ROW.match(line))}
    lines |= {row.name: _line(row.cells()) for row in rows}
    text = _table({name: lines[name] for name in order if name in lines})
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _table(lines: dict[str, str]) -> str:
    import torch

    system = f"{platform.system()}, {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}"
    head = [_line(_HEADS), _line(["---"] * len(_HEADS))]
    return "\n".join([f"Last run on {system}, {versions}.", "", *head, *lines.values()])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

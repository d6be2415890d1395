"""The table of what was run, when, and what came out; it stands in docs/reliability.md."""

from __future__ import annotations

import datetime
import os
import platform
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .case import Case

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- stress: begin -->", "<!-- stress: end -->"


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
            f"{self.cases} of {self.whole}",
            str(self.commands),
            counts,
            f"**{self.faults}** (cases {few})" if self.faults else "0",
            f"{self.longest:.1f} s",
            f"{self.peak / 2**20:.0f} MB",
            f"{self.seconds / 60:.1f} min",
        ]


def write_table(rows: list[Row], into_document: bool) -> str:
    """Give the table in Markdown; where it is asked for, in the place of the document's."""
    heads = ["part", "what has to hold", "cases", "commands", "of them", "faults"]
    heads += ["longest", "memory", "took"]
    lines = [_when(rows), "", _line(heads), _line(["---"] * len(heads))]
    text = "\n".join([*lines, *(_line(row.cells()) for row in rows)])
    if into_document:
        document = DOCUMENT.read_text(encoding="utf-8")
        before, _, rest = document.partition(BEGIN)
        after = rest.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return text


def _when(rows: list[Row]) -> str:
    import torch

    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    system = f"{platform.system()}, {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}"
    return f"Run on {day} with seed {rows[0].seed} ({system}, {versions})."


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

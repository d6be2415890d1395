"""One case of a part: its place, its dice, the commands it ran and what it found."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.runner import files, leftovers

from .ground import copy_ground
from .trial import Outcome, Running

_UNTIMED = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")  # when the results on a page were made


@dataclass
class Case:
    """One case: equal part, seed and number, equal dice."""

    part: str
    number: int
    seed: int
    place: Path  # its own copy of the ground, where other cases were before and will be
    ground: Path  # which nobody changes
    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    about: str = ""  # what was done to it

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.part} {self.seed} {self.number}")

    @property
    def again(self) -> str:
        """The command that repeats it."""
        given = f"--seed {self.seed} --only {self.part} --case {self.number}"
        return f"python -m tests.stress {given}"

    def begin_anew(self) -> None:
        """Lay out its place."""
        shutil.rmtree(self.place, ignore_errors=True)
        copy_ground(self.ground, self.place)

    def run(self, *words: object) -> Outcome:
        """Run a command in its place to its end; its faults are the case's."""
        return self.keep(Running(self.place, words).outcome())

    def keep(self, outcome: Outcome) -> Outcome:
        """Count a command that came to its end."""
        self.outcomes.append(outcome)
        self.faults += outcome.faults
        return outcome

    def succeed(self, *words: object) -> Outcome:
        """Run a command that has no reason to fail."""
        outcome = self.run(*words)
        self.expect(outcome.code == 0, f"`{outcome}` fails: {outcome.err[-400:]}")
        return outcome

    def expect(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.faults.append(what)

    def expect_same(self, found: dict[str, bytes], truth: dict[str, bytes], what: str) -> None:
        """Note files that are missing, are too many, or have other bytes."""
        differ = sorted(
            name for name in found.keys() | truth.keys() if found.get(name) != truth.get(name)
        )
        self.expect(not differ, f"{what}: {_words(differ, found, truth)}")

    def expect_whole(self, *folders: Path, but: Iterable[Path] = ()) -> None:
        """Note half-written files, and JSON that is none."""
        for folder in folders:
            self.expect(not leftovers(folder), f"half-written: {leftovers(folder)}")
            for path in {*folder.rglob("*.json")} - {*but}:
                try:
                    json.loads(path.read_text(encoding="utf-8"))
                except ValueError as error:
                    self.faults.append(f"{path.relative_to(self.place)} is no JSON: {error}")


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path, less locks; pages less their time."""
    return {
        name: _UNTIMED.sub(b"", read) if name.endswith(".html") else read
        for name, read in files(folder).items()
        if not name.endswith(".lock")
    }


def in_any_order(found: dict[str, bytes]) -> dict[str, bytes]:
    """Put the pictures that lists name by their names: they stand in the order of making."""
    return {name: _sorted(name, content) for name, content in found.items()}


def _sorted(name: str, content: bytes) -> bytes:
    if not name.endswith(".json"):
        return content
    document = json.loads(content)
    if isinstance(document, dict) and isinstance(document.get("pictures"), list):
        document["pictures"].sort(key=json.dumps)
    return json.dumps(document).encode()


def _words(differ: list[str], found: dict[str, bytes], truth: dict[str, bytes]) -> str:
    def how(name: str) -> str:
        if name not in found:
            return f"{name} is missing"
        return f"{name} differs" if name in truth else f"{name} is new"

    return ", ".join(map(how, differ[:6])) + (f" and {len(differ) - 6} more" * (len(differ) > 6))

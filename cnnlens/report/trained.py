"""What fine-tuning found, as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.report.shown import Fact, Picture, Shown


@dataclass(frozen=True, eq=False)
class Training(Shown):
    """A network that was trained further; `table` gives its history, epoch by epoch.

    Attributes
    ----------
    path : pathlib.Path
        The checkpoint, which every command and `Investigation` open.
    document : dict
        ``new.json``.
    silent : mapping of str to (int, int)
        Units that no image held out excites, and all units, of each inserted or masked layer.
    """

    path: Path
    document: Mapping[str, Any]
    silent: Mapping[str, tuple[int, int]]

    @property
    def accuracy(self) -> float:
        """Share of images held out that are right after the training."""
        return float(self.document["accuracy"]["after"])

    @property
    def accuracy_before(self) -> float | None:
        """The same before it; None where the network had other classes."""
        before = self.document["accuracy"]["before"]
        return None if before is None else float(before)

    @property
    def dead_units(self) -> int:
        """Units of inserted or masked layers that no image held out excites."""
        return sum(dead for dead, _ in self.silent.values())

    @property
    def history(self) -> list[dict[str, Any]]:
        """``epoch`` and all terms of each epoch."""
        return [dict(entry) for entry in self.document["history"]]

    def table(self) -> list[dict[str, Any]]:
        """Give the history."""
        return self.history

    def _title(self) -> str:
        return f"{self.path.name}: {self.document['method']}, {self.document['epochs']} epochs"

    def _facts(self) -> Iterable[Fact]:
        held = self.document["images"]["validation"]
        yield f"accuracy on {held} images held out", f"{self.accuracy:.3f}", ""
        if self.accuracy_before is not None:
            yield "before", f"{self.accuracy_before:.3f}", ""
        for name, (dead, units) in self.silent.items():
            yield f"units of {name} that are silent", f"{dead} of {units}", ""
        yield from (("note", note, "") for note in self.document.get("notes", []))
        yield "checkpoint", str(self.path), ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        drawn = self.path.with_suffix(".png")
        yield "", drawn if drawn.is_file() else None

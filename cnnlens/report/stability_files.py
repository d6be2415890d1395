"""``WORKSPACE/stability/<layer>``: units.csv and summary.json, written and read back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files import columns, finite, read_rows, write_rows
from cnnlens.measure.stable_units import Stability, UnitStability
from cnnlens.report.contents import read_object
from cnnlens.report.shown import Fact, Picture, UnitResults
from cnnlens.report.words import number

_REDO = "redo `cnnlens stability` with --force"


@dataclass(frozen=True, eq=False)
class StabilityUnit(UnitStability):
    """One row of ``units.csv``; `picture` shows its peaks on its top objects."""

    picture: Path | None = None

    @property
    def words(self) -> str:
        """What was found of it, for people."""
        said = [f"{self.category}: instability {number(self.location_instability, 3)}"]
        if self.p_value is not None:
            said.append(f"p = {number(self.p_value, 2)} against its shuffled places")
        if self.selectivity is not None:
            said.append(f"selectivity {number(self.selectivity, 2)}")
        if self.part_interpretability:
            said.append(f"its mask is the {self.part} in {self.part_interpretability:.0%}")
        elif self.part:
            said.append(f"steadiest from the {self.part}")
        return ", ".join(said) + "."

    def row(self) -> dict[str, Any]:
        """Give its row of ``units.csv``."""
        return _cells(self)


def _cells(unit: UnitStability) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in columns(UnitStability)} | dict(unit.more)


class StabilityResult(UnitResults[StabilityUnit]):
    """Everything stability found on one layer; ``found[12]`` is its unit 12."""

    def column(self, name: str) -> np.ndarray:
        """Give a measure of all units, (C,) float64, NaN where one has no value."""
        return np.array([unit.row().get(name) for unit in self.units], float)

    @property
    def instability(self) -> np.ndarray:
        """(C,) float64: location instability, NaN for dead units."""
        return self.column("location_instability")

    def best(self, count: int | None = None) -> list[StabilityUnit]:
        """List the steadiest units; dead ones are left out."""
        alive = [unit for unit in self.units if unit.location_instability is not None]
        return sorted(alive, key=lambda unit: unit.location_instability or 0.0)[:count]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per unit, the columns of ``units.csv``."""
        return [unit.row() for unit in self.units]

    def _title(self) -> str:
        return f"Where the units of {self.name} look on an object"

    def _facts(self) -> Iterable[Fact]:
        shuffled = (self.summary.get("baselines") or {}).get("shuffled")
        masks = (self.summary.get("interpretability") or [{}])[0]
        chance = {"location_instability": shuffled, "part_interpretability": masks.get("chance")}
        for key in ("location_instability", "part_interpretability", "selectivity"):
            by_chance = chance.get(key, 0.5)
            words = "" if by_chance is None else number(by_chance, 3)
            yield key.replace("_", " "), number(self.summary.get(key), 3), words
        yield "dead units", str(self.summary.get("dead_units", "–")), ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(f"unit {unit.unit}, {unit.words}", unit.picture) for unit in self.best(12)]


def write_units(path: Path, found: Stability) -> None:
    """Write units.csv: one row per unit, cells of dead units empty."""
    rows = [_cells(unit) for unit in found.rows()]
    write_rows(path, rows[0], rows)


def read_stability(folder: Path) -> StabilityResult:
    """Read what stability left of one layer; a damaged file is named (`CnnlensError`)."""
    summary, file = read_object(folder / "summary.json", redo=_REDO), folder / "units.csv"

    def more(row: dict[str, str]) -> dict[str, Any]:
        others = {name: finite(cell) for name, cell in row.items() if name not in known}
        picture = folder / "pictures" / f"{row['unit']}.webp"
        return {"more": others, "picture": picture if picture.is_file() else None}

    known = columns(UnitStability)
    units = read_rows(file, StabilityUnit, _REDO, more)
    if not units:
        raise CnnlensError(f"{file} is damaged: it has no rows", _REDO)
    return StabilityResult(str(summary.get("layer") or folder.name), folder, summary, units)

"""``WORKSPACE/stability/<layer>``: units.csv and summary.json, written and read back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv, write_csv
from cnnlens.measure.stability import Stability
from cnnlens.report.contents import finite, read_object
from cnnlens.report.shown import Fact, Picture, Shown

_REDO = "redo `cnnlens stability` with --force"
MEASURES = (
    "location_instability", "p_value", "centre_distance", "selectivity", "part_interpretability",
)  # fmt: skip
COLUMNS = ("unit", "category", *MEASURES[:4], "part", MEASURES[4])


@dataclass(frozen=True, eq=False)
class StabilityUnit:
    """One row of ``units.csv``: what was measured of a unit, None where it was not.

    Attributes
    ----------
    unit : int
        Counted from 0.
    category : str
        The category that it was measured on.
    part : str
        The part that its mask is most often, or that it follows steadiest; empty where dead.
    measures : mapping of str to float or None
        By the names in `MEASURES` and ``<part>_deviation``.
    picture : pathlib.Path or None
        Its peaks on its top objects.
    """

    unit: int
    category: str
    part: str
    measures: Mapping[str, float | None]
    picture: Path | None = None

    @property
    def words(self) -> str:
        """What was found of it, for people."""
        found = self.measures
        said = [f"{self.category}: instability {_fixed(found['location_instability'], 3)}"]
        if found.get("p_value") is not None:
            said.append(f"p = {_fixed(found['p_value'], 2)} against its shuffled places")
        if found.get("selectivity") is not None:
            said.append(f"selectivity {_fixed(found['selectivity'], 2)}")
        if share := found.get("part_interpretability"):
            said.append(f"its mask is the {self.part} in {share:.0%}")
        elif self.part:
            said.append(f"steadiest from the {self.part}")
        return ", ".join(said) + "."


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, eq=False)
class StabilityResult(Shown):
    """Everything stability found on one layer; ``found[12]`` is its unit 12.

    Attributes
    ----------
    name : str
        The layer as it was typed.
    folder : pathlib.Path
        ``WORKSPACE/stability/<layer>``.
    summary : dict
        ``summary.json``.
    units : list of StabilityUnit
        Rows of ``units.csv``.
    """

    name: str
    folder: Path
    summary: dict[str, Any]
    units: list[StabilityUnit]

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, unit: int) -> StabilityUnit:
        return self.units[unit]

    def column(self, name: str) -> np.ndarray:
        """Give one of `MEASURES`, (C,) float64, NaN where a unit has no value."""
        values = [unit.measures.get(name) for unit in self.units]
        return np.array([np.nan if value is None else value for value in values], float)

    @property
    def instability(self) -> np.ndarray:
        """(C,) float64: location instability, NaN for dead units."""
        return self.column("location_instability")

    def best(self, count: int | None = None) -> list[StabilityUnit]:
        """List the steadiest units; dead ones are left out."""
        alive = [u for u in self.units if u.measures["location_instability"] is not None]
        return sorted(alive, key=lambda u: u.measures["location_instability"] or 0.0)[:count]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per unit, the columns of ``units.csv``."""
        return [
            {"unit": u.unit, "category": u.category, "part": u.part, **u.measures}
            for u in self.units
        ]

    def _title(self) -> str:
        return f"Where the units of {self.name} look on an object"

    def _facts(self) -> Iterable[Fact]:
        shuffled = (self.summary.get("baselines") or {}).get("shuffled")
        masks = (self.summary.get("interpretability") or [{}])[0]
        chance = {"location_instability": shuffled, "part_interpretability": masks.get("chance")}
        for key in ("location_instability", "part_interpretability", "selectivity"):
            by_chance = chance.get(key, 0.5)
            words = "" if by_chance is None else _fixed(by_chance, 3)
            yield key.replace("_", " "), _fixed(self.summary.get(key), 3), words
        yield "dead units", str(self.summary.get("dead_units", "–")), ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(f"unit {unit.unit}, {unit.words}", unit.picture) for unit in self.best(12)]


def read_stability(folder: Path) -> StabilityResult:
    """Read what stability left of one layer.

    Raises
    ------
    CnnlensError
        Naming the file that is damaged.
    """
    summary = read_object(folder / "summary.json", redo=_REDO)
    file = folder / "units.csv"
    rows = read_csv(file, ("unit", "category", "location_instability"))
    if not rows:
        raise CnnlensError(f"{file} is damaged: it has no rows", _REDO)
    units = [_unit(file, row) for row in rows]
    return StabilityResult(str(summary.get("layer") or folder.name), folder, summary, units)


def _unit(file: Path, row: dict[str, str]) -> StabilityUnit:
    measures, name = {}, "unit"
    try:
        unit = int(row["unit"])
        for name, cell in row.items():
            if name not in ("unit", "category", "part"):
                measures[name] = finite(cell)
    except (TypeError, ValueError) as error:
        raise CnnlensError(f"{file} is damaged: {name}: {error}", _REDO) from error
    picture = file.parent / "pictures" / f"{unit}.webp"
    shown = picture if picture.is_file() else None
    return StabilityUnit(unit, row["category"], row.get("part") or "", measures, shown)


# -- writing -------------------------------------------------------------------------------------


def write_units(path: Path, found: Stability) -> None:
    """Write units.csv: one row per unit, cells of dead units empty."""
    more = ["part_interpretability_wide"] if len(found.associations) > 1 else []
    header = [*COLUMNS, *(f"{part}_deviation" for part in found.parts), *more]
    write_csv(path, header, (_row(found, unit, bool(more)) for unit in range(found.units)))


def _row(found: Stability, unit: int, wide: bool) -> list[object]:
    part = best_part(found, unit)
    measured = (found.instability, found.p_value, found.centre_distance, found.selectivity)
    row: list[object] = [
        unit,
        found.names[found.category[unit]],
        *(_cell(values[unit]) for values in measured),
        "" if part is None else found.parts[part],
        _cell(interpretability(found, 0)[unit]),
        *(_cell(v) for v in found.deviations[unit]),
    ]
    return [*row, _cell(interpretability(found, 1)[unit])] if wide else row


def _cell(value: float) -> object:
    return "" if math.isnan(value) else float(value)


def best_part(found: Stability, unit: int) -> int | None:
    """The part a unit is associated with most often; without masks, the one it follows steadiest.

    None for dead units.
    """
    if found.dead[unit]:
        return None
    if found.associations:
        shares = found.associations[0].by_part[unit]
        if np.nanmax(np.nan_to_num(shares)) > 0:
            return int(np.nanargmax(shares))
    return int(np.nanargmin(found.deviations[unit]))


def interpretability(found: Stability, which: int) -> np.ndarray:
    """(C,) P_f at one of the quantiles; NaN without masks."""
    if which >= len(found.associations):
        return np.full(found.units, np.nan)
    one = found.associations[which]
    return one.best(one.by_part)


def summarize(found: Stability, layer: str, **more: Any) -> dict[str, Any]:
    """Put a layer's findings into one document, as ``summary.json`` and ``--json`` give them."""
    alive = int((~found.dead).sum())
    significant = int((found.p_value < 0.05).sum())
    return {
        "layer": layer,
        "units": found.units,
        "dead_units": int(found.dead.sum()),
        "images": found.images,
        "location_instability": mean(found.instability),
        "part_interpretability": mean(interpretability(found, 0)),
        "selectivity": mean(found.selectivity),
        "centre_distance": mean(found.centre_distance),
        "baselines": {
            "uniform": mean(np.array([found.uniform])),
            "centre": mean(np.array([found.centre])),
            "shuffled": mean(np.array([found.shuffled])),
        },
        "steadier_than_shuffled": {
            "units": significant,
            "of": alive,
            "level": 0.05,
            "by_chance": 0.05 * alive,
        },
        "interpretability": list(_quantiles(found)),
        "categories": found.names,
        "unmeasured_categories": found.unmeasured,
        "parts": list(_parts(found)),
        **more,
    }


def _quantiles(found: Stability) -> Iterator[dict[str, Any]]:
    for one in found.associations:
        yield {
            "quantile": one.quantile,
            "part_interpretability": mean(one.best(one.by_part)),
            "bound": mean(one.best(one.bound)),
            "chance": mean(one.best(one.chance)),
        }


def _parts(found: Stability) -> Iterator[dict[str, Any]]:
    best = [best_part(found, unit) for unit in range(found.units)]
    for number, name in enumerate(found.parts):
        yield {
            "name": name,
            "deviation": mean(found.deviations[:, number]),
            "units": best.count(number),
        }


def mean(values: np.ndarray) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None

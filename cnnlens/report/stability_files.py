"""``WORKSPACE/stability/<layer>``: units.csv and summary.json, written and read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.measure.stability import Stability
from cnnlens.report.contents import columns, finite, read_object, read_rows, write_rows
from cnnlens.report.shown import Fact, Picture, UnitResults

_REDO = "redo `cnnlens stability` with --force"


@dataclass(frozen=True, eq=False)
class StabilityUnit:
    """One row of ``units.csv``: what was measured of a unit, None where it was not.

    Attributes
    ----------
    unit : int
        Counted from 0.
    category : str
        The category that it was measured on.
    location_instability, p_value, centre_distance, selectivity, part_interpretability
        See `cnnlens.measure.stability.Stability`.
    part : str
        The part that its mask is most often, or that it follows steadiest; empty where dead.
    more : mapping of str to float or None
        ``<part>_deviation`` of each part, and ``part_interpretability_wide``.
    picture : pathlib.Path or None
        Its peaks on its top objects.
    """

    unit: int
    category: str
    location_instability: float | None
    p_value: float | None
    centre_distance: float | None
    selectivity: float | None
    part: str
    part_interpretability: float | None
    more: Mapping[str, float | None] = field(default_factory=dict)
    picture: Path | None = None

    @property
    def words(self) -> str:
        """What was found of it, for people."""
        said = [f"{self.category}: instability {_fixed(self.location_instability, 3)}"]
        if self.p_value is not None:
            said.append(f"p = {_fixed(self.p_value, 2)} against its shuffled places")
        if self.selectivity is not None:
            said.append(f"selectivity {_fixed(self.selectivity, 2)}")
        if self.part_interpretability:
            said.append(f"its mask is the {self.part} in {self.part_interpretability:.0%}")
        elif self.part:
            said.append(f"steadiest from the {self.part}")
        return ", ".join(said) + "."

    def row(self) -> dict[str, Any]:
        """Give its row of ``units.csv``."""
        return {name: getattr(self, name) for name in columns(StabilityUnit)} | dict(self.more)


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


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
            words = "" if by_chance is None else _fixed(by_chance, 3)
            yield key.replace("_", " "), _fixed(self.summary.get(key), 3), words
        yield "dead units", str(self.summary.get("dead_units", "–")), ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(f"unit {unit.unit}, {unit.words}", unit.picture) for unit in self.best(12)]


def read_stability(folder: Path) -> StabilityResult:
    """Read what stability left of one layer; a damaged file is named (`CnnlensError`)."""
    summary, file = read_object(folder / "summary.json", redo=_REDO), folder / "units.csv"

    def more(row: dict[str, str]) -> dict[str, Any]:
        others = {name: finite(cell) for name, cell in row.items() if name not in known}
        picture = folder / "pictures" / f"{row['unit']}.webp"
        return {"more": others, "picture": picture if picture.is_file() else None}

    known = columns(StabilityUnit)
    units = read_rows(file, StabilityUnit, _REDO, more)
    if not units:
        raise CnnlensError(f"{file} is damaged: it has no rows", _REDO)
    return StabilityResult(str(summary.get("layer") or folder.name), folder, summary, units)


# -- writing -------------------------------------------------------------------------------------


def write_units(path: Path, found: Stability) -> None:
    """Write units.csv: one row per unit, cells of dead units empty."""
    rows = [_unit(found, unit).row() for unit in range(found.units)]
    write_rows(path, rows[0], rows)


def _unit(found: Stability, unit: int) -> StabilityUnit:
    part, wide = _best_part(found, unit), _interpretability(found, 1)
    more = dict(
        zip((f"{part}_deviation" for part in found.parts), found.deviations[unit], strict=True)
    )
    if len(found.associations) > 1:
        more["part_interpretability_wide"] = wide[unit]
    return StabilityUnit(
        unit=unit,
        category=found.names[found.category[unit]],
        location_instability=finite(found.instability[unit]),
        p_value=finite(found.p_value[unit]),
        centre_distance=finite(found.centre_distance[unit]),
        selectivity=finite(found.selectivity[unit]),
        part="" if part is None else found.parts[part],
        part_interpretability=finite(_interpretability(found, 0)[unit]),
        more={name: finite(value) for name, value in more.items()},
    )


def _best_part(found: Stability, unit: int) -> int | None:
    """The part its mask is most often, else the one it follows steadiest; None where dead."""
    if found.dead[unit]:
        return None
    if found.associations:
        shares = found.associations[0].by_part[unit]
        if np.nanmax(np.nan_to_num(shares)) > 0:
            return int(np.nanargmax(shares))
    return int(np.nanargmin(found.deviations[unit]))


def _interpretability(found: Stability, which: int) -> np.ndarray:
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
        "location_instability": _mean(found.instability),
        "part_interpretability": _mean(_interpretability(found, 0)),
        "selectivity": _mean(found.selectivity),
        "centre_distance": _mean(found.centre_distance),
        "baselines": {
            "uniform": _mean(np.array([found.uniform])),
            "centre": _mean(np.array([found.centre])),
            "shuffled": _mean(np.array([found.shuffled])),
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
            "part_interpretability": _mean(one.best(one.by_part)),
            "bound": _mean(one.best(one.bound)),
            "chance": _mean(one.best(one.chance)),
        }


def _parts(found: Stability) -> Iterator[dict[str, Any]]:
    best = [_best_part(found, unit) for unit in range(found.units)]
    for number, name in enumerate(found.parts):
        yield {
            "name": name,
            "deviation": _mean(found.deviations[:, number]),
            "units": best.count(number),
        }


def _mean(values: np.ndarray) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None

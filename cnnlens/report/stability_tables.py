"""What stability found on a layer as the files that scripts and the page read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.files import write_csv
from cnnlens.measure.stability import Stability

COLUMNS = (
    "unit", "category", "location_instability", "p_value", "centre_distance", "selectivity",
    "part", "part_interpretability",
)  # fmt: skip


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

"""The section about units: what each of them responds to, image first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.measure.compared import data_name
from cnnlens.measure.dissected_units import Histogram
from cnnlens.report.blocks import Explorer, Note, Section
from cnnlens.report.figures.units import SHOWN
from cnnlens.report.unit_files import Unit, UnitsResult, read_all_units

STILL = 12  # units per layer that print and readers without JavaScript see
BINS = 32  # finer histograms are merged to this
_KINDS = {"pictures": "picture", "examples": "examples"}


def units(workspace: Path) -> Section | None:
    """Gather the section; None where units has not been run."""
    layers = read_all_units(workspace)
    if not layers:
        return None
    explorer = Explorer(
        template="units.html",
        view={
            "layers": layers,
            "most": STILL,
            "key": _key,
            "masked": lambda layer: bool(layer.summary.get("masked")),
            "data": lambda summary: Path(data_name(summary)).name,
        },
        data={"layers": [_data(layer) for layer in layers]},
        pictures={
            key: getattr(unit, name)
            for layer in layers
            for unit in layer.units
            for kind, name in _KINDS.items()
            if (key := _key(layer, unit, kind))
        },
    )
    sources = [layer.folder / "summary.json" for layer in layers]
    title = "What its units respond to"
    return Section("units", title, Note("units"), [explorer], sources)


def _key(layer: UnitsResult, unit: Unit, kind: str) -> str | None:
    """Name a unit's picture among all pictures of the page."""
    there = getattr(unit, _KINDS[kind]) is not None
    return f"units/{layer.folder.name}/{kind}/{unit.unit}.webp" if there else None


def _data(layer: UnitsResult) -> dict[str, Any]:
    """Give what the script shows."""
    names = dict.fromkeys(one.image for unit in layer.units for one in unit.top[:SHOWN])
    index = {name: number for number, name in enumerate(names)}
    return {
        "name": layer.name,
        "folder": layer.folder.name,
        "strip": SHOWN,
        "hasCategories": bool(layer.summary.get("categories")),
        "images": list(names),
        "units": [_unit(unit, index) for unit in layer.units],
    }


def _unit(unit: Unit, index: dict[str, int]) -> dict[str, Any]:
    low, high = unit.bins[0].low, unit.bins[-1].high
    return {
        "unit": unit.unit,
        "dead": unit.dead,
        "pictures": unit.picture is not None and unit.examples is not None,
        "peak": _short(unit.peak_max),
        "density": _short(unit.density),
        "mean": _short(unit.mean),
        "category": None if unit.dead else unit.category or None,
        "share": _short(unit.category_share),
        "entropy": _short(unit.category_entropy),
        "selectivity": _short(unit.class_selectivity),
        "top": [(index[one.image], _short(one.peak)) for one in unit.top[:SHOWN]],
        "from": _short(low),
        "step": _short((high - low) / len(unit.bins)),
        "counts": [one.images for one in unit.bins],
        "near": [(layer, number, round(r, 3)) for layer, number, r in unit.neighbours],
        "histogram": _filled(unit.histogram).merged(BINS),
    }


def _filled(histogram: Histogram) -> Histogram:
    """Leave out the empty bins at its end."""
    last = int(np.flatnonzero(histogram.counts).max(initial=0)) + 1
    return Histogram(histogram.counts[:last], histogram.edges[: last + 1])


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")

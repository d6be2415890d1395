"""The section about dissection: which unit detects which concept, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.report.blocks import Explorer, Section
from cnnlens.report.dissect_files import (
    Best,
    Concept,
    DissectResult,
    Histogram,
    Unit,
    read_dissections,
)
from cnnlens.report.figures.dissect import chance_unique, format_p
from cnnlens.report.palette import colours

TABLE_UNITS = 12  # units in the table that print and readers without JavaScript see
NEAR = 8  # concepts shown per unit, and units per concept, at least
NEAR_SHARE = 0.8  # of the best IoU: every concept above it is shown too
NEAR_LIMIT = 24
BINS = 128  # finer histograms are merged to this


def dissection(workspace: Path) -> Section | None:
    """Gather the section; None where nothing has been dissected."""
    layers = read_dissections(workspace)
    if not layers:
        return None
    categories = list(dict.fromkeys(name for layer in layers for name in layer.categories))
    number = {name: index for index, name in enumerate(categories)}
    explorer = Explorer(
        template="dissection.html",
        view={
            "layers": [_view(layer, number) for layer in layers],
            "bars": _bars(layers, categories),
        },
        data={"categories": categories, "layers": [_data(layer, number) for layer in layers]},
        pictures={
            key: unit.picture
            for layer in layers
            for unit in layer.units
            if unit.picture and (key := picture_key(layer, unit))
        },
    )
    sources = [layer.folder / "summary.json" for layer in layers]
    palette = list(colours(categories).values())
    return Section("dissect", "What its units detect", "", [explorer], sources, palette)


def picture_key(layer: DissectResult, unit: Unit) -> str | None:
    """Name a unit's strip among all pictures of the page."""
    return f"dissect/{layer.folder.name}/pictures/{unit.unit}.webp" if unit.picture else None


# -- what the template shows ---------------------------------------------------------------------


def _view(layer: DissectResult, number: Mapping[str, int]) -> dict[str, Any]:
    summary, chance = layer.summary, layer.summary.get("chance") or {}
    return {
        "name": layer.name,
        "summary": summary,
        "chance": chance,
        "sure": _sure(layer),
        "per_category_sum": _per_category_sum(summary),
        "chance_per_category_sum": _per_category_sum(chance),
        "data": data_name(summary.get("data")),
        "skipped": [_skipped(entry) for entry in summary.get("skipped") or []],
        "top": [_table_row(layer, unit, number) for unit in layer.best(TABLE_UNITS)],
        "has_p": has_p(layer),
    }


def data_name(data: Any) -> str:
    """Name a summary's data set, whether it is given as a path, a list or an object."""
    if isinstance(data, Mapping):
        return str(data.get("name") or data.get("path") or "")
    if isinstance(data, Sequence) and not isinstance(data, str):
        return ", ".join(data_name(entry) for entry in data)
    return Path(str(data)).name if data else ""


def has_p(layer: DissectResult) -> bool:
    """Whether the layer was held against chance unit by unit."""
    return any(unit.p_value is not None for unit in layer.units)


def _sure(layer: DissectResult) -> int | None:
    if not has_p(layer):
        return None
    return sum(u.is_detector and u.p_value is not None and u.p_value < 0.05 for u in layer.units)


def _per_category_sum(counts: Mapping[str, Any]) -> float | None:
    rows = counts.get("per_category")
    return sum(row.get("unique_detectors") or 0 for row in rows.values()) if rows else None


def _skipped(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return str(entry)
    name = entry.get("image") or entry.get("path") or ""
    return f"{name}: {entry['reason']}" if entry.get("reason") else str(name)


def _table_row(layer: DissectResult, unit: Unit, number: Mapping[str, int]) -> dict[str, Any]:
    return {
        "unit": unit.unit,
        "label": unit.label,
        "category": unit.category,
        "colour": number.get(unit.category),
        "iou": unit.iou,
        "is_detector": unit.is_detector,
        "p": None if unit.p_value is None else format_p(unit.p_value),
        "picture": picture_key(layer, unit),
    }


def _bars(layers: list[DissectResult], categories: list[str]) -> dict[str, Any]:
    """Lay out the papers' bars: categories down, layers across."""
    shown = [c for c in categories if any(c in _per_category(layer) for layer in layers)]
    rows = [(name, [_cell(layer, name) for layer in layers]) for name in shown]
    total = [_cell(layer, None) for layer in layers]
    cells = [cell for _, row in rows for cell in row] + total
    longest = max((max(cell["unique"], cell["chance"] or 0) for cell in cells), default=0) or 1
    return {
        "layers": [layer.name for layer in layers],
        "rows": [(name, categories.index(name), row) for name, row in rows],
        "total": total,
        "longest": longest,
        "chance": any(cell["chance"] is not None for cell in cells),
    }


def _per_category(layer: DissectResult) -> Mapping[str, Any]:
    return layer.summary.get("per_category") or {}


def _cell(layer: DissectResult, category: str | None) -> dict[str, Any]:
    source = layer.summary if category is None else _per_category(layer).get(category) or {}
    return {
        "unique": source.get("unique_detectors") or 0,
        "detectors": source.get("detectors") or 0,
        "chance": chance_unique(layer.summary, category),
    }


# -- what the script shows -----------------------------------------------------------------------


def _data(layer: DissectResult, number: Mapping[str, int]) -> dict[str, Any]:
    names = dict.fromkeys(top.image for unit in layer.units for top in unit.top)
    images = {name: index for index, name in enumerate(names)}
    concept_of = {(c.label, c.category): index for index, c in enumerate(layer.concepts)}
    units = []
    for row, unit in enumerate(layer.units):
        units.append(
            {
                "unit": unit.unit,
                "threshold": unit.threshold,
                **_best(unit, number, concept_of),
                "detector": unit.is_detector,
                "p": unit.p_value,
                "dead": deadness(unit),
                "best": [_best(best, number, concept_of) for best in unit.by_category],
                "near": [] if layer.scores is None else near_best(layer.scores[row]),
                "top": [(images[top.image], top.peak) for top in unit.top],
                "histogram": _histogram(unit.histogram),
                "picture": picture_key(layer, unit),
            }
        )
    return {
        "name": layer.name,
        "minIou": layer.summary.get("min_iou"),
        "quantile": layer.summary.get("quantile"),
        "hasP": has_p(layer),
        "images": list(images),
        "units": units,
        "concepts": _concepts(layer, number),
    }


def _best(
    best: Best | Unit, number: Mapping[str, int], concept_of: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    return {
        "label": best.label,
        "category": number.get(best.category),
        "iou": best.iou,
        "concept": concept_of.get((best.label, best.category)),
    }


def deadness(unit: Unit) -> str:
    """Say whether a unit never or hardly ever fires: "dead", "nearly dead" or ""."""
    if unit.histogram is not None and np.count_nonzero(unit.histogram.counts) <= 1:
        return "dead"  # one value everywhere
    return "nearly dead" if unit.threshold == 0 else ""


def near_best(scores: np.ndarray) -> list[tuple[int, float]]:
    """Choose the highest scores of a row: the first `NEAR`, and all within reach of the best.

    Parameters
    ----------
    scores : numpy.ndarray
        (n,) IoU values.

    Returns
    -------
    list of (int, float)
        Index and score, best first, ties by index, zeros left out, at most `NEAR_LIMIT`.
    """
    order = np.argsort(-scores, kind="stable")[:NEAR_LIMIT]
    floor = NEAR_SHARE * float(scores[order[0]]) if len(order) else 0.0
    return [
        (int(index), float(f"{scores[index]:.6g}"))
        for rank, index in enumerate(order)
        if scores[index] > 0 and (rank < NEAR or scores[index] >= floor)
    ]


def _histogram(histogram: Histogram | None) -> dict[str, Any] | None:
    if histogram is None or not np.isfinite(histogram.edges).all():
        return None
    group = -(-len(histogram.counts) // BINS)
    starts = np.arange(0, len(histogram.counts), group)
    counts = np.add.reduceat(histogram.counts, starts)
    edges = np.append(histogram.edges[starts], histogram.edges[-1])
    return {
        "counts": [int(count) for count in counts],
        "edges": [float(f"{edge:.5g}") for edge in edges],
    }


def _concepts(layer: DissectResult, number: Mapping[str, int]) -> list[dict[str, Any]]:
    detectors: dict[tuple[str, str], int] = {}
    for unit in layer.units:
        if unit.is_detector:
            key = (unit.label, unit.category)
            detectors[key] = detectors.get(key, 0) + 1
    return [
        {
            "label": concept.label,
            "category": number.get(concept.category),
            "pixels": concept.pixels,
            "images": concept.images,
            "bestUnit": concept.best_unit,
            "iou": concept.best_iou,
            "detectors": detectors.get((concept.label, concept.category), 0),
            "top": _top_units(layer, column, concept),
        }
        for column, concept in enumerate(layer.concepts)
    ]


def _top_units(layer: DissectResult, column: int, concept: Concept) -> list[tuple[int, float]]:
    if layer.scores is not None:
        best = near_best(layer.scores[:, column])[:NEAR]
        return [(layer.units[row].unit, iou) for row, iou in best]
    if concept.best_unit is None or concept.best_iou is None:
        return []
    return [(concept.best_unit, concept.best_iou)]

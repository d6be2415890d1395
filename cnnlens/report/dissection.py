"""The section about dissection: which unit detects which concept, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.measure.dissected_units import Best, ConceptExtent
from cnnlens.report.blocks import Explorer, Section
from cnnlens.report.contents import data_name
from cnnlens.report.dissect_files import DissectResult, Histogram, Unit, read_dissections
from cnnlens.report.figures.dissect import count_of
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
            "layers": layers,
            "bars": _bars(layers, categories),
            "number": number,
            "most": TABLE_UNITS,
            "key": picture_key,
            "summed": _summed,
            "data": lambda summary: Path(data_name(summary)).name,
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


def _summed(counts: Mapping[str, Any]) -> int | None:
    rows = counts.get("per_category")
    return sum(row.get("unique_detectors") or 0 for row in rows.values()) if rows else None


def _bars(layers: list[DissectResult], categories: list[str]) -> dict[str, Any]:
    """Lay out the papers' bars: categories down, layers across."""
    known = {name for layer in layers for name in layer.summary.get("per_category") or {}}
    rows = {name: [_bar(layer, name) for layer in layers] for name in categories if name in known}
    total = [_bar(layer, None) for layer in layers]
    bars = [bar for row in (*rows.values(), total) for bar in row]
    longest = max(max(bar["unique"], bar["chance"] or 0) for bar in bars)
    return {
        "rows": rows,
        "total": total,
        "longest": longest or 1,
        "chance": any(bar["chance"] is not None for bar in bars),
    }


def _bar(layer: DissectResult, category: str | None) -> dict[str, Any]:
    return {
        "unique": count_of(layer.summary, category) or 0,
        "detectors": count_of(layer.summary, category, "detectors") or 0,
        "chance": count_of(layer.summary.get("chance"), category),
    }


# -- what the script shows -----------------------------------------------------------------------


def _data(layer: DissectResult, number: Mapping[str, int]) -> dict[str, Any]:
    names = dict.fromkeys(top.image for unit in layer.units for top in unit.top)
    images = {name: index for index, name in enumerate(names)}
    concept_of = {(c.label, c.category): index for index, c in enumerate(layer.concepts)}

    def best(found: Best | Unit) -> dict[str, Any]:
        return {
            "label": found.label,
            "category": number.get(found.category),
            "iou": found.iou,
            "concept": concept_of.get((found.label, found.category)),
        }

    units = [
        {
            "unit": unit.unit,
            "threshold": unit.threshold,
            **best(unit),
            "detector": unit.is_detector,
            "p": unit.p_value,
            "dead": deadness(unit),
            "best": [best(one) for one in unit.by_category if one.label],
            "near": [] if layer.scores is None else near_best(layer.scores[row]),
            "top": [(images[top.image], top.peak) for top in unit.top],
            "histogram": _histogram(unit.histogram),
            "picture": picture_key(layer, unit),
        }
        for row, unit in enumerate(layer.units)
    ]
    return {
        "name": layer.name,
        "minIou": layer.summary.get("min_iou"),
        "quantile": layer.summary.get("quantile"),
        "hasP": layer.has_p,
        "images": list(images),
        "units": units,
        "concepts": _concepts(layer, number),
    }


def deadness(unit: Unit) -> str:
    """Say whether a unit never or hardly ever fires: "dead", "nearly dead" or ""."""
    if unit.histogram is not None and np.count_nonzero(unit.histogram.counts) <= 1:
        return "dead"  # one value everywhere
    return "nearly dead" if unit.threshold == 0 else ""


def near_best(scores: np.ndarray) -> list[tuple[int, float]]:
    """Choose the highest of (n,) IoU values: the first `NEAR`, and all within reach of the best.

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
    edges = [*histogram.edges[starts], histogram.edges[-1]]
    return {"counts": counts.tolist(), "edges": [float(f"{edge:.5g}") for edge in edges]}


def _concepts(layer: DissectResult, number: Mapping[str, int]) -> list[dict[str, Any]]:
    detected = Counter((unit.label, unit.category) for unit in layer.units if unit.is_detector)
    return [
        {
            "label": concept.label,
            "category": number.get(concept.category),
            "pixels": concept.pixels,
            "images": concept.images,
            "bestUnit": concept.best_unit,
            "iou": concept.best_iou,
            "detectors": detected[concept.label, concept.category],
            "top": _top_units(layer, column, concept),
        }
        for column, concept in enumerate(layer.concepts)
    ]


def _top_units(
    layer: DissectResult, column: int, concept: ConceptExtent
) -> list[tuple[int, float]]:
    if layer.scores is not None:
        best = near_best(layer.scores[:, column])[:NEAR]
        return [(layer.units[row].unit, iou) for row, iou in best]
    if concept.best_unit is None or concept.best_iou is None:
        return []
    return [(concept.best_unit, concept.best_iou)]

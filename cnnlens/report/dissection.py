"""The section about dissection: which unit detects which concept, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cnnlens.measure.compared import data_name
from cnnlens.measure.dissected_units import NEAR, Best, ConceptExtent, formulas_said, near_best
from cnnlens.report.blocks import Explorer, Section
from cnnlens.report.dissect_files import read_dissections
from cnnlens.report.dissect_result import DissectResult, Unit
from cnnlens.report.figures import colours
from cnnlens.report.figures.dissect import count_of, differing, told_of, unlike
from cnnlens.report.seen import Seen, written_map

TABLE_UNITS = 12  # units in the table that print and readers without JavaScript see
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
            "formulas": _formulas,
            "data": lambda summary: Path(data_name(summary)).name,
            **_settings(layers),
        },
        data={"categories": categories, "layers": [_data(layer, number) for layer in layers]},
        pictures=dict(_pictures(layers)),
        layers=[layer.name for layer in layers],
    )
    sources = [layer.folder / "summary.json" for layer in layers]
    palette = list(colours(categories).values())
    return Section("dissect", "What its units detect", "", [explorer], sources, palette)


def picture_key(layer: DissectResult, unit: Unit) -> str | None:
    """Name a unit's strip among all pictures of the page."""
    return f"dissect/{layer.folder.name}/pictures/{unit.unit}.webp" if unit.picture else None


def _pictures(layers: list[DissectResult]) -> Iterator[tuple[str, Path]]:
    """Yield top images one by one; strips of them where they are not kept so, and for print."""
    for layer in layers:
        for unit in layer.units:
            if unit.picture and (key := _strip_key(layer, unit)):
                yield key, unit.picture
            yield from ((f"images/{p.name}", p) for one in unit.seen if (p := one.picture))
        for unit in layer.best(TABLE_UNITS):
            if unit.picture and (key := picture_key(layer, unit)):
                yield key, unit.picture


def _strip_key(layer: DissectResult, unit: Unit) -> str | None:
    """Name a unit's strip, where its images are not kept one by one."""
    return None if unit.seen else picture_key(layer, unit)


def _summed(counts: Mapping[str, Any]) -> int | None:
    rows = counts.get("per_category")
    return sum(row.get("unique_detectors") or 0 for row in rows.values()) if rows else None


def _settings(layers: list[DissectResult]) -> dict[str, Any]:
    """Say from which IoU on a unit counts, and how layers were dissected where that differs."""
    summaries = {layer.name: layer.summary for layer in layers}
    differ, apart = differing(summaries)
    told = {n: told_of(s)["min_iou"].removeprefix("IoU from ") for n, s in summaries.items()}
    same = "min_iou" not in differ
    return {
        "differ": differ,
        "unlike": unlike(summaries),
        "apart": differ and {name: ", ".join(said) for name, said in apart.items()},
        "reached": next(iter(told.values()))
        if same
        else ", ".join(f"{least} in {name}" for name, least in told.items()),
    }


def _formulas(summary: Mapping[str, Any]) -> str:
    said = formulas_said(summary)
    return said[:1].upper() + said[1:]


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
    seen = {one.image: one for unit in layer.units for one in unit.seen}
    wide = 1 + max((top.x or 0 for unit in layer.units for top in unit.top), default=0)
    concept_of = {(c.label, c.category): index for index, c in enumerate(layer.concepts)}
    best = partial(_best, number, concept_of)
    return {
        "name": layer.name,
        "minIou": layer.summary.get("min_iou"),
        "quantile": layer.summary.get("quantile"),
        "hasP": layer.has_p,
        "chance": (layer.summary.get("chance") or {}).get("mean_iou"),
        "images": list(images),
        **_sight(seen, list(images), wide),
        "units": [_unit(layer, row, best, images, wide) for row in range(len(layer.units))],
        "concepts": _concepts(layer, number),
    }


def _best(
    number: Mapping[str, int], concept_of: Mapping[tuple[str, str], int], found: Best | Unit
) -> dict[str, Any]:
    return {
        "label": found.label,
        "category": number.get(found.category),
        "iou": found.iou,
        "concept": concept_of.get((found.label, found.category)),
    }


def _unit(
    layer: DissectResult,
    row: int,
    best: Callable[[Best | Unit], dict[str, Any]],
    images: Mapping[str, int],
    wide: int,
) -> dict[str, Any]:
    unit = layer.units[row]
    return {
        "unit": unit.unit,
        "threshold": unit.threshold,
        **best(unit),
        "detector": unit.is_detector,
        "p": unit.p_value,
        "dead": unit.deadness,
        "best": [best(one) for one in unit.by_category if one.label],
        "near": [] if layer.scores is None else near_best(layer.scores[row]),
        "top": [
            (images[top.image], top.peak, (top.y or 0) * wide + (top.x or 0)) for top in unit.top
        ],
        "histogram": unit.histogram and unit.histogram.merged(BINS),
        "picture": _strip_key(layer, unit),
        "maps": [written_map(one.map) for one in unit.seen],
    }


def _sight(seen: Mapping[str, Seen], images: list[str], wide: int) -> dict[str, Any]:
    """Say what units see of top images that are kept one by one."""
    one = next(iter(seen.values()), None)
    if one is None or one.view is None or one.map is None:
        return {"seen": None}
    files = [path.stem if (path := seen[name].picture) else None for name in images]
    return {"seen": one.view.as_dict(), "map": one.map.shape, "wide": wide, "files": files}


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

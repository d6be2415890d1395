"""A dissection as the files that scripts and the page read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnlens.files import write_csv, write_json
from cnnlens.measure.dissection import Detectors, Dissection


def write_tables(
    folder: Path, dissection: Dissection, summary: dict[str, Any], paths: list[str]
) -> None:
    """Write units.csv, concepts.csv, scores.h5, top.csv, distributions.h5 and summary.json.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder.
    dissection : Dissection
        One layer's.
    summary : dict
        From `summarize`.
    paths : list of str
        Images of the data set, in its order.
    """
    write_units(folder / "units.csv", dissection)
    write_concepts(folder / "concepts.csv", dissection)
    write_scores(folder / "scores.h5", dissection)
    if dissection.top is not None:
        write_top(folder / "top.csv", dissection, paths)
    if dissection.histogram is not None:
        with h5py.File(folder / "distributions.h5", "w") as file:
            file["histogram"] = dissection.histogram.counts
            file["edges"] = dissection.histogram.edges
    write_json(folder / "summary.json", summary)


def summarize(dissection: Dissection, layer: str, **more: Any) -> dict[str, Any]:
    """Put a layer's findings into one document, as ``summary.json`` and ``--json`` give them."""
    found, settings = dissection.detectors, dissection.settings
    summary: dict[str, Any] = {
        "layer": layer,
        "units": dissection.units,
        "images": dissection.images,
        "quantile": settings.quantile,
        "min_iou": settings.min_iou,
        "detectors": found.detectors,
        "unique_detectors": found.unique,
        "unique_detectors_per_category_summed": sum(u for _, u in found.per_category.values()),
        "ratio_unique_detectors": found.unique / dissection.units,
        "mean_iou": found.mean_iou,
        "dead_units": int(dissection.dead.sum()),
        "by_category": _by(found, "by_category"),
        "per_category": _by(found, "per_category"),
    }
    if dissection.chance is not None:
        p_values = dissection.p_values
        summary["chance"] = dissection.chance
        summary["detectors_beyond_chance"] = _beyond_chance(dissection, p_values)
    return {
        **summary,
        "categories": list(dissection.concepts.categories),
        "skipped_labels": [list(pair) for pair in dissection.skipped],
        "settings": settings.as_dict(),
        **more,
    }


def _by(found: Detectors, which: str) -> dict[str, dict[str, int]]:
    pairs = getattr(found, which).items()
    return {name: {"detectors": d, "unique_detectors": u} for name, (d, u) in pairs}


def _beyond_chance(dissection: Dissection, p_values: np.ndarray | None) -> int:
    reached = dissection.best_iou >= dissection.settings.min_iou
    return int((reached & (p_values < 0.05)).sum()) if p_values is not None else 0


def write_units(path: Path, dissection: Dissection) -> None:
    """Write ``units.csv``: one row per unit."""
    concepts = dissection.concepts
    within = [dissection.best_within(c) for c in range(len(concepts.categories))]
    header = ["unit", "threshold", "label", "category", "iou", "is_detector"]
    for category in concepts.categories:
        header += [f"{category}_label", f"{category}_iou"]
    p_values = dissection.p_values
    rows = []
    for unit in range(dissection.units):
        best, score = int(dissection.best[unit]), float(dissection.best_iou[unit])
        name = concepts.names[best] if best >= 0 else None
        detects = name is not None and score >= dissection.settings.min_iou
        row: list[object] = [unit, float(dissection.thresholds[unit])]
        row += [name.label, name.category] if name else ["", ""]
        row += [score, "true" if detects else "false"]
        for winners, scores in within:
            winner = int(winners[unit])
            row += [concepts.names[winner].label if winner >= 0 else "", float(scores[unit])]
        rows.append([*row, float(p_values[unit])] if p_values is not None else row)
    write_csv(path, [*header, "p_value"] if p_values is not None else header, rows)


def write_concepts(path: Path, dissection: Dissection) -> None:
    """Write ``concepts.csv``: how much there is of each concept, and its best unit."""
    scores, concepts = dissection.iou, dissection.concepts
    best = scores.argmax(axis=0)
    rows = [
        (
            concept.label,
            concept.category,
            int(concepts.pixels[k]),
            int(concepts.images[k]),
            int(best[k]) if scores[best[k], k] > 0 else "",
            float(scores[best[k], k]),
        )
        for k, concept in enumerate(concepts.names)
    ]
    write_csv(path, ["label", "category", "pixels", "images", "best_unit", "best_iou"], rows)


def write_scores(path: Path, dissection: Dissection) -> None:
    """Write ``scores.h5``: the table of IoU, units × concepts, with its scales."""
    names = [f"{c.category}:{c.label}" for c in dissection.concepts.names]
    with h5py.File(path, "w") as file:
        iou = file.create_dataset("iou", data=dissection.iou.astype(np.float32))
        file["unit"] = np.arange(dissection.units)
        file.create_dataset("concept", data=names, dtype=h5py.string_dtype())
        for axis, name in enumerate(("unit", "concept")):
            file[name].make_scale(name)
            iou.dims[axis].attach_scale(file[name])
            iou.dims[axis].label = name


def write_top(path: Path, dissection: Dissection, paths: list[str]) -> None:
    """Write ``top.csv``: each unit's top images, their peak, and where on the map it is."""
    top = dissection.top
    assert top is not None
    rows = []
    for unit in range(dissection.units):
        for rank, position in enumerate(top.positions[unit]):
            if position >= 0:
                y, x = np.unravel_index(top.maps[unit, rank].argmax(), top.maps.shape[2:])
                peak = float(top.peaks[unit, rank])
                rows.append((unit, rank, paths[position], peak, int(y), int(x)))
    write_csv(path, ["unit", "rank", "image", "peak", "y", "x"], rows)

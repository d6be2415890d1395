"""``WORKSPACE/dissect/<layer>``: its files, written and read back.

units.csv, concepts.csv, scores.h5, top.csv, distributions.h5, summary.json, pictures/. Of what is
read every file but the summary and the units may be missing, none may be damaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files.tables import columns, finite, read_rows, write_rows
from cnnlens.measure.dissected_units import (
    Best,
    ConceptExtent,
    DissectedUnit,
    Histogram,
    TopImage,
    concepts_of,
    top_of,
    units_of,
)
from cnnlens.measure.dissection import Dissection
from cnnlens.measure.unit_maps import coarse
from cnnlens.model.layer import file_name
from cnnlens.report.contents import check_numbers, read_layers, read_summary, reading, write_scales
from cnnlens.report.dissect_result import DissectResult, Unit, cells
from cnnlens.report.seen import Seen, View

_REDO = "redo `cnnlens dissect` with --force"


# -- reading -------------------------------------------------------------------------------------


def read_dissections(workspace: Path) -> list[DissectResult]:
    """Read every dissected layer, in the workspace's order, then by name."""
    return read_layers(workspace, "dissect", read_dissection)


def labels(workspace: Path, layer: str) -> dict[int, tuple[str, str, float]]:
    """Look up label, category and IoU of a layer's detectors, by unit; none where the layer has not
    been dissected. A damaged table is named (`CnnlensError`).
    """
    table = workspace / "dissect" / file_name(layer) / "units.csv"
    units = read_rows(table, DissectedUnit, _REDO, may_miss=True)
    return {u.unit: (u.label, u.category, u.iou) for u in units if u.is_detector}


def detected(workspace: Path, layer: str) -> dict[int, str]:
    """Say what each detector of a layer detects: ``hair, IoU 0.24`` (see `labels`)."""
    found = labels(workspace, layer)
    return {unit: f"{label}, IoU {iou:.2f}" for unit, (label, _, iou) in found.items()}


def read_dissection(folder: Path) -> DissectResult:
    """Read the files of one layer; a damaged file is named (`CnnlensError`)."""
    name, summary = _checked_summary(folder)
    with reading(folder / "summary.json", _REDO):
        listed = [str(n) for n in summary.get("categories") or summary.get("per_category") or []]
        view = View.of(summary)
    units = _units(folder, listed, view)
    if summary.get("units") not in (None, len(units)):
        raise CnnlensError(f"{folder / 'units.csv'} is damaged: it has {len(units)} rows", _REDO)
    concepts = read_rows(folder / "concepts.csv", ConceptExtent, _REDO, may_miss=True)
    scores = None
    if (folder / "scores.h5").exists():
        scores, concepts = _scores(folder / "scores.h5", units, concepts)
    met = [*listed, *(best.category for unit in units for best in unit.by_category if best.label)]
    met += [*(unit.category for unit in units), *(concept.category for concept in concepts)]
    categories = [category for category in dict.fromkeys(met) if category]
    return DissectResult(name, folder, summary, units, categories, concepts, scores)


def read_summaries(workspace: Path) -> dict[str, dict[str, Any]]:
    """Read ``summary.json`` of every dissected layer, by its name, in the workspace's order."""
    return dict(read_layers(workspace, "dissect", _checked_summary))


def _checked_summary(folder: Path) -> tuple[str, dict[str, Any]]:
    layer, summary = read_summary(folder, _REDO)
    with reading(folder / "summary.json", _REDO):
        for part in (summary, *((summary.get(name) or {}) for name in ("chance", "formulas"))):
            for found in (part, *(part.get("per_category") or {}).values()):
                check_numbers(found, _NUMBERS)
    return layer, summary


_NUMBERS = (
    "units", "images", "detectors", "unique_detectors", "quantile", "min_iou",
    "ratio_unique_detectors", "mean_iou", "longer", "mean_gain", "mean_gain_by_chance",
    "tested", "beyond_chance",
)  # fmt: skip


def _units(folder: Path, categories: Sequence[str], view: View | None) -> list[Unit]:
    """Read the units with all that is known of them."""

    def more(row: dict[str, str]) -> dict[str, Any]:
        known = [name.removesuffix("_label") for name in row if name and name.endswith("_label")]
        names = dict.fromkeys([*categories, *known])
        ious = {name: finite(row[f"{name}_iou"]) for name in names if f"{name}_iou" in row}
        found = [Best(row[f"{name}_label"], name, iou or 0.0) for name, iou in ious.items()]
        return {"by_category": tuple(found)}

    units = read_rows(folder / "units.csv", Unit, _REDO, more)
    top: dict[int, list[TopImage]] = {}
    images = read_rows(folder / "top.csv", TopImage, _REDO, may_miss=True)
    for image in sorted(images, key=lambda t: (t.unit, t.rank)):
        top.setdefault(image.unit, []).append(image)
    histograms = _histograms(folder / "distributions.h5", units)
    pictures = {path.stem: path for path in (folder / "pictures").glob("*.webp")}
    seen = _seen(folder, units, top, view)
    return [
        replace(
            unit,
            top=tuple(top.get(unit.unit, ())),
            histogram=histograms.get(unit.unit),
            picture=pictures.get(str(unit.unit)),
            seen=seen.get(unit.unit, []),
        )
        for unit in units
    ]


def _seen(
    folder: Path, units: Sequence[Unit], top: Mapping[int, Sequence[TopImage]], view: View | None
) -> dict[int, list[Seen]]:
    """Read how units' top images are shown; nothing where they are not kept one by one."""
    if view is None or not (path := folder / "pictures.h5").exists():
        return {}
    place = folder.parents[1] / "images"
    with reading(path, _REDO), h5py.File(path, "r") as file:
        files, maps = file["files"].asstr()[()], file["top_map"][()]
        if len(files) != len(units) or files.shape != maps.shape[:2]:
            raise ValueError("its shapes do not fit")
    there = {name: place / name for name in np.unique(files) if name and (place / name).is_file()}

    def of(row: int, one: TopImage, threshold: float) -> Seen:
        level = threshold / one.peak if one.peak else 1.0
        spot, picture = (one.y or 0, one.x or 0), there.get(files[row, one.rank])
        return Seen(one.image, one.peak, spot, picture, view, maps[row, one.rank], level)

    return {
        unit.unit: [of(row, one, unit.threshold or 0.0) for one in top.get(unit.unit, ())]
        for row, unit in enumerate(units)
    }


def _scores(
    path: Path, units: list[Unit], concepts: list[ConceptExtent]
) -> tuple[np.ndarray, list[ConceptExtent]]:
    """Read every IoU, (units, concepts), and the concepts where they are not known yet."""
    with reading(path, _REDO), h5py.File(path, "r") as file:
        iou, numbers = file["iou"][()], file["unit"][()].tolist()
        names = file["concept"].asstr(errors="replace")[()].tolist()
        if iou.shape != (len(numbers), len(names)):
            raise ValueError("its shapes do not fit")
        if not concepts:
            parts = [name.partition(":") for name in names]
            concepts = [ConceptExtent(label, category) for category, _, label in parts]
    row_of = {unit: row for row, unit in enumerate(numbers)}
    column_of = {name: column for column, name in enumerate(names)}
    try:
        rows = [row_of[unit.unit] for unit in units]
        known = [column_of[f"{concept.category}:{concept.label}"] for concept in concepts]
    except KeyError as error:
        raise CnnlensError(f"{path} does not fit its tables: {error} is missing", _REDO) from None
    return iou[np.ix_(rows, known)], concepts


def _histograms(path: Path, units: list[Unit]) -> dict[int, Histogram]:
    if not path.exists():
        return {}
    with reading(path, _REDO), h5py.File(path, "r") as file:
        counts, edges = file["histogram"][()], file["edges"][()]
        if counts.shape != (len(units), edges.shape[-1] - 1) or len(edges) != len(units):
            raise ValueError("its shapes do not fit")
        rows = zip(units, counts, edges, strict=True)
        return {unit.unit: Histogram(*of) for unit, *of in rows}


# -- writing -------------------------------------------------------------------------------------


def write_tables(folder: Path, dissection: Dissection, paths: Sequence[str]) -> None:
    """Write units.csv, concepts.csv, scores.h5, top.csv and distributions.h5 of one layer; `paths`
    are all images of the data set, in its order.
    """
    write_units(folder / "units.csv", dissection)
    concepts = [vars(concept) for concept in concepts_of(dissection)]
    write_rows(folder / "concepts.csv", columns(ConceptExtent), concepts)
    _write_scores(folder / "scores.h5", dissection)
    if dissection.top is not None:
        top = [vars(image) for image in top_of(dissection, paths)]
        write_rows(folder / "top.csv", columns(TopImage), top)
    if dissection.histogram is not None:
        with h5py.File(folder / "distributions.h5", "w") as file:
            file["histogram"] = dissection.histogram.counts
            file["edges"] = dissection.histogram.edges


def write_pictured(folder: Path, dissection: Dissection, files: Mapping[int, str]) -> None:
    """Write pictures.h5 of one layer: how its top images are shown; `files` gives the file in
    ``WORKSPACE/images`` of an image, by its place in the data.
    """
    top = dissection.top
    assert top is not None
    names = [[files.get(place, "") for place in row] for row in top.positions.tolist()]
    with h5py.File(folder / "pictures.h5", "w") as file:
        file.create_dataset("files", data=np.array(names, object), dtype=h5py.string_dtype())
        file.create_dataset("top_map", data=coarse(top.maps), compression="gzip")


def write_units(path: Path, dissection: Dissection) -> None:
    """Write ``units.csv``: one row per unit, p-values where chance was computed."""
    rows = [cells(unit) for unit in units_of(dissection)]
    without = ("p_value", "formula_p_value") if dissection.p_values is None else ()
    header = [name for name in rows[0] if name not in without]
    write_rows(path, header, rows)


def _write_scores(path: Path, dissection: Dissection) -> None:
    """Write the table of IoU, units × concepts, with its scales."""
    names = [f"{c.category}:{c.label}" for c in dissection.concepts.names]
    with h5py.File(path, "w") as file:
        file.create_dataset("iou", data=dissection.iou.astype(np.float32))
        file["unit"] = np.arange(dissection.units)
        file.create_dataset("concept", data=names, dtype=h5py.string_dtype())
        write_scales(file, ("unit", "concept"), ("iou",))

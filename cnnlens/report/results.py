"""What dissect left in a workspace, read back: every file may be missing, none may be damaged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv, read_json
from cnnlens.report.records import Best, Concept, Histogram, Layer, TopImage, Unit

_REDO = "redo `cnnlens dissect` with --force"


def read_layers(workspace: Path) -> list[Layer]:
    """Read every dissected layer, in the workspace's order, then by name.

    A folder without ``summary.json`` is not finished and is left out.

    Raises
    ------
    CnnlensError
        Naming the file that is damaged.
    """
    folders = dissected(workspace)
    known = layer_names(read_workspace(workspace))
    order = {name: index for index, name in enumerate(known)}
    folders.sort(key=lambda path: (order.get(path.name, len(order)), natural(path.name)))
    return [read_layer(folder) for folder in folders]


def dissected(workspace: Path) -> list[Path]:
    """List the folders of finished layers; hidden ones are what a killed run left."""
    found = (path.parent for path in (workspace / "dissect").glob("*/summary.json"))
    return sorted(folder for folder in found if not folder.name.startswith("."))


def read_workspace(workspace: Path) -> dict[str, Any]:
    """Read ``workspace.json``; an empty dict where there is none."""
    path = workspace / "workspace.json"
    return _mapping(path, read_json(path)) if path.exists() else {}


def layer_names(document: Mapping[str, Any]) -> list[str]:
    """List the layers a workspace names, whether as strings or as objects with a name."""
    layers = document.get("layers") or []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in layers]
    return [name for name in names if isinstance(name, str)]


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key under which ``layer10`` follows ``layer9``."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def read_layer(folder: Path) -> Layer:
    """Read the files of one layer (see `records.Layer`)."""
    summary = _summary(folder / "summary.json")
    rows = read_csv(folder / "units.csv", ("unit", "threshold", "label", "category", "iou"))
    if summary.get("units") not in (None, len(rows)):
        raise CnnlensError(f"{folder / 'units.csv'} is damaged: it has {len(rows)} rows", _REDO)
    categories = _categories(summary, rows)
    units = _rows(folder / "units.csv", rows, lambda row: _unit(row, categories))
    concepts = _optional_rows(folder / "concepts.csv", _concept, ("label", "category"))
    iou = None
    if (folder / "scores.h5").exists():
        iou, concepts = _scores(folder / "scores.h5", units, concepts)
    return Layer(
        name=str(summary.get("layer") or folder.name),
        folder=folder,
        summary=summary,
        categories=_met(
            [*categories, *(u.best.category for u in units), *(c.category for c in concepts)]
        ),
        units=units,
        concepts=concepts,
        iou=iou,
        top=_top(folder / "top.csv"),
        histograms=_histograms(folder / "distributions.h5", units),
        pictures=_pictures(folder / "pictures"),
    )


def finite(value: Any) -> float | None:
    """Return a number as a float, and None for what is missing, empty or not finite."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _met(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name]


def _mapping(path: Path, document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise CnnlensError(f"{path} is damaged: not a JSON object", _REDO)
    return document


_COUNTS = ("units", "images", "detectors", "unique_detectors")
_NUMBERS = (*_COUNTS, "quantile", "min_iou", "ratio_unique_detectors", "mean_iou")


def _summary(path: Path) -> dict[str, Any]:
    summary = _mapping(path, read_json(path))
    chance = _mapping(path, summary.get("chance") or {})
    groups = [_mapping(path, part.get("per_category") or {}) for part in (summary, chance)]
    rows = [_mapping(path, row) for group in groups for row in group.values()]
    for row in (summary, chance, *rows):
        for key in _NUMBERS:
            _check_number(path, key, row.get(key))
    return summary


def _check_number(path: Path, key: str, value: Any) -> None:
    number = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )
    if value is not None and not number:
        raise CnnlensError(f"{path} is damaged: {key} is {value!r}, not a number", _REDO)


def _categories(summary: Mapping[str, Any], rows: list[dict[str, str]]) -> list[str]:
    named = summary.get("categories") or summary.get("per_category") or []
    columns = [name.removesuffix("_label") for name in (rows[0] if rows else {}) if name]
    found = [name for name in columns if f"{name}_label" in rows[0] and f"{name}_iou" in rows[0]]
    return list(dict.fromkeys([*(str(name) for name in named), *found]))


def _rows(path: Path, rows: list[dict[str, str]], read: Any) -> list[Any]:
    result = []
    for number, row in enumerate(rows, start=2):  # line 1 is the header
        try:
            result.append(read(row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CnnlensError(f"{path} is damaged: line {number}: {error!r}", _REDO) from error
    return result


def _optional_rows(path: Path, read: Any, columns: tuple[str, ...]) -> list[Any]:
    return _rows(path, read_csv(path, columns), read) if path.exists() else []


def _unit(row: dict[str, str], categories: list[str]) -> Unit:
    flag = row["is_detector"].lower()
    if flag not in ("true", "false"):
        raise ValueError(f"is_detector is {flag!r}")
    pairs = [(name, row.get(f"{name}_label"), row.get(f"{name}_iou")) for name in categories]
    return Unit(
        unit=int(row["unit"]),
        threshold=finite(row.get("threshold")),
        best=Best(row["label"], row["category"], finite(row["iou"]) or 0.0),
        is_detector=flag == "true",
        p_value=finite(row.get("p_value")),
        by_category=tuple(
            Best(label, name, finite(iou) or 0.0) for name, label, iou in pairs if label
        ),
    )


def _whole(value: str | None) -> int | None:
    return int(value) if value else None


def _concept(row: dict[str, str]) -> Concept:
    return Concept(
        label=row["label"],
        category=row["category"],
        pixels=_whole(row.get("pixels")),
        images=_whole(row.get("images")),
        best_unit=_whole(row.get("best_unit")),
        best_iou=finite(row.get("best_iou")),
    )


def _top(path: Path) -> dict[int, list[TopImage]]:
    found: dict[int, list[tuple[int, TopImage]]] = {}
    for unit, rank, image in _optional_rows(
        path,
        lambda row: (
            int(row["unit"]),
            int(row["rank"]),
            TopImage(row["image"], finite(row.get("peak"))),
        ),
        ("unit", "rank", "image"),
    ):
        found.setdefault(unit, []).append((rank, image))
    return {
        unit: [image for _, image in sorted(images, key=lambda pair: pair[0])]
        for unit, images in found.items()
    }


def _pictures(folder: Path) -> dict[int, Path]:
    return {int(path.stem): path for path in folder.glob("*.webp") if path.stem.isdecimal()}


def _datasets(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {name: file[name][()] for name in names if name in file}
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise CnnlensError(f"{path} is damaged: {error}", _REDO) from error


def _scores(
    path: Path, units: list[Unit], concepts: list[Concept]
) -> tuple[np.ndarray, list[Concept]]:
    data = _datasets(path, ("iou", "unit", "concept"))
    if set(data) != {"iou", "unit", "concept"}:
        raise CnnlensError(f"{path} is damaged: it lacks iou, unit or concept", _REDO)
    names = [
        n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in data["concept"]
    ]
    if data["iou"].shape != (len(data["unit"]), len(names)):
        raise CnnlensError(f"{path} is damaged: its shapes do not fit", _REDO)
    concepts = concepts or [_named(name) for name in names]
    row_of = {int(unit): index for index, unit in enumerate(data["unit"])}
    column_of = {name: index for index, name in enumerate(names)}
    try:
        rows = [row_of[unit.unit] for unit in units]
        columns = [column_of[f"{concept.category}:{concept.label}"] for concept in concepts]
    except KeyError as error:
        raise CnnlensError(f"{path} does not fit its tables: {error} is missing", _REDO) from None
    return data["iou"][np.ix_(rows, columns)], concepts


def _named(name: str) -> Concept:
    category, _, label = name.partition(":")
    return Concept(label, category, None, None, None, None)


def _histograms(path: Path, units: list[Unit]) -> dict[int, Histogram]:
    if not path.exists():
        return {}
    data = _datasets(path, ("histogram", "edges", "unit"))
    counts, edges = data.get("histogram"), data.get("edges")
    numbers = [int(n) for n in data["unit"]] if "unit" in data else [unit.unit for unit in units]
    if (
        counts is None
        or edges is None
        or counts.shape != (len(numbers), edges.shape[-1] - 1)
        or edges.shape[0] != len(numbers)
    ):
        raise CnnlensError(f"{path} is damaged: its shapes do not fit", _REDO)
    return {n: Histogram(counts[row], edges[row]) for row, n in enumerate(numbers)}

"""Models model by model, number by number: each with chance and with an interval over units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.measure import bootstrap
from cnnlens.measure.bootstrap import Estimate
from cnnlens.report.comparable import Rows, disagreements, match_layers, remarks
from cnnlens.report.compare_files import (
    ComparedLayer,
    ComparedModel,
    read_models,
    trained_accuracy,
)  # fmt: skip
from cnnlens.report.contents import finite
from cnnlens.settings import CompareSettings


def compare(
    workspaces: Sequence[Path | str],
    names: Sequence[str] = (),
    settings: CompareSettings | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compare two or more workspaces, without writing anything.

    Parameters
    ----------
    workspaces : sequence of path
        The first one is what the others are held against.
    names : sequence of str
        Layers; all that they have in common where none is named.
    settings : CompareSettings, optional
        Level and number of the resamples.
    force : bool
        Compare what was measured on other data or with other settings, too.

    Returns
    -------
    dict
        As in ``compare.json``.

    Raises
    ------
    CnnlensError
        When a workspace is missing or damaged, they have no layer in common, or they were not
        measured alike.
    """
    models = read_models([Path(path) for path in workspaces])
    return compare_models(models, match_layers(models, names), None, settings, force)


def compare_models(
    models: Sequence[ComparedModel],
    layers: Mapping[str, Rows],
    accuracies: Sequence[Mapping[str, Any] | None] | None = None,
    settings: CompareSettings | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compare workspaces that have been read.

    Parameters
    ----------
    models : sequence of ComparedModel
        From `read_models`.
    layers : mapping of str to list of ComparedLayer
        From `match_layers`.
    accuracies : sequence of mapping or None, optional
        ``value, chance, interval, images`` per workspace; else those of ``new.json``.
    settings : CompareSettings, optional
        Level and number of the resamples.
    force : bool
        Compare what was measured on other data or with other settings, and say so.

    Returns
    -------
    dict
        As in ``compare.json``.

    Raises
    ------
    CnnlensError
        When the workspaces were not measured alike.
    """
    settings = settings or CompareSettings()
    unlike = disagreements(models, layers)
    if unlike and not force:
        more = f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        raise CnnlensError(
            unlike[0] + more, "measure both alike, or compare all the same with --force"
        )
    if accuracies is None:
        accuracies = [trained_accuracy(model, settings.level) for model in models]
    return {
        "workspaces": [
            _who(model, accuracy) for model, accuracy in zip(models, accuracies, strict=True)
        ],
        "settings": settings.as_dict(),
        "unlike": unlike,
        "remarks": remarks(models, layers),
        "layers": {
            name: {"names": [row.name for row in rows], **compare_layer(rows, settings)}
            for name, rows in layers.items()
        },
    }


def _who(model: ComparedModel, accuracy: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path.resolve()),
        "model": model.model.get("spec"),
        "arch": model.model.get("arch"),
        "method": model.method,
        "accuracy": None if accuracy is None else dict(accuracy),
    }


# -- number by number ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """A row of the comparison.

    Attributes
    ----------
    key, title : str
        In JSON, and on the page.
    digits : int
        Decimals that are shown.
    estimate : callable
        Of a layer: the statistic, or None where it was not measured.
    chance : callable
        Of a layer: what chance gives, or None where that is not known.
    """

    key: str
    title: str
    digits: int
    estimate: Callable[[ComparedLayer, CompareSettings], Estimate | None]
    chance: Callable[[ComparedLayer], float | None]


def _detectors(layer: ComparedLayer, s: CompareSettings) -> Estimate | None:
    if layer.dissect is None:
        return None
    return bootstrap.count(layer.dissect.is_detector, s)


def _unique(layer: ComparedLayer, s: CompareSettings) -> Estimate | None:
    if layer.dissect is None:
        return None
    codes: dict[tuple[str, str], int] = {}
    labels = [
        codes.setdefault((u.label, u.category), len(codes)) if u.is_detector else -1
        for u in layer.dissect.units
    ]
    return bootstrap.distinct(np.array(labels), s)


def _iou(layer: ComparedLayer, s: CompareSettings) -> Estimate | None:
    if layer.dissect is None:
        return None
    return bootstrap.mean(layer.dissect.iou, s)


def _dead(layer: ComparedLayer, s: CompareSettings) -> Estimate | None:
    found = layer.stability or layer.dissect
    dead = finite(found.summary.get("dead_units")) if found else None
    if dead is None:
        return None
    return bootstrap.count(np.arange(layer.units) < dead, s)


def _column(name: str) -> Callable[[ComparedLayer, CompareSettings], Estimate | None]:
    def estimate(layer: ComparedLayer, s: CompareSettings) -> Estimate | None:
        return bootstrap.mean(layer.stability.column(name), s) if layer.stability else None

    return estimate


def _dissect_chance(key: str) -> Callable[[ComparedLayer], float | None]:
    def chance(layer: ComparedLayer) -> float | None:
        found = layer.dissect.summary.get("chance") if layer.dissect else None
        return finite((found or {}).get(key))

    return chance


def _shuffled(key: str) -> Callable[[ComparedLayer], float | None]:
    """Look up the null of a stability measure: a number, or one number per measure."""

    def chance(layer: ComparedLayer) -> float | None:
        baselines = layer.stability.summary.get("baselines") if layer.stability else None
        found = (baselines or {}).get("shuffled")
        if isinstance(found, Mapping):
            found = found.get(key)
        elif key != "location_instability":
            return None
        return finite(found) if isinstance(found, (int, float)) else None

    return chance


def _other_masks(layer: ComparedLayer) -> float | None:
    """Part interpretability with the masks of another object."""
    quantiles = layer.stability.summary.get("interpretability") if layer.stability else None
    first = quantiles[0] if isinstance(quantiles, list) and quantiles else None
    if isinstance(first, Mapping):
        return finite(first.get("chance"))
    return _shuffled("part_interpretability")(layer)


def _none(layer: ComparedLayer) -> float | None:
    return None


def _half(layer: ComparedLayer) -> float | None:
    return 0.5 if layer.stability else None


QUANTITIES = (
    Quantity("detectors", "Detectors", 0, _detectors, _dissect_chance("detectors")),
    Quantity(
        "unique_detectors", "Unique detectors", 0, _unique, _dissect_chance("unique_detectors")
    ),
    Quantity("mean_iou", "Mean best IoU", 4, _iou, _dissect_chance("mean_iou")),
    Quantity(
        "location_instability",
        "Location instability",
        4,
        _column("location_instability"),
        _shuffled("location_instability"),
    ),
    Quantity(
        "part_interpretability",
        "Part interpretability",
        4,
        _column("part_interpretability"),
        _other_masks,
    ),
    Quantity("selectivity", "Selectivity", 3, _column("selectivity"), _half),
    Quantity(
        "centre_distance",
        "Peaks’ distance from the centre",
        4,
        _column("centre_distance"),
        _shuffled("centre_distance"),
    ),
    Quantity("dead_units", "Dead units", 0, _dead, _none),
)


def compare_layer(rows: list[ComparedLayer], settings: CompareSettings) -> dict[str, Any]:
    """Compare one layer across workspaces.

    Returns
    -------
    dict
        By the quantity's key: ``values``, one entry per workspace (``value, chance, interval,
        units``, or None where it was not measured), and ``differences`` to the first one.
    """
    found = {}
    for quantity in QUANTITIES:
        estimates = [quantity.estimate(layer, settings) for layer in rows]
        values = [
            _entry(e, quantity.chance(layer)) for e, layer in zip(estimates, rows, strict=True)
        ]
        first = estimates[0]
        differences = [
            None
            if first is None or e is None
            else _entry(bootstrap.difference(first, e, settings), None)
            for e in estimates[1:]
        ]
        found[quantity.key] = {"values": values, "differences": differences}
    return found


def _entry(estimate: Estimate | None, chance: float | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        "value": estimate.value,
        "chance": chance,
        "interval": [estimate.low, estimate.high],
        "units": estimate.units,
    }

"""Models side by side, number by number: each with chance and with an interval over units."""

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
from cnnlens.report.dissect_files import DissectResult
from cnnlens.report.shown import Shown
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


def _look_up(found: Shown | None, *keys: str | int) -> float | None:
    """Follow keys into a result's summary; None where they lead to no number."""
    value: Any = getattr(found, "summary", None)
    for key in keys:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return finite(value) if isinstance(value, (int, float)) else None


def _codes(found: DissectResult) -> np.ndarray:
    """(C,) a number per distinct concept, -1 for units that are no detectors."""
    codes: dict[tuple[str, str], int] = {}
    return np.array(
        [
            codes.setdefault((u.label, u.category), len(codes)) if u.is_detector else -1
            for u in found.units
        ]
    )


def _dead(layer: ComparedLayer, settings: CompareSettings) -> Estimate | None:
    dead = _look_up(layer.stability or layer.dissect, "dead_units")
    return None if dead is None else bootstrap.count(np.arange(layer.units) < dead, settings)


def _of_dissection(
    key: str,
    title: str,
    digits: int,
    estimate: Callable[[np.ndarray, CompareSettings], Estimate | None],
    values: Callable[[DissectResult], np.ndarray],
) -> Quantity:
    return Quantity(
        key,
        title,
        digits,
        lambda layer, s: estimate(values(layer.dissect), s) if layer.dissect else None,
        lambda layer: _look_up(layer.dissect, "chance", key),
    )


def _of_stability(
    key: str, title: str, digits: int, chance: Callable[[ComparedLayer], float | None]
) -> Quantity:
    def estimate(layer: ComparedLayer, settings: CompareSettings) -> Estimate | None:
        found = layer.stability
        return bootstrap.mean(found.column(key), settings) if found else None

    return Quantity(key, title, digits, estimate, chance)


def _shuffled(key: str) -> Callable[[ComparedLayer], float | None]:
    """Look up the null of a measure: by its name, or the one number that is the instability's."""

    def chance(layer: ComparedLayer) -> float | None:
        own = _look_up(layer.stability, "baselines", "shuffled", key)
        if own is None and key == "location_instability":
            return _look_up(layer.stability, "baselines", "shuffled")
        return own

    return chance


def _other_masks(layer: ComparedLayer) -> float | None:
    """Part interpretability with the masks of another object."""
    found = _look_up(layer.stability, "interpretability", 0, "chance")
    return _shuffled("part_interpretability")(layer) if found is None else found


QUANTITIES = (
    _of_dissection("detectors", "Detectors", 0, bootstrap.count, lambda d: d.is_detector),
    _of_dissection("unique_detectors", "Unique detectors", 0, bootstrap.distinct, _codes),
    _of_dissection("mean_iou", "Mean best IoU", 4, bootstrap.mean, lambda d: d.iou),
    *(
        _of_stability(*row)
        for row in (
            ("location_instability", "Location instability", 4, _shuffled("location_instability")),
            ("part_interpretability", "Part interpretability", 4, _other_masks),
            ("selectivity", "Selectivity", 3, lambda layer: 0.5 if layer.stability else None),
            ("centre_distance", "Peaks’ distance from the centre", 4, _shuffled("centre_distance")),
        )
    ),
    Quantity("dead_units", "Dead units", 0, _dead, lambda layer: None),
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

"""Models side by side, number by number: each with chance and with an interval over units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files import write_csv, write_json
from cnnlens.measure import bootstrap
from cnnlens.measure.bootstrap import Estimate
from cnnlens.report.compare_files import (
    ComparedLayer,
    ComparedModel,
    Rows,
    disagreements,
    match_layers,
    read_models,
    remarks,
)  # fmt: skip
from cnnlens.report.contents import finite
from cnnlens.report.dissect_files import DissectResult
from cnnlens.report.shown import Fact, Shown
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
    return compare_models(models, match_layers(models, names), settings, force)


def compare_models(
    models: Sequence[ComparedModel],
    layers: Mapping[str, Rows],
    settings: CompareSettings | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compare workspaces that have been read (`read_models`, `match_layers`), as `compare` does.

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
    return {
        "workspaces": [
            {
                "name": model.name,
                "path": str(model.path.resolve()),
                "model": model.model.get("spec"),
                "arch": model.model.get("arch"),
                "method": model.method,
                "accuracy": trained_accuracy(model, settings.level),
            }
            for model in models
        ],
        "settings": settings.as_dict(),
        "unlike": unlike,
        "remarks": remarks(models, layers),
        "layers": {
            name: {
                "names": [row.name for row in rows],
                **{one.key: one.compare(rows, settings) for one in QUANTITIES},
            }
            for name, rows in layers.items()
        },
    }


def trained_accuracy(
    model: ComparedModel, level: float = CompareSettings.level
) -> dict[str, Any] | None:
    """Look up the accuracy after fine-tuning, where ``new.json`` has it.

    Where it says on how many images, an interval over images joins it; where it names the
    classes, chance: that of guessing one of them.
    """
    found = model.training.get("accuracy")
    value = found.get("after") if isinstance(found, Mapping) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    images, classes = model.training.get("images"), model.training.get("classes")
    count = images.get("validation") if isinstance(images, Mapping) else None
    known = isinstance(count, int) and count > 0 and 0 <= value <= 1
    right = round(value * count) if known and count else 0
    return {
        "value": float(value),
        "chance": 1 / max(len(classes), 2) if isinstance(classes, list) and classes else None,
        "interval": list(bootstrap.share(right, count, level)) if known and count else None,
        "images": count if known else None,
        "source": "new.json",
    }


# -- number by number ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """A row of the comparison.

    Attributes
    ----------
    key, title : str
        In JSON, and on the page.
    digits : int
        Decimals that are shown.
    commands : tuple of str
        Whose results it is taken from: the first that there is.
    estimate : callable
        Of a result: the statistic, or None where it was not measured.
    chance : callable
        Of a summary: what chance gives, or None where that is not known.
    """

    key: str
    title: str
    digits: int
    commands: tuple[str, ...]
    estimate: Callable[[Any, CompareSettings], Estimate | None]
    chance: Callable[[Mapping[str, Any]], float | None]

    def compare(self, rows: Rows, settings: CompareSettings) -> dict[str, list[Any]]:
        """Give ``values``, one entry per workspace, and ``differences`` to the first of them.

        An entry has ``value, chance, interval, units``; it is None where nothing was measured.
        """
        found = [self._measured(layer) for layer in rows]
        estimates = [None if one is None else self.estimate(one, settings) for one in found]
        first, *others = estimates
        return {
            "values": [
                e and _entry(e, self.chance(one.summary))
                for e, one in zip(estimates, found, strict=True)
            ],
            "differences": [
                first and e and _entry(bootstrap.difference(first, e, settings), None)
                for e in others
            ],
        }

    def _measured(self, layer: ComparedLayer) -> Any:
        found = (layer.measured[c] for c in self.commands if c in layer.measured)
        return next(found, None)


def _entry(estimate: Estimate, chance: float | None) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "chance": chance,
        "interval": [estimate.low, estimate.high],
        "units": estimate.units,
    }


def _at(*paths: tuple[str | int, ...]) -> Callable[[Mapping[str, Any]], float | None]:
    """Look a number up: at the first of some paths of keys that leads to one."""

    def look_up(summary: Mapping[str, Any]) -> float | None:
        for path in paths:
            value: Any = summary
            try:
                for key in path:
                    value = value[key]
            except (LookupError, TypeError):
                continue
            if isinstance(value, (int, float)):
                return finite(value)
        return None

    return look_up


def _codes(found: DissectResult) -> np.ndarray:
    """(C,) a number per distinct concept, -1 for units that are no detectors."""
    codes: dict[tuple[str, str], int] = {}
    return np.array(
        [
            codes.setdefault((u.label, u.category), len(codes)) if u.is_detector else -1
            for u in found.units
        ]
    )


def _dead(found: Any, settings: CompareSettings) -> Estimate | None:
    dead = _at(("dead_units",))(found.summary)
    return None if dead is None else bootstrap.count(np.arange(len(found)) < dead, settings)


def _dissected(
    key: str, title: str, digits: int, estimate: Callable[[Any, CompareSettings], Estimate | None]
) -> Quantity:
    return Quantity(key, title, digits, ("dissect",), estimate, _at(("chance", key)))


def _stable(
    key: str, title: str, digits: int, chance: Callable[[Mapping[str, Any]], float | None]
) -> Quantity:
    def mean(found: Any, settings: CompareSettings) -> Estimate | None:
        return bootstrap.mean(found.column(key), settings)

    return Quantity(key, title, digits, ("stability",), mean, chance)


_NULL = ("baselines", "shuffled")  # one number, that of the instability, or one for each measure
QUANTITIES = (
    _dissected("detectors", "Detectors", 0, lambda d, s: bootstrap.count(d.is_detector, s)),
    _dissected(
        "unique_detectors", "Unique detectors", 0, lambda d, s: bootstrap.distinct(_codes(d), s)
    ),
    _dissected("mean_iou", "Mean best IoU", 4, lambda d, s: bootstrap.mean(d.iou, s)),
    _stable(
        "location_instability",
        "Location instability",
        4,
        _at((*_NULL, "location_instability"), _NULL),
    ),
    _stable(
        "part_interpretability",
        "Part interpretability",
        4,
        _at(("interpretability", 0, "chance"), (*_NULL, "part_interpretability")),
    ),
    _stable("selectivity", "Selectivity", 3, lambda summary: 0.5),
    _stable(
        "centre_distance", "Peaks’ distance from the centre", 4, _at((*_NULL, "centre_distance"))
    ),
    Quantity("dead_units", "Dead units", 0, ("stability", "dissect"), _dead, lambda summary: None),
)


# -- compare.json, compare.csv, and for notebooks ------------------------------------------------


CSV_HEADER = ("layer", "quantity", "workspace", "value", "chance", "low", "high", "units")


def write_comparison_files(folder: Path, document: Mapping[str, Any]) -> None:
    """Write compare.json and compare.csv."""
    write_json(folder / "compare.json", document)
    write_csv(folder / "compare.csv", CSV_HEADER, csv_rows(document))


def csv_rows(document: Mapping[str, Any]) -> list[list[object]]:
    """One row per layer, quantity and workspace; accuracies have no layer."""
    who = document["workspaces"]
    found = [("", "accuracy", [one["accuracy"] for one in who])]
    for layer, of in document["layers"].items():
        found += [(layer, key, one["values"]) for key, one in of.items() if key != "names"]
    return [
        [layer, key, one["name"], *_cells(value or {})]
        for layer, key, values in found
        for one, value in zip(who, values, strict=True)
    ]


def _cells(value: Mapping[str, Any]) -> list[object]:
    low, high = value.get("interval") or ("", "")
    known = [value.get(key) for key in ("value", "chance")]
    return [*("" if one is None else one for one in known), low, high, value.get("units", "")]


class Comparison(Shown):
    """Models side by side.

    Parameters
    ----------
    document : mapping
        As in ``compare.json``; a layer's part is found by its name.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def __getitem__(self, layer: str) -> Any:
        return self.document["layers"][layer]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per layer, quantity and workspace, as in ``compare.csv``."""
        return [dict(zip(CSV_HEADER, row, strict=True)) for row in csv_rows(self.document)]

    def _facts(self) -> Iterator[Fact]:
        for row in self.table():
            known = {k: f"{row[k]:.4g}" for k in ("value", "low", "high", "chance") if row[k] != ""}
            if "value" in known:
                names = (row["workspace"], row["layer"], row["quantity"].replace("_", " "))
                ends = f" ({known['low']} to {known['high']})" if "low" in known else ""
                yield " ".join(filter(None, names)), known["value"] + ends, known.get("chance", "")

"""What ``cnnlens evolve`` leaves, its section of the page, and its result in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import counted
from cnnlens.measure.evolution import Evolution, Moment
from cnnlens.report.blocks import Explorer, Section, Shot, section_of
from cnnlens.report.contents import REDO, finished, in_order, read_object, reading
from cnnlens.report.figures.evolve import called
from cnnlens.report.method_names import PROJECTIONS
from cnnlens.report.shown import Fact, LayerResult, Picture

FILE = "evolve.json"
_SHOWN = 48  # units of a layer on the page
_COLUMNS = ("checkpoint", "epoch", "dead units", "jumps", "r with the last")


def read_moment(path: Path) -> Moment:
    """Read the peaks that stand beside a checkpoint's column."""
    with reading(path), np.load(path) as found:
        arrays = (found[name] for name in ("images", "peaks", "at", "highest"))
        return Moment(tuple(found["units"].tolist()), *arrays)


def gathered(
    folder: Path, about: Mapping[str, Any], moments: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Make ``evolve.json`` from what was kept of each checkpoint, in the order of the training.

    Peaks of three checkpoints are in memory at once.
    """
    told = list(moments)
    files = [(folder / one["picture"]).with_suffix(".npz") for one in told]
    before, last, entries = read_moment(files[0]), read_moment(files[-1]), []
    for one, file in zip(told, files, strict=True):
        moment = read_moment(file)
        found = Evolution((before, moment, last))
        pairs = zip(
            one["units"], found.jumped[1].tolist(), found.correlation_with_last[1].tolist(),
            strict=True,
        )  # fmt: skip
        units = [
            {**unit, "jumped": jumped, "correlation_with_last": r if np.isfinite(r) else None}
            for unit, jumped, r in pairs
        ]
        entries.append({**one, "jumps": int(found.jumped[1].sum()), "units": units})
        before = moment
    for earlier, entry in zip([entries[0], *entries], entries, strict=False):
        for was, unit in zip(earlier["units"], entry["units"], strict=True):
            if "label" in unit:
                both = was["label"] and unit["label"]  # a unit that detects nothing has none
                unit["flipped"] = bool(both and unit["label"] != was["label"])
        if "label" in entry["units"][0]:
            entry["detectors"] = sum(unit["is_detector"] for unit in entry["units"])
            entry["flips"] = sum(unit["flipped"] for unit in entry["units"])
    return {**about, "checkpoints": entries}


def undefined(document: Mapping[str, Any]) -> str:
    """Say for which units no correlation with the last checkpoint is defined; else nothing."""
    lacking = [
        unit["unit"]
        for one in document["checkpoints"]
        for unit in one["units"]
        if unit["correlation_with_last"] is None
    ]
    if not lacking:
        return ""
    units = sorted(set(lacking))
    named = ", ".join(map(str, units[:8])) + (", …" if len(units) > 8 else "")
    times = "once" if len(lacking) == 1 else f"{len(lacking)} times"
    return (
        f"r is not defined {times} (unit{'s' * (len(units) > 1)} {named}): dead there "
        "or in the end, or peaks that are all equal"
    )


def table_of(document: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[object]]]:
    """Give columns, and a row per checkpoint; with label maps also how many units detect."""
    moments = document["checkpoints"]
    more = ("detectors", "flips") if "flips" in moments[0] else ()
    rows = [
        [one["file"], one["epoch"], one["dead_units"], one["jumps"], mean_correlation(one),
         *(one[key] for key in more)]
        for one in moments
    ]  # fmt: skip
    return (*_COLUMNS, *more), rows


def mean_correlation(moment: Mapping[str, Any]) -> float | None:
    """Mean of the units' correlations with the last checkpoint, of those that have one."""
    known = [one["correlation_with_last"] for one in moment["units"]]
    known = [value for value in known if value is not None]
    return round(sum(known) / len(known), 4) if known else None


@dataclass(frozen=True, eq=False)
class Evolved(LayerResult):
    """How units of a layer evolved; `table` has a row per checkpoint and unit."""

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        """What ``evolve.json`` says of each."""
        return list(self.summary["checkpoints"])

    def table(self) -> list[dict[str, Any]]:
        """Give what is known of each unit at each checkpoint."""
        return [
            {"file": one["file"], "epoch": one["epoch"],
             **{k: v for k, v in unit.items() if not isinstance(v, list)}}
            for one in self.checkpoints
            for unit in one["units"]
        ]  # fmt: skip

    def _title(self) -> str:
        return f"{self.name}: {counted(len(self.checkpoints), 'checkpoint')}"

    def _facts(self) -> Iterator[Fact]:
        total = self.summary["layer_units"]
        for one in self.checkpoints:
            yield called(one), f"{one['dead_units']} of {total} dead", f"{one['jumps']} jumps"

    def _shots(self) -> Iterator[tuple[str, Picture]]:
        yield "", self.folder / "sheet.png"


# -- the section ---------------------------------------------------------------------------------


def evolution(workspace: Path) -> Section | None:
    """Gather the section about how units came about; None without any."""
    layers: list[dict[str, Any]] = []
    pictures: dict[str, Path] = {}
    shots: list[Shot] = []
    files: list[Path] = []
    hows: dict[str, None] = {}
    for folder in in_order(workspace, finished(workspace, "evolve", FILE)):
        file = folder / FILE
        document = read_object(file, ("layer", "checkpoints"))
        with reading(file, REDO):
            layers.append(_layer(document, folder))
            method = str(document.get("settings", {}).get("method", "deconvnet"))
            hows[PROJECTIONS.get(method, method)] = None
            shots += _rows(document, folder)
        keys = (one["picture"] for one in layers[-1]["moments"])
        pictures |= {key: workspace / key for key in keys}
        files.append(file)
    if not layers:
        return None
    explorer = Explorer(
        "evolve.html", {"layers": layers}, {"layers": layers}, pictures,
        [layer["layer"] for layer in layers], shots,
    )  # fmt: skip
    return section_of(
        "evolve", "How its units came about", [explorer], files, how=" or ".join(hows)
    )


def _rows(document: Mapping[str, Any], folder: Path) -> Iterator[Shot]:
    """Each unit over all checkpoints, for its panel."""
    layer, count = str(document["layer"]), len(document["checkpoints"])
    words = "Its top patch at each checkpoint of the training, and what of it drove the unit."
    for one in document["checkpoints"][0]["units"]:
        picture, unit = folder / f"{one['unit']}.png", int(one["unit"])
        alt = f"Unit {unit} of {layer} over {counted(count, 'checkpoint')}"
        if picture.is_file():
            yield Shot(
                picture,
                f"unit {unit}",
                alt=alt,
                unit=unit,
                layer=layer,
                heading="How it came about",
                words=words,
            )


def _layer(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    moments = document["checkpoints"]
    return {
        "layer": str(document["layer"]),
        "units": [int(unit["unit"]) for unit in moments[0]["units"][:_SHOWN]],
        "count": len(moments[0]["units"]),
        "of": int(document["layer_units"]),
        "moments": [_moment(one, folder) for one in moments],
    }


def _moment(one: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    wanted = ("peak", "top_image", "jumped", "correlation_with_last", "label", "iou", "is_detector")
    return {
        "called": called(one),
        "file": str(one["file"]),
        "dead": int(one["dead_units"]),
        "jumps": int(one["jumps"]),
        "picture": f"evolve/{folder.name}/{one['picture']}",
        "units": [{key: unit.get(key) for key in wanted} for unit in one["units"][:_SHOWN]],
    }

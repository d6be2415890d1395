"""Networks side by side: a page of its own, and a section of the first network's page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cnnlens.data.given import shown_path
from cnnlens.files import write_csv, write_json
from cnnlens.measure.compared import ComparedLayer, ComparedModel, Rows, data_name, match_layers
from cnnlens.measure.comparison import QUANTITIES
from cnnlens.report.blocks import (
    Cell,
    Lanes,
    Layer,
    Note,
    Section,
    Shot,
    Table,
    Text,
    number,
    percent,
    signed,
)
from cnnlens.report.compare_files import read_models
from cnnlens.report.contents import read_object, reading
from cnnlens.report.html import write_page
from cnnlens.report.page import preprocessing
from cnnlens.report.shown import Fact, Shown

FOLDER = "compare"  # `cnnlens compare A B --out A/compare` puts it on A's page


def write_comparison(
    out: Path, models: Sequence[ComparedModel], layers: Mapping[str, Rows], document: dict[str, Any]
) -> Path:
    """Write compare.json, compare.csv and compare.html into a folder; return the page.

    `layers` are from `match_layers`, `document` is from `compare_models`; under ``shown`` it says
    whose pictures stand beside each other, units by layer. From here on it names no machine's
    paths.
    """
    _leave_machine_out(document, out)
    write_json(out / "compare.json", document)
    write_csv(out / "compare.csv", CSV_HEADER, csv_rows(document))
    head = {
        "eyebrow": f"What the filters of {len(models)} networks have learned, side by side",
        "title": " · ".join(model.name for model in models),
        "facts": (),
        "commands": (),
        "versions": (),
    }
    page = out / "compare.html"
    section = comparison_section(models, layers, document)
    write_page(page, head, [section], lambda damaged: None)
    return page


def _leave_machine_out(document: dict[str, Any], out: Path) -> None:
    """Name workspaces as seen from the comparison's folder, and models by their files."""
    for who in document["workspaces"]:
        who["path"] = Path(os.path.relpath(who["path"], out.resolve())).as_posix()
        who["model"] = who["model"] and shown_path(Path(who["model"]))


def side_by_side(workspace: Path) -> Section | None:
    """Gather the section; None where nothing was compared, or a workspace has gone since."""
    file = workspace / FOLDER / "compare.json"
    if not file.exists():
        return None
    keys = ("workspaces", "layers", "settings", "unlike", "remarks", "shown")
    document = read_object(file, keys, "compare anew")
    with reading(file, "compare anew"):
        paths = [file.parent / who["path"] for who in document["workspaces"]]
    if not all(path.is_dir() for path in paths):
        return None
    models = read_models(paths)
    layers = match_layers(models, list(document["layers"]))
    with reading(file, "compare anew"):
        return comparison_section(models, layers, document, [file])


def comparison_section(
    models: Sequence[ComparedModel],
    layers: Mapping[str, Rows],
    document: Mapping[str, Any],
    sources: Sequence[Path] = (),
) -> Section:
    """Lay out a comparison."""
    swatch = Markup('<i class="swatch side-{}"></i><span class="name">{}</span>')
    networks = [swatch.format(place % 6, model.name) for place, model in enumerate(models)]
    accuracies = [one["accuracy"] for one in document["workspaces"]]
    accuracy, shown = _row("Accuracy", 3, accuracies, []), document.get("shown", {})
    parts = [
        *(Text(f"Not measured alike: {line}.", "warning") for line in document["unlike"]),
        Table([None, *networks], _about(models), style="about"),
        *(Text(f"{line}.", "small") for line in document["remarks"]),
        *([_table(networks, [accuracy], "Accuracy")] if any(accuracies) else ()),
        *(
            _layer(networks, rows, document["layers"][name], shown.get(name, ()))
            for name, rows in layers.items()
        ),
        Note("compare", {"level": percent(document["settings"]["level"])}),
    ]
    names = " · ".join(model.name for model in models)
    return Section("compare", f"Side by side: {names}", "", parts, sources)


def _about(models: Sequence[ComparedModel]) -> list[list[str]]:
    """Say what is known of each model, a row per fact that is known of any."""
    facts = [
        {
            "Model": Path(str(model.model.get("spec") or "")).name,
            "Architecture": str(model.model.get("arch") or ""),
            "Fine-tuned": model.method or "",
            "Input": preprocessing(model.model.get("preprocess") or {}),
            "Measured on": ", ".join(_data_of(model)),
            "Folder": model.path.resolve().name,
        }
        for model in models
    ]
    rows = [[term, *(one[term] for one in facts)] for term in facts[0]]
    return [row for row in rows if any(row[1:])]


def _data_of(model: ComparedModel) -> list[str]:
    results = [found for layer in model.layers.values() for found in layer.measured.values()]
    names = {Path(data_name(found.summary)).name for found in results}
    return sorted(filter(None, names))


def _layer(
    networks: Sequence[str], rows: Rows, of: Mapping[str, Any], units: Sequence[int]
) -> Layer:
    shown = [q for q in QUANTITIES if any(of[q.key]["values"])]
    missing = ", ".join(q.title for q in QUANTITIES if q not in shown).lower()
    same = [[f"unit {unit}", *(_unit(layer, unit) for layer in rows)] for unit in units]
    names = list(dict.fromkeys(of["names"]))
    return Layer(
        names[0] if len(names) == 1 else " / ".join(of["names"]),
        _table(networks, [_row(q.title, q.digits, **of[q.key]) for q in shown]),
        *([Text(f"Not measured here: {missing}.", "small")] if missing else ()),
        *([Table([None, *networks], same, "The same units", "beside")] if same else ()),
    )


def _table(networks: Sequence[str], rows: Sequence[Any], caption: str = "") -> Table:
    return Table([None, *networks, None], rows, caption, "summary compared")


def _row(title: str, digits: int, values: Sequence[Any], differences: Sequence[Any]) -> list[Any]:
    changes = [None, *differences, *[None] * len(values)]
    cells = [_cell(value, digits, change) for value, change in zip(values, changes, strict=False)]
    return [title, *cells, Lanes(_marks(values))]


def _cell(value: Any, digits: int, difference: Any) -> Cell:
    if not value:
        return Cell("", note="not measured")
    change = None
    if difference:
        low, high = difference["interval"]
        span = f"{signed(low, digits)} to {signed(high, digits)}"
        change = (signed(difference["value"], digits), span, low > 0 or high < 0)
    ends = [number(end, digits) for end in value["interval"] or ()]
    chance = "" if value["chance"] is None else number(value["chance"], digits or 1)
    return Cell(number(value["value"], digits), True, " to ".join(ends), chance, change=change)


def _marks(values: Sequence[Mapping[str, Any] | None]) -> list[Mapping[str, Any] | None]:
    """Lay values, intervals and chance out on one line from 0 to 1."""
    known = [(v["value"], v["chance"], *(v["interval"] or ())) for v in values if v]
    ends = [end for one in known for end in one if end is not None]
    low, high = min([0.0, *ends]), max(ends, default=1.0)
    scale = (high - low) or 1.0

    def at(end: float | None) -> float | None:
        return None if end is None else (end - low) / scale

    return [
        v
        and {
            "at": at(v["value"]),
            "chance": at(v["chance"]),
            "ends": [at(end) for end in v["interval"] or ()],
        }
        for v in values
    ]


# -- units ---------------------------------------------------------------------------------------


_MEASURES = {
    "location_instability": "instability",
    "selectivity": "selectivity",
    "part_interpretability": "part",
}


def _unit(layer: ComparedLayer, unit: int) -> list[Any]:
    """Give a unit's words and pictures in one workspace."""
    words = []
    dissect, stability = (layer.measured.get(c, ()) for c in ("dissect", "stability"))
    if unit < len(dissect):
        one = dissect[unit]
        words.append(f"{one.label or 'no concept'}, IoU {one.iou:.3f}")
    if unit < len(stability):
        row = stability[unit].row()
        words += [f"{n} {row[k]:.3f}" for k, n in _MEASURES.items() if row[k] is not None]
    shots = [Shot(p, alt=f"Pictures of unit {unit}") for p in unit_pictures(layer, unit).values()]
    return [" · ".join(words) or "nothing", *shots]


def unit_pictures(layer: ComparedLayer, unit: int) -> dict[str, Path]:
    """Find a unit's pictures in its workspace, whichever command made them."""
    measured = next(iter(layer.measured.values()))
    workspace, folder = measured.folder.parents[1], measured.folder.name
    found = {}
    for command in ("dissect", "stability", "visualize"):
        for pattern in (f"pictures/{unit}.webp", f"pictures/{unit}.png", f"{unit}.png"):
            path = workspace / command / folder / pattern
            if path.is_file():
                found[f"{command}/{folder}/{pattern}"] = path
                break
    return found


def units_to_show(rows: Rows, top: int) -> list[int]:
    """Choose `top` units of a layer that are worth a look: the best of each workspace in turn,
    those with pictures.
    """
    ranked = [_ranked(layer) for layer in rows]
    chosen: dict[int, None] = {}
    for place in range(max(map(len, ranked), default=0)):
        for order in ranked:
            fits = len(chosen) < top and place < len(order)
            if fits and any(unit_pictures(layer, order[place]) for layer in rows):
                chosen[order[place]] = None
    return sorted(chosen)


def _ranked(layer: ComparedLayer) -> list[int]:
    if "dissect" in layer.measured:
        return [unit.unit for unit in layer.measured["dissect"].best()]
    instability = layer.measured["stability"].instability
    return [int(unit) for unit in instability.argsort(kind="stable")]  # NaN last


# -- compare.csv, and for notebooks --------------------------------------------------------------

CSV_HEADER = ("layer", "quantity", "workspace", "value", "chance", "low", "high", "units")


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

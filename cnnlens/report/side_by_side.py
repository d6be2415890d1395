"""Networks side by side: a page of its own, and a section of the first network's page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cnnlens.data.picture_names import shown_path
from cnnlens.errors import plain
from cnnlens.files import write_json
from cnnlens.files.tables import write_csv
from cnnlens.measure.compared import COMMANDS, ComparedModel, Rows, data_name, match_layers
from cnnlens.measure.quantities import HIGHER, QUANTITIES, Quantity
from cnnlens.measure.verdict import ACCURACY, at_chance, spoken
from cnnlens.report.blocks import (
    Cell,
    Lanes,
    Layer,
    Note,
    Section,
    Table,
    Text,
    number,
    sentence,
    signed,
)
from cnnlens.report.compare_files import clusters_beside, read_models, same_unit
from cnnlens.report.contents import local, read_object, reading
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
        "mixed": (),
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
    keys = ("workspaces", "layers", "settings", "unlike", "remarks", "shown", "verdict", "warnings")
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
    shown, level = document.get("shown", {}), f"{100 * document['settings']['level']:g} %"
    parts = [
        *(Text(line, "lead") for line in document["verdict"]),
        *(Text(f"Not measured alike: {line}.", "warning") for line in document["unlike"]),
        *(Text(f"Beware: {line}.", "warning") for line in document["warnings"]),
        Table([None, *networks], _about(models), style="about"),
        *(Text(sentence(line), "small") for line in document["remarks"]),
        Text(_legend(networks, level), "legend"),
        *([_table(networks, [_accuracy(document)])] if any(accuracies) else ()),
        *(
            _layer(networks, rows, document["layers"][name], shown.get(name, ()))
            for name, rows in layers.items()
        ),
        Note("compare", {"level": level}),
    ]
    names = " · ".join(model.name for model in models)
    return Section("compare", f"Side by side: {names}", "", parts, sources)


def _legend(networks: Sequence[Markup], level: str) -> Markup:
    """Say what the marks mean, in the networks' colours."""
    keys = (
        ('<i class="key dot"></i>', "the value"),
        ('<i class="key span"></i>', f"where it could lie ({level} interval)"),
        ('<i class="key by-chance"></i>', "what chance gives"),
        (
            '<i class="key level"></i>',
            "what comes without learning: peaks at the centre, raw pixels",
        ),
    )
    dot = Markup("<span>{} {}</span>")
    known = [dot.format(Markup(mark), words) for mark, words in keys]
    return Markup(" ").join([*(Markup("<span>{}</span>").format(n) for n in networks), *known])


def _about(models: Sequence[ComparedModel]) -> list[list[str]]:
    """Say what is known of each model, a row per fact that is known of any."""
    facts = [
        {
            "Model": Path(str(model.model.get("spec") or "")).name,
            "Architecture": local(str(model.model.get("arch") or ""), model.path),
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
    parts = [
        one
        for layer in model.layers.values()
        for c in COMMANDS
        for one in layer.summaries(c).values()
    ]
    return sorted(filter(None, {Path(data_name(one)).name for one in parts}))


def _accuracy(document: Mapping[str, Any]) -> list[Any]:
    """Lay accuracies out as a row, each with the images that it is of."""
    found, held = [one["accuracy"] for one in document["workspaces"]], " held out of training"
    title, *cells = _row(ACCURACY, found, document["accuracy_differences"])
    for place, one in enumerate(found):
        if one:
            data = "" if one["source"] == "new.json" else f" of {one['source']}"
            of = f"images{data}" + ("" if data and not one.get("held_out") else held)
            note = f"on {number(one['images'])} {of}" if one["images"] else f"on {of}"
            cells[place] = replace(
                cells[place], note=" · ".join(filter(None, (cells[place].note, note)))
            )
    return [title, *cells]


def _layer(
    networks: Sequence[str], rows: Rows, of: Mapping[str, Any], units: Sequence[int]
) -> Layer:
    shown = [q for q in QUANTITIES if any(of[q.key]["values"])]
    missing = ", ".join(spoken(q) for q in QUANTITIES if q not in shown)
    same = [[f"unit {unit}", *(same_unit(layer, unit) for layer in rows)] for unit in units]
    names = list(dict.fromkeys(of["names"]))
    return Layer(
        names[0] if len(names) == 1 else " / ".join(of["names"]),
        _table(networks, [_row(q, **of[q.key]) for q in shown]),
        *([Text(f"Not measured here: {missing}.", "small")] if missing else ()),
        *clusters_beside(networks, rows, of["trees"]),
        *([Table([None, *networks], same, "The same units", "beside")] if same else ()),
    )


def _table(networks: Sequence[str], rows: Sequence[Any]) -> Table:
    return Table([None, *networks, None], rows, style="summary compared")


def _row(quantity: Quantity, values: Sequence[Any], differences: Sequence[Any]) -> list[Any]:
    changes = [None, *differences, *[None] * len(values)]
    cells = [_cell(quantity, v, change) for v, change in zip(values, changes, strict=False)]
    better = {HIGHER: "↑ higher is better", "": "neither way is better"}
    words = f"{quantity.meaning}; {better.get(quantity.better, '↓ lower is better')}"
    return [Cell(quantity.title, note=words), *cells, Lanes(_marks(values))]


def _cell(quantity: Quantity, value: Any, difference: Any) -> Cell:
    digits = quantity.digits
    if not value:
        return Cell("", note="not measured")
    change = None
    if difference:
        known = list(difference["interval"] or ())
        span, by_chance = " to ".join(signed(end, digits) for end in known), difference["chance"]
        sure = bool(known) and not min(known) <= (by_chance or 0) <= max(known)
        if by_chance:
            span = ", ".join(filter(None, (span, f"chance {signed(by_chance, digits or 1)}")))
        change = (signed(difference["value"], digits), span, sure)
    ends = [number(end, digits) for end in value["interval"] or ()]
    chance = "" if value["chance"] is None else number(value["chance"], digits or 1)
    levels = [f"{name} {number(v, digits)}" for name, v in value.get("beside", {}).items()]
    return Cell(
        number(value["value"], digits),
        True,
        " to ".join(ends),
        chance,
        "no better than chance" if at_chance(quantity, value) else "",
        change,
        " · ".join(levels),
    )


def _marks(values: Sequence[Mapping[str, Any] | None]) -> list[Mapping[str, Any] | None]:
    """Lay values, intervals, chance and other levels out on one line from 0 to 1."""
    known = [
        (v["value"], v["chance"], *(v["interval"] or ()), *v.get("beside", {}).values())
        for v in values
        if v
    ]
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
            "level": next((at(level) for level in v.get("beside", {}).values()), None),
            "ends": [at(end) for end in v["interval"] or ()],
        }
        for v in values
    ]


# -- compare.csv, and for notebooks --------------------------------------------------------------

CSV_HEADER = ("layer", "quantity", "workspace", "value", "chance", "low", "high", "units")


def csv_rows(document: Mapping[str, Any]) -> list[list[object]]:
    """One row per layer, quantity and workspace; accuracies have no layer."""
    who = document["workspaces"]
    found = [("", "accuracy", [one["accuracy"] for one in who])]
    for layer, of in document["layers"].items():
        found += [(layer, q.key, of[q.key]["values"]) for q in QUANTITIES]
        for key, name in _TREES.items():
            found.append((layer, name, [None, *(one and one[key] for one in of["trees"])]))
    return [
        [layer, key, one["name"], *_cells(value or {})]
        for layer, key, values in found
        for one, value in zip(who, values, strict=True)
    ]


# what trees of classes have in common with the first network's
_TREES = {"trees": "tree_agreement", "groups": "shared_groups", "distances": "distance_agreement"}


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

    def __iter__(self) -> Iterator[Any]:
        return iter(self.document["layers"].values())

    def __getitem__(self, layer: str) -> Any:
        return self.document["layers"][layer]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per layer, quantity and workspace, as in ``compare.csv``."""
        return [dict(zip(CSV_HEADER, row, strict=True)) for row in csv_rows(self.document)]

    def _told(self) -> Iterator[str]:
        yield " and ".join(who["name"] for who in self.document["workspaces"])
        yield from self.document["layers"]

    def _facts(self) -> Iterator[Fact]:
        for row in self.table():
            keys = ("value", "low", "high", "chance")
            known = {k: plain(row[k], 4) for k in keys if row[k] != ""}
            if "value" in known:
                names = (row["workspace"], row["layer"], row["quantity"].replace("_", " "))
                ends = f" ({known['low']} to {known['high']})" if "low" in known else ""
                yield " ".join(filter(None, names)), known["value"] + ends, known.get("chance", "")

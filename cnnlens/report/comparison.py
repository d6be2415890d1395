"""The page and the document of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import write_csv, write_json, write_text
from cnnlens.report.beside import unit_view
from cnnlens.report.compared import QUANTITIES, Quantity, compare_layer
from cnnlens.report.header import preprocessing
from cnnlens.report.matched import Rows, disagreements, match_layers, remarks
from cnnlens.report.pictures import addresses
from cnnlens.report.sides import Side, read_sides, trained_accuracy
from cnnlens.settings import CompareSettings

Accuracies = Sequence[Mapping[str, Any] | None]


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
    sides = read_sides([Path(path) for path in workspaces])
    return compare_sides(sides, match_layers(sides, names), None, settings, force)


def compare_sides(
    sides: Sequence[Side],
    layers: Mapping[str, Rows],
    accuracies: Accuracies | None = None,
    settings: CompareSettings | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compare workspaces that have been read.

    Parameters
    ----------
    sides : sequence of Side
        From `read_sides`.
    layers : mapping of str to list of SideLayer
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
    unlike = disagreements(sides, layers)
    if unlike and not force:
        more = f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        raise CnnlensError(
            unlike[0] + more, "measure both alike, or compare all the same with --force"
        )
    if accuracies is None:
        accuracies = [trained_accuracy(side, settings.level) for side in sides]
    return {
        "workspaces": [
            _who(side, accuracy) for side, accuracy in zip(sides, accuracies, strict=True)
        ],
        "settings": settings.as_dict(),
        "unlike": unlike,
        "remarks": remarks(sides, layers),
        "layers": {
            name: {"names": [row.name for row in rows], **compare_layer(rows, settings)}
            for name, rows in layers.items()
        },
    }


def _who(side: Side, accuracy: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "name": side.name,
        "path": str(side.path.resolve()),
        "model": side.model.get("spec"),
        "arch": side.model.get("arch"),
        "method": side.method,
        "accuracy": None if accuracy is None else dict(accuracy),
    }


# ---- files


def write_comparison(
    out: Path,
    sides: Sequence[Side],
    layers: Mapping[str, Rows],
    document: dict[str, Any],
    units: Mapping[str, Sequence[int]],
) -> Path:
    """Write compare.json, compare.csv and compare.html into a folder; return the page.

    Parameters
    ----------
    out : pathlib.Path
        The folder; it is made.
    sides : sequence of Side
        The workspaces.
    layers : mapping of str to list of SideLayer
        From `match_layers`.
    document : dict
        From `compare_sides`.
    units : mapping of str to sequence of int
        Units whose pictures stand beside each other, by layer.
    """
    write_json(out / "compare.json", document)
    write_csv(out / "compare.csv", CSV_HEADER, csv_rows(document))
    pictures: dict[str, Path] = {}
    view = comparison_view(sides, layers, document, units, pictures)
    page = out / "compare.html"
    with addresses(out, pictures) as src:
        write_text(page, _render(view, src))
    return page


def comparison_view(
    sides: Sequence[Side],
    layers: Mapping[str, Rows],
    document: Mapping[str, Any],
    units: Mapping[str, Sequence[int]],
    pictures: dict[str, Path],
) -> dict[str, Any]:
    """Lay out what the template ``compared.html`` shows; its pictures join `pictures`."""
    return {
        "sides": [_side_view(side, who) for side, who in _zip(sides, document["workspaces"])],
        "document": document,
        "accuracy": _accuracy_rows(document),
        "layers": [
            _layer_view(rows, document["layers"][name], units.get(name, ()), pictures)
            for name, rows in layers.items()
        ],
        "level": document["settings"]["level"],
    }


CSV_HEADER = ("layer", "quantity", "workspace", "value", "chance", "low", "high", "units")


def csv_rows(document: Mapping[str, Any]) -> list[list[object]]:
    """One row per layer, quantity and workspace; accuracies have no layer."""
    names = [who["name"] for who in document["workspaces"]]
    rows = [
        _csv_row("", "accuracy", who["name"], who["accuracy"]) for who in document["workspaces"]
    ]
    for layer, of in document["layers"].items():
        for quantity in QUANTITIES:
            for name, value in _zip(names, of[quantity.key]["values"]):
                rows.append(_csv_row(layer, quantity.key, name, value))
    return rows


def _csv_row(layer: str, key: str, name: str, value: Mapping[str, Any] | None) -> list[object]:
    value = value or {}
    low, high = value.get("interval") or ("", "")
    cells = [value.get(k) for k in ("value", "chance")]
    known = ["" if c is None else c for c in cells]
    return [layer, key, name, *known, low, high, value.get("units", "")]


# ---- what the page shows


def _side_view(side: Side, who: Mapping[str, Any]) -> dict[str, Any]:
    datas = {
        _data(summary)
        for layer in side.layers.values()
        for summary in (
            layer.dissect.summary if layer.dissect else {},
            layer.stability.summary if layer.stability else {},
        )
    }
    facts = [
        ("Model", str(side.model.get("spec") or "")),
        ("Architecture", str(side.model.get("arch") or "")),
        ("Fine-tuned", side.method or ""),
        ("Input", preprocessing(side.model.get("preprocess") or {})),
        ("Measured on", ", ".join(sorted(d for d in datas if d))),
        ("Folder", who["path"]),
    ]
    return {"name": side.name, "facts": [(k, v) for k, v in facts if v]}


def _data(summary: Mapping[str, Any]) -> str:
    data = summary.get("data")
    if isinstance(data, Mapping):
        data = data.get("name") or data.get("path")
    return str(data or "")


def _accuracy_rows(document: Mapping[str, Any]) -> dict[str, Any] | None:
    values = [who["accuracy"] for who in document["workspaces"]]
    if not any(values):
        return None
    return {"title": "Accuracy", "digits": 3, "values": values, **_plot(values)}


def _layer_view(
    rows: Rows,
    of: Mapping[str, Any],
    units: Sequence[int],
    pictures: dict[str, Path],
) -> dict[str, Any]:
    shown = [q for q in QUANTITIES if any(of[q.key]["values"])]
    return {
        "name": _title(of["names"]),
        "rows": [_row(q, of[q.key]) for q in shown],
        "missing": [q.title for q in QUANTITIES if q not in shown],
        "units": [unit_view(unit, rows, pictures) for unit in units],
    }


def _title(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else " / ".join(names)


def _row(quantity: Quantity, of: Mapping[str, Any]) -> dict[str, Any]:
    values = of["values"]
    return {"title": quantity.title, "digits": quantity.digits, **of, **_plot(values)}


def _plot(values: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Lay values, intervals and chance out on one line from 0 to 1."""
    known = [v for v in values if v]
    ends = [
        n for v in known for n in (v["value"], v["chance"], *(v["interval"] or ())) if n is not None
    ]
    low, high = min([0.0, *ends]), max(ends, default=1.0)
    scale = (high - low) or 1.0

    def at(number: float | None) -> float | None:
        return None if number is None else (number - low) / scale

    marks = [
        None
        if v is None
        else {
            "at": at(v["value"]),
            "chance": at(v["chance"]),
            "ends": [at(n) for n in v["interval"]] if v["interval"] else None,
        }
        for v in values
    ]
    return {"marks": marks}


def _zip(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(one, other, strict=True))


def _render(view: Mapping[str, Any], src: Mapping[str, str]) -> str:
    from cnnlens.report.page import environment

    jinja = environment()
    style = jinja.loader.get_source(jinja, "style.css")[0]
    text = jinja.get_template("compare.html").render(
        view=view, src=src.__getitem__, style=style, section_name=""
    )
    return text.encode("utf-8", "replace").decode("utf-8")

"""The section about parts, read back from what stability left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv, read_json
from cnnlens.report.section import Section, UnitPicture
from cnnlens.report.stability_figures import part_colours

SHOWN = 6  # units per layer in the section; all are shown at their units
_REDO = "redo `cnnlens stability` with --force"
_KEYS = ("layer", "units", "dead_units", "images", "baselines", "parts", "interpretability")


def parts(workspace: Path) -> Section | None:
    """Gather the section about parts; None where nothing was measured.

    Raises
    ------
    CnnlensError
        When a file is damaged.
    """
    files = sorted((workspace / "stability").glob("*/summary.json"))
    layers = [_layer(file) for file in files if file.parent.name[0] != "."]
    if not layers:
        return None
    pictures = {key: path for layer in layers for key, path in layer["pictures"].items()}
    return Section(
        template="stability.html",
        view={"layers": layers, "dots": part_colours(layers[-1]["names"])},
        data={},
        pictures=pictures,
        at_unit=tuple(one for layer in layers for one in layer["at_unit"]),
        sources=tuple(files),
    )


def _layer(file: Path) -> dict[str, Any]:
    summary = read_json(file)
    if not isinstance(summary, dict) or any(key not in summary for key in _KEYS):
        raise CnnlensError(f"{file} is damaged: it lacks some of its keys", _REDO)
    folder = file.parent
    rows = read_csv(folder / "units.csv", ("unit", "category", "location_instability", "part"))
    at_unit, pictures = [], {}
    for row in rows:
        path = folder / "pictures" / f"{row['unit']}.webp"
        if path.is_file():
            key = f"stability/{folder.name}/{path.name}"
            pictures[key] = path
            title = "Where it peaks on objects"
            at_unit.append(
                UnitPicture(summary["layer"], int(row["unit"]), title, _caption(row), key)
            )
    where = folder / "where.png"
    if where.is_file():
        pictures[f"stability/{folder.name}/where.png"] = where
    measured = [row for row in rows if row["location_instability"]]
    steadiest = sorted(measured, key=lambda row: float(row["location_instability"]))[:SHOWN]
    keys = {one.unit: one.picture for one in at_unit}
    return {
        **summary,
        "names": [part["name"] for part in summary["parts"]],
        "where": f"stability/{folder.name}/where.png" if where.is_file() else None,
        "steadiest": [
            {"unit": int(row["unit"]), "caption": _caption(row), "key": keys.get(int(row["unit"]))}
            for row in steadiest
        ],
        "pictures": pictures,
        "at_unit": at_unit,
    }


def _caption(row: dict[str, str]) -> str:
    said = [f"{row['category']}: instability {_number(row['location_instability'], 3)}"]
    if row.get("p_value"):
        said.append(f"p = {_number(row['p_value'], 2)} against its shuffled places")
    if row.get("selectivity"):
        said.append(f"selectivity {_number(row['selectivity'], 2)}")
    if row.get("part_interpretability") and float(row["part_interpretability"]):
        said.append(f"its mask is the {row['part']} in {float(row['part_interpretability']):.0%}")
    elif row.get("part"):
        said.append(f"steadiest from the {row['part']}")
    return ", ".join(said) + "."


def _number(text: str, digits: int) -> str:
    return f"{float(text):.{digits}f}" if text else "–"

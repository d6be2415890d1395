"""The section about activation maximization: what each unit wants to see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.report.contents import layer_names, natural, read_workspace
from cnnlens.report.section import Section, UnitPicture

TITLE = "What it wants to see"


def visualizations(workspace: Path) -> Section | None:
    """Gather the section; None where nothing has been visualized."""
    order = layer_names(read_workspace(workspace))
    files = [p for p in (workspace / "visualize").glob("*/visualize.json") if _shown(p)]
    layers = [_layer(path) for path in files]
    layers = [layer for layer in layers if layer["pictures"]]
    if not layers:
        return None
    layers.sort(key=lambda layer: (_place(layer["name"], order), natural(layer["name"])))
    return Section(
        template="visualizations.html",
        view={"layers": layers},
        data={},
        pictures={
            key: file
            for layer in layers
            for picture in layer["pictures"]
            for key, file in picture["files"].items()
        },
        at_unit=tuple(
            _at_unit(layer["name"], picture)
            for layer in layers
            for picture in layer["pictures"]
            if picture["unit"] is not None
        ),
        sources=tuple(files),
    )


def _shown(path: Path) -> bool:
    return not path.parent.name.startswith(".")


def _place(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else len(order)


def _layer(path: Path) -> dict[str, Any]:
    document = read_json(path)
    try:
        entries = [
            entry for entry in document["pictures"] if (path.parent / entry["file"]).exists()
        ]
        pictures = [_picture(path.parent, entry) for entry in entries]
        name = str(document["layer"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CnnlensError(
            f"{path} is damaged: {error!r}", "remove it, or redo the command with --force"
        ) from error
    pictures.sort(key=lambda p: (p["unit"] is None, p["unit"] or 0, natural(p["name"])))
    return {"name": name, "pictures": pictures}


def _picture(folder: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Collect one picture: its words, its files under their keys, the key shown at the unit."""
    file = str(entry["file"])
    key = f"visualize/{folder.name}/{file}"
    files = {key: folder / file}
    beside = entry.get("beside")
    if beside and (folder / beside).exists():
        files[f"visualize/{folder.name}/{beside}"] = folder / beside
    return {
        "name": _name(entry),
        "unit": None if entry.get("unit") is None else int(entry["unit"]),
        "label": str(entry.get("label") or ""),
        "caption": _caption(entry),
        "start": _start(entry),
        "key": key,
        "files": files,
        "at_unit": list(files)[-1],  # what stands beside it too, where there is something
    }


def _name(entry: Mapping[str, Any]) -> str:
    if entry.get("class") is not None:
        return str(entry["class"])
    if entry.get("unit") is None:
        return "the whole layer"
    at = entry.get("position")
    return f"unit {entry['unit']}" + (f" at {at[0]},{at[1]}" if at else "")


def _caption(entry: Mapping[str, Any]) -> str:
    if entry.get("class") is None and float(entry["final"]) == 0:
        return "stays at 0: dead, or too few steps"
    text = f"{float(entry['initial']):.3g} → {float(entry['final']):.3g}"
    times = entry.get("times_best")
    return text + (f", peak {float(times):.1f} × the best image’s" if times else "")


def _start(entry: Mapping[str, Any]) -> str:
    """Name what the climb started from."""
    init = str(entry.get("made_from", {}).get("settings", {}).get("init", "noise"))
    return {"noise": "noise", "mean": "the mean colour"}.get(init, Path(init).name)


def _at_unit(layer: str, picture: Mapping[str, Any]) -> UnitPicture:
    return UnitPicture(
        layer=layer,
        unit=picture["unit"],
        title=TITLE,
        caption=f"Optimized from {picture['start']}: {picture['caption']}.",
        picture=picture["at_unit"],
    )

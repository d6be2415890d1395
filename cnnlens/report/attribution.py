"""The sections about what drove units and classes: pictures that deconv and cam left, read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.report.section import Section, UnitPicture

SHOWN = 8  # pictures per layer in the section; all are shown at their units


def projections(workspace: Path) -> Section | None:
    """Gather the section about DeconvNet; None where nothing has been projected."""
    files = sorted((workspace / "deconv").glob("*/deconv.json"))
    layers = [layer for file in files if (layer := _layer(file)) is not None]
    if not layers:
        return None
    entries = [(layer["name"], entry) for layer in layers for entry in layer["entries"]]
    return Section(
        template="deconv.html",
        view={"layers": layers, "shown": SHOWN},
        data={},
        pictures={entry["key"]: entry["path"] for _, entry in entries},
        at_unit=tuple(
            UnitPicture(name, entry["unit"], "What drove it", entry["caption"], entry["key"])
            for name, entry in entries
        ),
        sources=tuple(layer["source"] for layer in layers),
    )


def class_maps(workspace: Path) -> Section | None:
    """Gather the section about class activation maps; None where there are none."""
    file = workspace / "cam" / "cam.json"
    if not file.exists():
        return None
    entries: list[dict[str, Any]] = [
        {"key": f"cam/{path.name}", "path": path, "image": str(entry.get("image", path.stem))}
        for entry, path in _pictures(file, read_json(file))
    ]
    if not entries:
        return None
    return Section(
        template="cam.html",
        view={"entries": entries},
        data={},
        pictures={entry["key"]: entry["path"] for entry in entries},
        sources=(file,),
    )


def _layer(file: Path) -> dict[str, Any] | None:
    document = read_json(file)
    entries = [
        {
            "key": f"deconv/{file.parent.name}/{path.name}",
            "path": path,
            "name": path.stem,
            "unit": _unit(file, entry),
            "caption": _caption(entry),
        }
        for entry, path in _pictures(file, document)
    ]
    if not entries:
        return None
    dead = document.get("dead_units")
    return {
        "name": str(document.get("layer") or file.parent.name),
        "entries": entries,
        "dead": [str(unit) for unit in dead] if isinstance(dead, list) else [],
        "folder": f"deconv/{file.parent.name}",
        "source": file,
    }


def _unit(file: Path, entry: Mapping[str, Any]) -> int:
    if not isinstance(entry.get("unit"), int):
        raise CnnlensError(f"{file} is damaged: a picture names no unit", "redo it with --force")
    return int(entry["unit"])


def _caption(entry: Mapping[str, Any]) -> str:
    if entry.get("dead"):
        return f"Dead: {entry['dead']}."
    at = entry.get("position")
    where = f" at position {at[0]},{at[1]}" if at else ""
    return (
        f"Image patches, their projections ({entry.get('method', 'deconvnet')}{where}; grey is 0), "
        "and the patches masked by them."
    )


def _pictures(file: Path, document: Any) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Yield the pictures that a JSON lists and that are there."""
    listed = document.get("pictures") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise CnnlensError(f"{file} is damaged: it lists no pictures", "redo it with --force")
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise CnnlensError(f"{file} is damaged: a picture has no file", "redo it with --force")
        path = file.parent / Path(entry["file"]).name
        if path.is_file():
            yield entry, path

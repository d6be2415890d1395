"""The section about explained images: the pictures that explain left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.report.section import Section


def explanations(workspace: Path) -> Section | None:
    """Gather the section about explained images; None where there are none.

    Raises
    ------
    CnnlensError
        When a document is damaged.
    """
    files = sorted((workspace / "explain").glob("*.json"))
    entries = [entry for file in files if (entry := _entry(file)) is not None]
    if not entries:
        return None
    return Section(
        template="explain.html",
        view={"entries": entries},
        data={},
        pictures={entry["key"]: entry["path"] for entry in entries},
        sources=tuple(files),
    )


def _entry(file: Path) -> dict[str, Any] | None:
    document = read_json(file)
    if not isinstance(document, dict) or not isinstance(document.get("image"), str):
        raise CnnlensError(f"{file} is damaged: it names no image", "redo it with --force")
    picture = file.with_suffix(".png")
    if not picture.is_file():
        return None
    return {
        "key": f"explain/{picture.name}",
        "path": picture,
        "image": document["image"],
        "category": str(document.get("category", "")),
        "layer": str(document.get("layer", "")),
    }

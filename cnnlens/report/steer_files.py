"""``WORKSPACE/ablate/steer``: images with a unit turned up or down, drawn, and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from cnnlens.report.blocks import Gallery, Shot
from cnnlens.report.contents import listed, local, reading
from cnnlens.report.figures import new_figure, rendered, short
from cnnlens.report.sheet import save_png

SHOWN = 24  # pictures of the gallery
_BEFORE, _THEN = "#b4b4b4", "#c95400"


def save_steered(path: Path, image: Image.Image, entry: Mapping[str, Any]) -> None:
    """Draw an image beside its classes' probabilities, before (grey) and then (orange)."""
    figure = new_figure(5.6, 1.9, dpi=150)
    left = figure.add_axes((0.01, 0.04, 0.31, 0.92))
    right = figure.add_axes((0.55, 0.22, 0.42, 0.64))
    left.imshow(image, interpolation="nearest" if image.width < 100 else "antialiased")
    left.axis("off")
    classes = entry["classes"][::-1]
    for row, one in enumerate(classes):
        before, then = one["probability"]
        right.barh(row + 0.2, 100 * before, 0.36, color=_BEFORE)
        right.barh(row - 0.2, 100 * then, 0.36, color=_THEN)
    right.set_yticks(range(len(classes)), [short(one["class"]) for one in classes], fontsize=8)
    right.tick_params(axis="x", labelsize=8)
    right.set_xlim(0, 100)
    right.set_xlabel("probability (%)", fontsize=8)
    right.set_title(f"{entry['layer']} unit {entry['unit']} × {entry['factor']:g}", fontsize=9)
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    save_png(path, rendered(figure))


def said_of(entry: Mapping[str, Any]) -> str:
    """Say what turning a unit did."""
    moved = [f"{entry[key]['class']} {entry[key]['change']:+.2g}" for key in ("rises", "falls")]
    then = "still" if entry["then"] == entry["predicted"] else f"{entry['predicted']}, then"
    return f"{then} {entry['then']}; {', '.join(moved)}"


def steered(workspace: Path) -> tuple[list[Gallery], list[Path]]:
    """Gather the pictures for the page, and the file that lists them; nothing where none is."""
    file = workspace / "ablate" / "steer" / "steer.json"
    if not file.exists():
        return [], []
    _, entries = listed(file)
    with reading(file):
        shots = [_shot(entry, path, workspace) for entry, path in entries]
    return [Gallery(shots, SHOWN, wide=True)] if shots else [], [file]


def _shot(entry: Mapping[str, Any], path: Path, workspace: Path) -> Shot:
    name = local(str(entry["image"]), workspace)
    title = f"{name}, unit {entry['unit']} × {entry['factor']:g}"
    words = said_of(entry)
    return Shot(
        path, title, words, unit=entry["unit"], layer=entry["layer"],
        heading="Turned up or down", words=f"{title}: {words}", alt=f"{title}: class scores",
    )  # fmt: skip

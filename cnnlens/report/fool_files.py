"""What ``cnnlens fool`` leaves: its pictures, and its section of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.errors import counted
from cnnlens.report.blocks import Figure, Gallery, Section, Shot, section_of
from cnnlens.report.blocks import Text as Paragraph
from cnnlens.report.contents import listed, local, reading
from cnnlens.report.figures import as_drawn
from cnnlens.report.figures.attribution import as_rgb, signed
from cnnlens.report.sheet import Apart, Column, Drawing, Grid, Picture, Row, Text, scaled, sheet

_SHOWN = 12


def said_of(entry: Mapping[str, Any]) -> str:
    """Say in a line what an entry is: from what to what, by how much."""
    if entry.get("already"):
        return f"{entry['to']} as it is"
    if entry["image"] == "noise":
        return f"noise → {entry['to']}, {entry['confidence']:.2%} sure after {steps_of(entry)}"
    if entry["l2"] is None:
        return f"{entry['from']}: no change was found"
    size = f"{entry['levels']:.2g} levels of 255 (L2 {entry['l2']:.3g})"
    words = f"{entry['from']} → {entry['to']} by {size}"
    if further := entry.get("ascent"):
        words += f"; {further['confidence']:.1%} sure of {further['to']} after {steps_of(further)}"
    return words


def fooled(workspace: Path) -> Section | None:
    """Gather the section about fooling: how little it takes, and how much noise does not."""
    file = workspace / "fool" / "fool.json"
    document, entries = listed(file) if file.exists() else ({}, [])
    parts: list[Any] = []
    with reading(file):
        for name, curve in (document.get("curves") or {}).items():
            if (path := file.parent / name).is_file():
                parts.append(Figure(as_drawn(path), _caption(curve), alt="Images over the change"))
        shots = [_shot(entry, path, workspace) for entry, path in entries]
        photos = [shot for shot in shots if shot.title != "noise"]
        noise = [shot for shot in shots if shot.title == "noise"]
    if len(photos) > _SHOWN:
        parts.append(Paragraph(f"{len(photos)} photos were fooled; {_SHOWN} stand here.", "small"))
    if shots:
        parts.append(Gallery([*photos[:_SHOWN], *noise[:_SHOWN]], wide=True))
    return section_of("fool", "How little fools it", parts, [file])


def _shot(entry: Mapping[str, Any], path: Path, workspace: Path) -> Shot:
    name = local(str(entry["image"]), workspace)
    return Shot(path, name, said_of(entry), alt=f"{name}, changed until it is taken for another")


def _caption(curve: Mapping[str, Any]) -> str:
    to = "something else" if curve["to"] is None else curve["to"]
    median = curve["median_l2"]
    words = (
        "none of them was fooled" if median is None else f"for half of them L2 {median:.3g} does"
    )
    kept = curve["images"] - curve.get("asked", curve["images"])
    of = counted(curve["images"], "image") + (f", {kept} of them of earlier runs" if kept else "")
    if curves := curve.get("curves"):
        of = f"One of {curves} curves, of other settings or names of classes: {of}"
    about = f"{of}, and the smallest change with which each is taken for {to}"
    return f"{about}: {words}."


# -- pictures: what was changed, and what layers make of it ---------------------------------------

_TILE = 224  # pixels: side of a picture
_MAP = 110  # of a unit's map
_GAP = 14
_PALETTE = "magma"


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, with its words."""

    picture: np.ndarray  # (H, W, 3) uint8
    name: str
    words: str


def shown(image: np.ndarray) -> np.ndarray:
    """A picture (C, H, W) float in [0, 1] as (H, W, 3) uint8."""
    return as_rgb(np.clip(image, 0, 1))


def enlarged(image: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """What was added to a picture (C, H, W), as (H, W, 3) uint8: grey is nothing, the strongest
    changes reach black and white.
    """
    change = (changed - image).transpose(1, 2, 0)  # (H, W, C)
    return signed(change if change.shape[2] == 3 else change[..., :1].repeat(3, axis=2))


def heat(image: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Where a picture (C, H, W) was changed: sqrt(Σ_c Δ²), light is much, as (H, W, 3) uint8."""
    return _painted(np.sqrt(np.square(changed - image).sum(axis=0)))


def _painted(values: np.ndarray, low: float = 0.0, high: float | None = None) -> np.ndarray:
    from matplotlib import colormaps

    high = float(values.max()) if high is None else high
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.rint(colormaps[_PALETTE](share)[..., :3] * 255).astype(np.uint8)


def tiles(arrays: Mapping[str, np.ndarray], entry: Mapping[str, Any]) -> list[Tile]:
    """The pictures of one that was fooled (see `synthesize.fooled.Fooled`), with their words."""
    image = arrays["image"]
    first = Tile(shown(image), entry["from"], f"{entry['from_confidence']:.1%} sure, as it is")
    found = [first]
    if entry.get("written"):
        one, how = arrays["written"], entry["written"]
        found.append(Tile(shown(one), how["to"], f"in 8 bits: {_by(how)}"))
        change = arrays["fooled"] - image
        times = 0.5 / max(float(np.abs(change).max()), 1e-9)
        found.append(
            Tile(
                enlarged(image, arrays["fooled"]),
                "smallest change",
                f"× {times:,.0f}, {_by(entry)}",
            )
        )
    if "surely" in arrays:
        climbed = entry.get("ascent") or entry
        words = f"{climbed['confidence']:.2%} sure after {steps_of(climbed)}"
        found.append(Tile(shown(arrays["surely"]), climbed["to"], words))
        found.append(Tile(heat(image, arrays["surely"]), "where it changed", _by(climbed)))
    return found


def steps_of(climbed: Mapping[str, Any]) -> str:
    """Count an ascent's steps for people."""
    return f"{climbed['steps']} step{'' if climbed['steps'] == 1 else 's'}"


def _by(change: Mapping[str, Any]) -> str:
    return f"L2 {change['l2']:.3g}, {change['levels']:.2g} levels"


def draw(
    title: str, note: str, tiles: Sequence[Tile], layers: Sequence[Mapping[str, Any]] = ()
) -> Image.Image:
    """Lay out pictures side by side, and below them the maps of each layer in pairs.

    Parameters
    ----------
    title, note : str
        Above.
    tiles : sequence of Tile
        In reading order.
    layers : sequence of mapping
        "name", "share", "units", "shares", "before" and "after" (see `synthesize.fool.Changed`).
    """
    grid = Grid([_tile(tile) for tile in tiles], len(tiles), (_GAP, 0))
    head = Text(title, 16, 24, bold=True), Text(note, 12, 26)
    return sheet(Column(*head, grid, *(_maps(one) for one in layers), least=(2 * _TILE, 0)), top=12)


def _tile(tile: Tile) -> Column:
    picture = _resized(tile.picture, _TILE)
    texts = Text(tile.name, 13, 18, bold=True), Text(tile.words, 12, 23)
    apart = Apart(Picture(picture), f"{tile.name}: {tile.words}")
    return Column(apart, Drawing(_TILE, 5), *texts)


def _resized(array: np.ndarray, side: int) -> Image.Image:
    picture = Image.fromarray(array)
    if max(picture.size) * 3 > side:
        return scaled(picture, side)
    factor = side / max(picture.size)  # small ones keep their pixels
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def _maps(layer: Mapping[str, Any]) -> Column:
    """A layer's units in columns: the map of the picture as it was, then that of the changed."""
    pairs = []
    for unit, share, before, after in zip(
        layer["units"], layer["shares"], layer["before"], layer["after"], strict=True
    ):
        low = float(min(before.min(), after.min(), 0))
        high = float(max(before.max(), after.max()))
        one, other = (
            Picture(_resized(_painted(values, low, high), _MAP)) for values in (before, after)
        )
        words = f"unit {unit}: {share:.2g} × a usual map"
        pair = Apart(Row(one, other, gap=4), f"{layer['name']} {words}")
        pairs.append(
            Column(
                pair, Text(f"unit {unit}", 13, 18, True), Text(words[words.find(":") + 2 :], 11, 20)
            )
        )
    said = f"its maps changed by {layer['share']:.0%} in all; left as it was, right changed"
    return Column(
        Drawing(0, 10),
        Row(Text(layer["name"], 14, 24, bold=True, wide=150), Text(said, 12, 24)),
        Grid(pairs, 5, (_GAP, 0)),
    )

"""Pictures of networks side by side: the same unit of each, trees and layouts of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.measure.compared import ComparedLayer, Rows
from cnnlens.measure.tree_agreement import AGREEMENTS
from cnnlens.report.blocks import Cell, Shot, Table, Text, format_p, number, percent

# -- units ---------------------------------------------------------------------------------------

_MEASURES = {
    "location_instability": "instability",
    "selectivity": "selectivity",
    "part_interpretability": "part",
}


def same_unit(layer: ComparedLayer, unit: int) -> list[Any]:
    """Give a unit's words and pictures in one workspace."""
    words = []
    dissect, stability = (layer.measured.get(c, ()) for c in ("dissect", "stability"))
    if unit < len(dissect):
        one = dissect[unit]
        words.append(f"{one.label or 'no concept'}, IoU {one.iou:.3f}")
    if unit < len(stability):
        (row,) = stability[unit].table()
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
    if "stability" not in layer.measured:
        return []
    instability = layer.measured["stability"].instability
    return [int(unit) for unit in instability.argsort(kind="stable")]  # NaN last


# -- clusters ------------------------------------------------------------------------------------

_MEANT = {
    "trees": "whether what joins low in one tree joins low in the other; 1: the same tree",
    "groups": "sets of classes that stand together in both trees",
    "distances": "whether the same pairs of classes are near; it leaves the trees aside",
}
_DRAWN = {"dendrogram.png": "Tree of its classes", "umap.png": "Where its images lie"}


def clusters_beside(networks: Sequence[Any], rows: Rows, trees: Sequence[Any]) -> Iterator[Any]:
    """Show how far trees of classes agree, and the trees and layouts themselves."""
    if any(trees):
        table = [_agreement(key, title, trees) for key, title in AGREEMENTS.items()]
        caption = "Do they hold the same classes close? Each tree against the first one"
        yield Table([None, *networks[1:]], table, caption, "summary compared")
        yield from (Text(line, "small") for line in _support(trees))
    found = [layer.measured.get("cluster") for layer in rows]
    shots = [
        [_drawn(one.folder / name, words) if one else None for one in found]
        for name, words in _DRAWN.items()
    ]
    shown = [[words, *row] for words, row in zip(_DRAWN.values(), shots, strict=True) if any(row)]
    if shown:
        yield Table([None, *networks], shown, "", "beside drawings")


def _drawn(path: Path, words: str) -> Shot | None:
    return Shot(path, alt=words) if path.is_file() else None


def _agreement(key: str, title: str, trees: Sequence[Any]) -> list[Any]:
    cells = [_agreeing(one[key]) if one and one[key] else Cell("", note="–") for one in trees]
    return [Cell(title, note=_MEANT[key]), *cells]


def _agreeing(one: Mapping[str, Any]) -> Cell:
    counted = "of" in one
    value = f"{one['value']} of {one['of']}" if counted else number(one["value"], 3)
    chance = number(one["chance"], 1 if counted else 3)
    sure = "more than chance" if one["p_value"] < 0.05 else "no more than chance"
    return Cell(value, True, chance=chance, note=f"{sure} (p = {format_p(one['p_value'])})")


def _support(trees: Sequence[Any]) -> Iterator[str]:
    """Say how firm the trees are: those that images drawn anew do not bear out cannot agree."""
    known: list[Any] = next((one["support"] for one in trees if one), [])
    ends = [percent(one) for one in known if one is not None]
    if len(ends) > 1:
        yield (
            f"A merge’s mean support over images drawn anew is {ends[0]} in the first, {ends[1]} "
            "in the second: a tree of little support says little, and can agree with none."
        )

"""The same unit of several workspaces, side by side: which ones, their words, their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.report.sides import SideLayer

Rows = list[SideLayer]  # the same layer of every workspace


def unit_view(unit: int, rows: Rows, pictures: dict[str, Path]) -> dict[str, Any]:
    """Gather what stands in one row: each workspace's words and pictures of a unit.

    Its pictures join `pictures`, under keys that tell the workspaces apart.
    """
    cells = []
    for place, layer in enumerate(rows):
        found = {f"{place}/{key}": path for key, path in unit_pictures(layer, unit).items()}
        pictures |= found
        cells.append({"words": _words(layer, unit), "pictures": list(found)})
    return {"unit": unit, "cells": cells}


def _words(layer: SideLayer, unit: int) -> list[str]:
    """What was found of a unit, in a few words."""
    words = []
    if layer.dissect is not None and unit < len(layer.dissect.units):
        one = layer.dissect.units[unit]
        words.append(f"{one.label or 'no concept'}, IoU {one.iou:.3f}")
    if layer.stability is not None and unit < layer.units:
        for name, title in (
            ("location_instability", "instability"),
            ("selectivity", "selectivity"),
            ("part_interpretability", "part"),
        ):
            value = layer.stability.column(name)[unit]
            if value == value:  # not NaN
                words.append(f"{title} {value:.3f}")
    return words


def unit_pictures(layer: SideLayer, unit: int) -> dict[str, Path]:
    """Find a unit's pictures in its workspace, whichever command made them."""
    if layer.dissect is not None:
        workspace, folder = layer.dissect.folder.parents[1], layer.dissect.folder.name
    else:
        assert layer.stability is not None
        workspace, folder = layer.stability.folder.parents[1], layer.stability.folder.name
    found = {}
    for command in ("dissect", "stability", "visualize"):
        for pattern in (f"pictures/{unit}.webp", f"pictures/{unit}.png", f"{unit}.png"):
            path = workspace / command / folder / pattern
            if path.is_file():
                found[f"{command}/{folder}/{pattern}"] = path
                break
    return found


def units_to_show(rows: Rows, top: int) -> list[int]:
    """Choose units that are worth a look: the best of each workspace in turn, those with pictures.

    Parameters
    ----------
    rows : list of SideLayer
        One layer of every workspace.
    top : int
        How many.
    """
    ranked = [_ranked(layer) for layer in rows]
    chosen: dict[int, None] = {}
    for place in range(max(map(len, ranked), default=0)):
        for order in ranked:
            fits = len(chosen) < top and place < len(order)
            if fits and any(unit_pictures(layer, order[place]) for layer in rows):
                chosen[order[place]] = None
    return sorted(chosen)


def _ranked(layer: SideLayer) -> list[int]:
    if layer.dissect is not None:
        return [unit.unit for unit in layer.dissect.best()]
    assert layer.stability is not None
    instability = layer.stability.instability
    return [int(u) for u in instability.argsort(kind="stable")]  # NaN last

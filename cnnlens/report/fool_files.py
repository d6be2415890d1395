"""What ``cnnlens fool`` leaves, and its section of the page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.report.blocks import Figure, Gallery, Section, Shot, Text, section_of
from cnnlens.report.contents import listed, local, reading
from cnnlens.report.figures import as_drawn
from cnnlens.report.figures.fool import steps_of

LEAST = 3  # images that make a curve
_SHOWN = 12


def curves(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Say how many images flip by what: by file, a curve for any other class, and per target.

    Returns
    -------
    dict
        "to" (a class, or None for any other), "images", "l2" (the smallest changes that were
        found, sorted), "median_l2", and "noise": pairs of a length and the share that noise of it
        flips. Images that are taken for the target as they are do not count.
    """
    groups: dict[str | None, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry.get("noise") and not entry.get("already"):
            groups.setdefault(entry["target"], []).append(entry)
    found = {}
    for number, (target, group) in enumerate(groups.items()):
        if len(group) >= LEAST:
            name = "curve.png" if target is None else f"curve-{number}.png"
            found[name] = _curve(target, group)
    return found


def _curve(target: str | None, group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lengths = sorted(entry["l2"] for entry in group if entry["l2"] is not None)
    sizes = group[0]["noise"]["l2"]
    shares = zip(*(entry["noise"]["flips"] for entry in group), strict=True)
    return {
        "to": target,
        "images": len(group),
        "median_l2": statistics.median(lengths) if lengths else None,
        "l2": lengths,
        "noise": [
            [size, statistics.mean(flips)] for size, flips in zip(sizes, shares, strict=True)
        ],
    }


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
        parts.append(Text(f"{len(photos)} photos were fooled; {_SHOWN} stand here.", "small"))
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
    about = f"{curve['images']} images, and the smallest change with which each is taken for {to}"
    return f"{about}: {words}."

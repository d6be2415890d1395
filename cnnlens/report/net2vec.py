"""The section about Net2Vec: each concept's best unit beside its combination of units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cnnlens.errors import counted
from cnnlens.measure.compared import data_name
from cnnlens.report.blocks import (
    Cell,
    Facts,
    Gallery,
    Layer,
    Section,
    Shot,
    Table,
    Text,
    section_of,
    signed,
)
from cnnlens.report.blocks import number as written
from cnnlens.report.contents import reading
from cnnlens.report.net2vec_files import ConceptResult, Net2VecResult, read_all_net2vec

ROWS = 60  # of the table, at most
STRIPS = 12  # concepts whose images stand on the page


def concepts(workspace: Path) -> Section | None:
    """Gather the section; None where net2vec has not been run."""
    found = read_all_net2vec(workspace)
    layers = []
    for layer in found:
        with reading(layer.folder / "summary.json", "redo `cnnlens net2vec` with --force"):
            layers.append(_layer(layer))
    sources = [layer.folder / "summary.json" for layer in found]
    return section_of("net2vec", "Concepts as combinations of units", layers, sources)


def _layer(layer: Net2VecResult) -> Layer:
    shown = sorted(layer.concepts, key=lambda c: (not c.of_pixels, -(c.iou or 0.0)))
    chance = any(concept.chance_iou is not None for concept in shown)
    heads = ["Concept", "Images", "Best unit", "Combination", "Gain", "Units: 1 to all"]
    heads[4:4] = ["Shuffled"] if chance else []
    table = Table(heads, [_row(concept, chance) for concept in shown[:ROWS]])
    blocks: list[Any] = [Facts(list(_facts(layer))), table]
    if len(shown) > ROWS:
        blocks.append(Text(f"{len(shown) - ROWS} more stand in concepts.csv.", "small"))
    drawn = [concept for concept in shown if concept.picture]
    if drawn:
        words = "Images on which combinations are highest; those of all concepts are in pictures/."
        shots = [_shot(layer, concept) for concept in drawn[:STRIPS]]
        blocks += [Text(words, "small"), Gallery(shots, wide=True)]
    return Layer(layer.name, *blocks)


def _facts(layer: Net2VecResult) -> Iterator[tuple[str, str]]:
    s = layer.summary
    yield "Data", Path(data_name(s)).name
    yield "Images", str(s["split"])
    yield "Better than the best unit", f"{s['better']} of {s['concepts']} concepts"
    if s["better_than_chance"] is not None:
        better = f"{s['better_than_chance']} of {s['concepts']}"
        yield "Better than shuffled labels", f"{better}; about half would be by chance"
    iou, unit = written(s["mean_iou"], 3), written(s["mean_best_unit_iou"], 3)
    chance = "" if s["chance_iou"] is None else f", from shuffled labels {s['chance_iou']:.3f}"
    yield "Mean IoU", f"{iou}; best unit {unit}{chance}"
    if len(s["curve"]) > 1 and s["mean_iou"]:
        steps = (f"{p['filters']}: {written(p['mean_iou'], 3)}" for p in s["curve"])
        yield "Mean IoU by units", " · ".join(steps)
    if s["left_out"]:
        names = ", ".join(f"{one['label']} ({one['category']})" for one in s["left_out"])
        yield "Left out", names


def _row(concept: ConceptResult, chance: bool) -> list[Any]:
    unit = "none" if concept.best_unit is None else f"unit {concept.best_unit}"
    numbers = [Cell(written(concept.iou, 3), strong=True)]
    numbers += [Cell(written(concept.chance_iou, 3))] if chance else []
    gain = None if concept.gain is None else Cell(signed(concept.gain, 3))
    curve = _sparkline(concept.curve, concept.best_unit_iou)
    about = concept.category if concept.of_pixels else f"{concept.category}, of whole images"
    return [
        Cell(concept.label, note=about),
        Cell(str(concept.images)),
        Cell(written(concept.best_unit_iou, 3), note=unit),
        *numbers,
        gain,
        Shot(curve) if curve else None,
    ]


def _sparkline(curve: Sequence[tuple[int, float | None]], unit: float | None) -> Markup | None:
    """Draw IoU over the number of units, these in powers of two; a dashed line is the best unit."""
    known = [(math.log2(count), iou) for count, iou in curve if iou is not None]
    if len(known) < 2:
        return None
    wide, high = 120, 28
    right = known[-1][0] or 1.0
    top = max([iou for _, iou in known] + [unit or 0.0]) or 1.0

    def place(x: float, y: float) -> str:
        return f"{2 + (wide - 4) * x / right:.1f},{high - 2 - (high - 4) * y / top:.1f}"

    line = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.6"{}/>')
    drawn = line.format(" ".join(place(x, y) for x, y in known), "currentColor", "")
    ends = " ".join(place(x, unit or 0.0) for x in (0.0, right))
    level = line.format(ends, "currentColor", Markup(' stroke-dasharray="3 3" opacity=".5"'))
    said = ", ".join(
        f"{counted(count, 'unit')} {iou:.3f}" for count, iou in curve if iou is not None
    )
    return Markup(
        '<svg width="{}" height="{}" viewBox="0 0 {} {}" role="img"><title>{}</title>{}{}</svg>'
    ).format(wide, high, wide, high, said, level, drawn)


def _shot(layer: Net2VecResult, concept: ConceptResult) -> Shot:
    shows = sum(one.shows for one in concept.top)
    iou = "no image to validate on" if concept.iou is None else f"IoU {concept.iou:.3f}"
    if concept.best_unit is not None and concept.best_unit_iou is not None:
        iou += f", unit {concept.best_unit} alone {concept.best_unit_iou:.3f}"
    words = f"{iou}; {shows} of these {len(concept.top)} images show it."
    alt = f"Images on which the combination for {concept.name} is highest in {layer.name}"
    return Shot(concept.picture or Path(), concept.label, words, concept.category, alt=alt)

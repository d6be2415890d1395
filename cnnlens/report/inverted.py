"""The page's section about inversion: what layers still know of a photo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.report.blocks import Cell, Section, Shot, Table, Text, number, section_of
from cnnlens.report.contents import reading
from cnnlens.report.invert_files import (
    NAMES,
    Inverted,
    read_inversions,
    read_trainings,
    rows,
    words_of,
)


def inversions(workspace: Path) -> Section | None:
    """Gather the section: images down, layers across, and how well trained networks do."""
    layers = read_inversions(workspace)
    names, table = [layer[0].layer for layer in layers], []
    kinds = rows(layers)
    for row, found in kinds.items():
        first = next(iter(found.values()))
        said = words_of(row, kinds)
        photo = Shot(first.original, row.image, said, alt=f"{row.image} as it was seen")
        table.append([photo, *(_shot(found.get(name)) for name in names)])
    parts: list[Any] = [Table(["Photo", *names], table, style="inversions")] if table else []
    trained = read_trainings(workspace) if table else []
    if trained:
        parts.append(_trained(trained))
        parts += [Text(f"{name}: {about['note']}.", "small") for name, about, _ in trained
                  if about.get("note")]  # fmt: skip
    sources = [layer[0].folder / "invert.json" for layer in layers]
    told = {
        "perturbed": any(row.kind not in ("none", "upconv") for row in kinds),
        "searched": any(not row.kind.startswith("upconv") for row in kinds),
        "trained": bool(trained),
    }
    return section_of("invert", "What its layers still know of a photo", parts, sources, **told)


def _shot(one: Inverted | None) -> Shot | None:
    if one is None:
        return None
    words = f", {NAMES[one.kind]}" if one.kind in NAMES else ""
    return Shot(one.picture, facts=one.errors, alt=f"{one.image} from {one.layer}{words}")


def _trained(trained: list[tuple[str, Mapping[str, Any], Path]]) -> Table:
    heads = ["Trained network", "Pixel RMSE, held out", "on images it learned from", "mean image",
             "Images held out", "learned from", "Epochs"]  # fmt: skip
    found = []
    for name, about, file in trained:
        with reading(file, "redo `cnnlens invert --method upconv` with --force"):
            found.append([
                name,
                Cell(number(about["held_out_rmse"], 3), strong=True),
                *(Cell(number(about[k], 3)) for k in ("training_rmse", "mean_image_rmse")),
                *(Cell(number(about[k])) for k in ("held_out", "images", "epochs")),
            ])  # fmt: skip
    return Table(heads, found)

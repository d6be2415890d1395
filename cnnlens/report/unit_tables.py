"""What `cnnlens units` writes of a layer, and what it prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnlens.files.tables import columns, write_rows
from cnnlens.measure.responses import Responses, UnitResponse
from cnnlens.report.unit_files import ARRAYS, LOOKED, Unit, cells


def listed_rows(found: Responses) -> np.ndarray:
    """Name the rows of images that units list, (R,) int64, dead units left out."""
    alive = ~found.dead
    listed = (found.top, found.bottom, found.examples)
    rows = np.unique(np.concatenate([rows[alive].ravel() for rows in listed]))
    return rows[rows >= 0]


def write_tables(folder: Path, found: Responses, paths: Sequence[str]) -> None:
    """Write units.csv and units.h5 of one layer; `paths` are all images in the data's order."""
    rows = [cells(row) for row in found.rows(paths)]
    write_rows(folder / "units.csv", columns(UnitResponse), rows)
    layers = np.array([*found.layers, ""], object)[found.neighbour_layer]  # -1: none
    images = [paths[position].encode("utf-8", "surrogateescape") for position in found.positions]
    with h5py.File(folder / "units.h5", "w", libver=("v110", "v110"), track_order=True) as file:
        for name in ARRAYS:
            file[name] = getattr(found, name)
        file.create_dataset("neighbour_layer", data=layers, dtype=h5py.string_dtype())
        if found.categories:
            names = [name.encode("utf-8", "surrogateescape") for name in found.categories]
            file.create_dataset("categories", data=names, dtype=h5py.string_dtype())
            made_up = found.category_images
            file.create_dataset("category_images", data=made_up, compression="gzip")
        file.create_dataset("images", data=images, dtype=h5py.string_dtype())


def write_pictured(folder: Path, found: Responses, files: Mapping[int, str]) -> None:
    """Write pictures.h5 of one layer: how its images are shown.

    Parameters
    ----------
    folder : pathlib.Path
        The layer's.
    found : Responses
        What was found.
    files : mapping of int to str
        By an image's place in the data's order: its file in ``WORKSPACE/images``.
    """
    names = [files.get(position, "") for position in found.positions.tolist()]
    with h5py.File(folder / "pictures.h5", "w", libver=("v110", "v110"), track_order=True) as file:
        file.create_dataset("files", data=names, dtype=h5py.string_dtype())
        for name in LOOKED:
            file.create_dataset(name, data=getattr(found, name), compression="gzip")


# -- units and layers beside each other ------------------------------------------------------------

LAYER_COLUMNS = (
    "layer",
    "units",
    "dead",
    "density",
    "class selectivity",
    "images",
    "compared with",
)


def layer_row(summary: Mapping[str, Any]) -> list[object]:
    """Give a layer's row under `LAYER_COLUMNS`, from its summary."""
    selective, others = summary["class_selectivity"], ", ".join(summary["compared_with"][1:])
    density = round(summary["density"], 4)
    selective = None if selective is None else round(selective, 4)
    named = summary["layer"], summary["units"], summary["dead_units"]
    return [*named, density, selective, summary["images"], others]


def unit_table(units: Sequence[Unit]) -> tuple[list[str], list[list[object]]]:
    """Give columns and rows of a table of units; their category where they have one."""
    heads = ["unit", "peak", "above 0", "top image"]
    rows: list[list[object]] = [
        [u.unit, f"{u.peak_max:.3g}", f"{u.density:.1%}", u.top_image] for u in units
    ]
    if any(unit.category for unit in units):
        heads += ["category", "of its top"]
        rows = [
            [*row, u.category, f"{u.category_share or 0:.0%}"]
            for row, u in zip(rows, units, strict=True)
        ]
    heads += ["responds like", "r"]
    near = [(u.neighbour, u.neighbour_correlation) for u in units]
    rows = [[*row, n, r and round(r, 3)] for row, (n, r) in zip(rows, near, strict=True)]
    return heads, rows

"""``WORKSPACE/units/<layer>``: units.csv, units.h5, summary.json, pictures/ and examples/.

Rows in units.h5 are those of the activation store; its `images` are their paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files import columns, read_rows, write_rows
from cnnlens.measure.dissected_units import Histogram
from cnnlens.measure.responses import Responses, UnitResponse
from cnnlens.report.contents import finished, in_order, read_object, reading
from cnnlens.report.shown import Fact, Picture, Shown, UnitResults

_REDO = "redo `cnnlens units` with --force"
_ARRAYS = (
    "top", "bottom", "top_peak", "top_position", "bottom_position", "examples",
    "example_position", "bin_images", "bin_edges", "histogram", "edges", "neighbours",
    "neighbour_correlation",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Unit(UnitResponse, Shown):
    """One row of ``units.csv``, and what else is known of the unit.

    Attributes
    ----------
    top : list of (str, float)
        Its top images, and its peak on each.
    bins : list of (float, float, int)
        Over the range of its peaks: from where to where, and how many images lie there.
    neighbours : list of (str, int, float)
        Units that respond alike: layer, unit, correlation.
    histogram : Histogram
        Of all its values.
    picture, examples : pathlib.Path or None
        Its top images at its peaks; examples of each bin, highest to the right.
    """

    top: list[tuple[str, float]]
    bins: list[tuple[float, float, int]]
    neighbours: list[tuple[str, int, float]]
    histogram: Histogram
    picture: Path | None = None
    examples: Path | None = None

    @property
    def words(self) -> str:
        """What it responds to, for people."""
        if self.dead:
            return f"unit {self.unit}: dead, never above 0"
        said = [f"unit {self.unit}: peak {self.peak_max:.3g}", f"{self.density:.1%} above 0"]
        if self.category:
            said.append(f"{self.category} in {self.category_share:.0%} of its top images")
        return ", ".join(said)

    def table(self) -> list[dict[str, Any]]:
        """Give its row of ``units.csv``."""
        return [_cells(self)]

    def _title(self) -> str:
        return self.words

    def _facts(self) -> Iterable[Fact]:
        yield "mean", f"{self.mean:.3g}", ""
        if self.category_entropy is not None:
            yield "entropy of categories", f"{self.category_entropy:.2f} bits", ""
        if self.class_selectivity is not None:
            yield "class selectivity", f"{self.class_selectivity:.2f}", ""
        for layer, unit, alike in self.neighbours[:4]:
            yield "responds like", f"{layer}:{unit}", f"r = {alike:.2f}"

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        if self.picture:
            yield "highest peaks", self.picture
        if self.examples:
            counts = ", ".join(f"{count:,}" for _, _, count in self.bins)
            yield f"over its whole range, low to high; images there: {counts}", self.examples


def _cells(unit: UnitResponse) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in columns(UnitResponse)}


@dataclass(frozen=True, eq=False)
class UnitsResult(UnitResults[Unit]):
    """Everything units found on one layer; ``found[12]`` is its unit 12.

    Attributes
    ----------
    name, folder, summary, units
        The layer, its folder, ``summary.json``, rows of ``units.csv``.
    images : list of str
        What the rows in the arrays are.
    arrays : dict of str to numpy.ndarray
        The arrays of ``units.h5``, by name.
    """

    images: list[str]
    arrays: dict[str, np.ndarray]

    def column(self, name: str) -> np.ndarray:
        """Give a column of numbers, (C,) float64, NaN where a unit has none."""
        return np.array([getattr(unit, name) for unit in self.units], float)

    def best(self, count: int | None = None) -> list[Unit]:
        """List the units of highest peak; dead ones are left out."""
        alive = [unit for unit in self.units if not unit.dead]
        return sorted(alive, key=lambda unit: (-unit.peak_max, unit.unit))[:count]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per unit, the columns of ``units.csv``."""
        return [_cells(unit) for unit in self.units]

    def _title(self) -> str:
        return f"What the units of {self.name} respond to"

    def _facts(self) -> Iterable[Fact]:
        yield "units", str(len(self)), ""
        yield "dead", str(sum(unit.dead for unit in self.units)), ""
        yield "images", f"{len(self.images):,}", ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(unit.words, unit.picture) for unit in self.best(24)]


# -- reading -------------------------------------------------------------------------------------


def read_all_units(workspace: Path) -> list[UnitsResult]:
    """Read every layer that units has finished, in the workspace's order (see `read_units`)."""
    return [read_units(folder) for folder in in_order(workspace, finished(workspace, "units"))]


def read_units(folder: Path) -> UnitsResult:
    """Read the files of one layer; a damaged file is named (`CnnlensError`)."""
    summary, file = read_object(folder / "summary.json", redo=_REDO), folder / "units.h5"
    if not file.exists():
        raise CnnlensError(f"{file} does not exist", _REDO)
    with reading(file, _REDO), h5py.File(file, "r") as stored:
        arrays = {name: stored[name][()] for name in _ARRAYS}
        arrays["neighbour_layer"] = np.array(stored["neighbour_layer"].asstr()[()], object)
        images = list(stored["images"].asstr(errors="surrogateescape")[()])
        count = len(arrays["top"])
        if any(len(array) != count for array in arrays.values()):
            raise ValueError("its arrays differ in length")
        if arrays["top"].max(initial=-1) >= len(images):
            raise ValueError("it names rows that are not there")

    def more(row: dict[str, str]) -> dict[str, Any]:
        return _more(folder, int(row["unit"]), images, arrays)

    units = read_rows(folder / "units.csv", Unit, _REDO, more)
    if len(units) != count:
        raise CnnlensError(f"{folder / 'units.csv'} is damaged: it has {len(units)} rows", _REDO)
    name = str(summary.get("layer") or folder.name)
    return UnitsResult(name, folder, summary, units, images, arrays)


def _more(
    folder: Path, unit: int, images: Sequence[str], arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    here = {name: array[unit] for name, array in arrays.items()}
    top = [
        (images[row], float(peak))
        for row, peak in zip(here["top"].tolist(), here["top_peak"].tolist(), strict=True)
        if row >= 0
    ]
    near = zip(
        here["neighbour_layer"], here["neighbours"], here["neighbour_correlation"], strict=True
    )
    edges = here["bin_edges"].tolist()
    pictures = {"picture": "pictures", "examples": "examples"}
    files = {name: folder / kind / f"{unit}.webp" for name, kind in pictures.items()}
    return {
        "top": top,
        "bins": list(zip(edges[:-1], edges[1:], here["bin_images"].tolist(), strict=True)),
        "neighbours": [(str(layer), int(n), float(r)) for layer, n, r in near if n >= 0],
        "histogram": Histogram(here["histogram"], here["edges"]),
        **{name: file if file.is_file() else None for name, file in files.items()},
    }


# -- writing -------------------------------------------------------------------------------------


def write_tables(folder: Path, found: Responses, paths: Sequence[str]) -> None:
    """Write units.csv and units.h5 of one layer; `paths` are all images in the data's order."""
    rows = [_cells(row) for row in found.rows(paths)]
    write_rows(folder / "units.csv", columns(UnitResponse), rows)
    layers = np.array([*found.layers, ""], object)[found.neighbour_layer]  # -1: none
    images = [paths[position].encode("utf-8", "surrogateescape") for position in found.positions]
    with h5py.File(folder / "units.h5", "w", libver=("v110", "v110"), track_order=True) as file:
        for name in _ARRAYS:
            file[name] = getattr(found, name)
        file.create_dataset("neighbour_layer", data=layers, dtype=h5py.string_dtype())
        file.create_dataset("images", data=images, dtype=h5py.string_dtype())


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

"""``WORKSPACE/units/<layer>``: units.csv, units.h5, summary.json, pictures/ and examples/.

Rows in units.h5 are those of the activation store; its `images` are their paths.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files.tables import columns, read_rows, write_rows
from cnnlens.measure.dissected_units import Histogram
from cnnlens.measure.responses import Responses, UnitResponse
from cnnlens.report.contents import read_layers, read_summary, reading
from cnnlens.report.seen import Seen, View
from cnnlens.report.unit_result import Bin, Unit, UnitsResult, cells

_REDO = "redo `cnnlens units` with --force"
ARRAYS = (
    "top", "bottom", "top_peak", "top_position", "bottom_position", "examples",
    "example_position", "bin_images", "bin_edges", "histogram", "edges", "neighbours",
    "neighbour_correlation",
)  # fmt: skip
# arrays of pictures.h5
LOOKED = ("top_map", "image_units", "image_peak", "image_place")


# -- reading -------------------------------------------------------------------------------------


def read_all_units(workspace: Path) -> list[UnitsResult]:
    """Read every layer that units has finished, in the workspace's order (see `read_units`)."""
    return read_layers(workspace, "units", read_units)


def read_units(folder: Path) -> UnitsResult:
    """Read the files of one layer; a damaged file is named (`CnnlensError`)."""
    (name, summary), file = read_summary(folder, _REDO), folder / "units.h5"
    if not file.exists():
        raise CnnlensError(f"{file} does not exist", _REDO)
    with reading(file, _REDO), h5py.File(file, "r") as stored:
        arrays = {name: stored[name][()] for name in ARRAYS}
        arrays["neighbour_layer"] = np.array(stored["neighbour_layer"].asstr()[()], object)
        images, categories = _texts(stored, "images"), _texts(stored, "categories")
        if categories:
            arrays["category_images"] = stored["category_images"][()]
        count = len(arrays["top"])
        if any(len(array) != count for array in arrays.values()):
            raise ValueError("its arrays differ in length")
        if arrays["top"].max(initial=-1) >= len(images):
            raise ValueError("it names rows that are not there")
    with reading(folder / "summary.json", _REDO):
        view = View.of(summary)
    files, looked = _pictured(folder, len(images), count)
    counts = _counts(categories, summary)
    layer = _Layer(folder, images, files, looked.get("top_map"), view, arrays, categories, counts)
    units = read_rows(folder / "units.csv", Unit, _REDO, lambda row: layer.more(int(row["unit"])))
    if len(units) != count:
        raise CnnlensError(f"{folder / 'units.csv'} is damaged: it has {len(units)} rows", _REDO)
    return UnitsResult(name, folder, summary, units, images, arrays, files, looked)


def _counts(categories: Sequence[str], summary: Mapping[str, Any]) -> dict[str, int]:
    """Give every category's number of images that are listed; empty where an earlier version did
    not count, or counted copies, too, which no list holds.
    """
    counts = summary.get("category_counts")
    if not isinstance(counts, list) or len(counts) != len(categories) or not sum(counts):
        return {}
    if sum(counts) != summary["images"] - (summary.get("repeated_images") or 0):
        return {}
    return dict(zip(categories, counts, strict=True))


def _texts(stored: h5py.File, name: str) -> list[str]:
    return list(stored[name].asstr(errors="surrogateescape")[()]) if name in stored else []


def _pictured(
    folder: Path, images: int, units: int
) -> tuple[list[Path | None], dict[str, np.ndarray]]:
    """Read where each row's image is, units' maps on images and images' units; nothing where no
    page was wanted.
    """
    if not (file := folder / "pictures.h5").exists():
        return [None] * images, {}
    place = folder.parents[1] / "images"
    with reading(file, _REDO), h5py.File(file, "r") as stored:
        names = stored["files"].asstr()[()]
        looked = {name: stored[name][()] for name in LOOKED}
        lengths = [units, *[images] * (len(looked) - 1)]
        if len(names) != images or [len(array) for array in looked.values()] != lengths:
            raise ValueError("its arrays differ in length")
    there = {name: (place / name).is_file() for name in set(names) - {""}}
    return [place / name if there.get(name) else None for name in names], looked


@dataclass(frozen=True)
class _Layer:
    """What the rows of a layer's arrays are."""

    folder: Path
    images: Sequence[str]
    files: Sequence[Path | None]
    maps: np.ndarray | None
    view: View | None
    arrays: Mapping[str, np.ndarray]
    categories: Sequence[str]
    counts: Mapping[str, int]

    def more(self, unit: int) -> dict[str, Any]:
        """Give what is known of a unit beside its row of ``units.csv``."""
        here = {name: array[unit] for name, array in self.arrays.items()}
        near = zip(
            here["neighbour_layer"], here["neighbours"], here["neighbour_correlation"], strict=True
        )
        maps = None if self.maps is None else self.maps[unit]
        return {
            "top": self._seen(here["top"], here["top_position"], here["top_peak"], maps),
            "bottom": self._seen(here["bottom"], here["bottom_position"]),
            "bins": list(self._bins(here)),
            "makeup": list(self._makeup(here.get("category_images"))),
            "counts": self.counts,
            "neighbours": [(str(layer), int(n), float(r)) for layer, n, r in near if n >= 0],
            "histogram": Histogram(here["histogram"], here["edges"]),
            "folder": self.folder,
        }

    def _seen(
        self,
        rows: np.ndarray,
        places: np.ndarray,
        peaks: np.ndarray | None = None,
        maps: np.ndarray | None = None,
    ) -> list[Seen]:
        return [
            Seen(
                self.images[row],
                None if peaks is None else float(peaks[rank]),
                (int(places[rank, 0]), int(places[rank, 1])),
                self.files[row],
                self.view,
                None if maps is None or rank >= len(maps) else maps[rank],
            )
            for rank, row in enumerate(rows.tolist())
            if row >= 0
        ]

    def _makeup(self, images: np.ndarray | None) -> Iterator[tuple[str, int]]:
        if images is None:
            return
        order = np.argsort(-images.astype(int), kind="stable")
        for kind in order[images[order] > 0].tolist():
            yield self.categories[kind], int(images[kind])

    def _bins(self, here: Mapping[str, np.ndarray]) -> Iterator[Bin]:
        edges, counts = here["bin_edges"].tolist(), here["bin_images"].tolist()
        every = max(1, sum(counts))
        for bin, (low, high) in enumerate(itertools.pairwise(edges)):
            examples = self._seen(here["examples"][bin], here["example_position"][bin])
            yield Bin(low, high, counts[bin], counts[bin] / every, examples)


# -- writing ---------------------------------------------------------------------------------------


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

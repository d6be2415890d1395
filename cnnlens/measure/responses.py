"""What is found of each unit of a layer, and of all: rows, arrays, a summary, tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.errors import plain
from cnnlens.settings import UnitsSettings


@dataclass(frozen=True)
class UnitResponse:
    """What a unit responds to, in one row.

    Attributes
    ----------
    unit : int
        Counted from 0.
    dead : bool
        Never above 0 on this data.
    density : float
        The share of its N·H·W values above 0.
    mean : float
        Of all of them.
    peak_max : float
        The highest; a peak is the largest value on an image.
    top_image : str
        Where it is that high.
    category : str
        The most frequent one among the images of its 100 highest peaks (all, where there are
        fewer); of equally frequent ones that of the higher peak; empty where there are none.
    category_share, category_entropy : float or None
        Its share among them, and the entropy of the categories there in bits.
    class_selectivity : float or None
        (m₁ − m̄)/(m₁ + m̄) of the categories' mean activations, m₁ the largest, m̄ the mean of the
        others; None where one of the means is negative, or all are 0.
    neighbour : str
        The unit most alike, as an address: ``conv5:12``; empty where there is none.
    neighbour_correlation : float or None
        Pearson's correlation of the peaks of both over the images.
    """

    unit: int
    dead: bool
    density: float
    mean: float
    peak_max: float
    top_image: str
    category: str
    category_share: float | None
    category_entropy: float | None
    class_selectivity: float | None
    neighbour: str
    neighbour_correlation: float | None

    @property
    def chance(self) -> float | None:
        """The share of its category among all images; None where that is not known."""
        return None


@dataclass(frozen=True, eq=False)
class Responses:
    """What the units of a layer respond to. Rows are images in the order they were read in.

    Attributes
    ----------
    settings : UnitsSettings
        As asked.
    positions : numpy.ndarray
        (N,) int64: each row's place in the data's order.
    shape : (int, int, int)
        (C, H, W).
    repeated : numpy.ndarray
        (R,) int64: rows whose image was there before, pixel by pixel; no list holds them.
    density, mean, lowest, peak_max : numpy.ndarray
        (C,): share of values above 0, mean of all, lowest and highest peak.
    top, bottom : numpy.ndarray
        (C, k) int64 rows by peak, -1 where there are fewer.
    top_peak : numpy.ndarray
        (C, k) float32; NaN where there are fewer.
    top_position, bottom_position : numpy.ndarray
        (C, k, 2) int64: row and column of each peak.
    examples : numpy.ndarray
        (C, bins, per-bin) int64 rows over the whole range, -1 where there are fewer.
    example_position : numpy.ndarray
        (C, bins, per-bin, 2) int64.
    bin_images, bin_edges : numpy.ndarray
        (C, bins) int64, images whose peak lies in each bin; (C, bins + 1) float64.
    histogram, edges : numpy.ndarray
        (C, b) int64, all values; (C, b + 1) float64.
    categories : tuple of str
        Of the data; empty where it has none.
    category_counts : numpy.ndarray
        (K,) int64: how many of all images are of each category, equal ones once, as in the lists.
    category : numpy.ndarray
        (C,) int64, by number; -1 where there are none.
    category_images : numpy.ndarray
        (C, K) uint8: how many images of its 100 highest peaks are of each category.
    category_share, category_entropy, class_selectivity : numpy.ndarray
        (C,) float64, NaN where they are not known.
    layers : tuple of str
        The layers whose units are compared, this one first.
    neighbours, neighbour_layer, neighbour_correlation : numpy.ndarray
        (C, n): units, which of `layers` each is of, and correlations; -1 and NaN where there are
        fewer.
    top_map : numpy.ndarray
        (C, 9, h, w) uint8: maps on the first of the top images, coarsely, 0 where there are fewer;
        15 is the map's peak.
    image_units, image_peak, image_place : numpy.ndarray
        (N, m), (N, m) and (N, m, 2): the units that come nearest to their highest peaks on each
        image, best first, their peaks and where these are; unit -1 where fewer are above 0.
    skipped : tuple of (path, reason)
        Images that could be read and not measured: none.
    """

    settings: UnitsSettings
    positions: np.ndarray
    shape: tuple[int, int, int]
    repeated: np.ndarray
    density: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    peak_max: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    top_peak: np.ndarray
    top_position: np.ndarray
    bottom_position: np.ndarray
    examples: np.ndarray
    example_position: np.ndarray
    bin_images: np.ndarray
    bin_edges: np.ndarray
    histogram: np.ndarray
    edges: np.ndarray
    categories: tuple[str, ...]
    category_counts: np.ndarray
    category: np.ndarray
    category_images: np.ndarray
    category_share: np.ndarray
    category_entropy: np.ndarray
    class_selectivity: np.ndarray
    layers: tuple[str, ...]
    neighbours: np.ndarray
    neighbour_layer: np.ndarray
    neighbour_correlation: np.ndarray
    top_map: np.ndarray
    image_units: np.ndarray
    image_peak: np.ndarray
    image_place: np.ndarray
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def units(self) -> int:
        """C."""
        return self.shape[0]

    @property
    def dead(self) -> np.ndarray:
        """(C,) bool: never above 0."""
        return ~(self.peak_max > 0)

    def rows(self, paths: Sequence[str]) -> Iterator[UnitResponse]:
        """Give what was found of each unit; `paths` names all images in the data's order."""
        for unit in range(self.units):
            kind, other = int(self.category[unit]), self.neighbours[unit, :1]
            layer = self.layers[self.neighbour_layer[unit, 0]] if other.size else ""
            known = bool(other.size) and other[0] >= 0
            yield UnitResponse(
                unit=unit,
                dead=bool(self.dead[unit]),
                density=float(self.density[unit]),
                mean=float(self.mean[unit]),
                peak_max=float(self.peak_max[unit]),
                top_image=paths[self.positions[self.top[unit, 0]]],
                category=self.categories[kind] if kind >= 0 else "",
                category_share=_known(self.category_share[unit]),
                category_entropy=_known(self.category_entropy[unit]),
                class_selectivity=_known(self.class_selectivity[unit]),
                neighbour=f"{layer}:{other[0]}" if known else "",
                neighbour_correlation=_known(self.neighbour_correlation[unit, 0])
                if known
                else None,
            )

    def summary(self) -> dict[str, Any]:
        """Put the findings into one document, as ``summary.json`` and ``--json`` give them."""
        return {
            "units": self.units,
            "images": len(self.positions),
            "dead_units": int(self.dead.sum()),
            "density": float(self.density.mean()),
            "class_selectivity": _mean(self.class_selectivity),
            "categories": list(self.categories),
            "category_counts": self.category_counts.tolist(),
            "compared_with": list(self.layers),
            "repeated_images": len(self.repeated),
            "settings": self.settings.as_dict(),
        }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


# -- units and layers beside each other ------------------------------------------------------------

LAYER_COLUMNS = (
    *("layer", "units", "dead", "density", "class selectivity", "images", "compared with"),
)


def layer_row(summary: Mapping[str, Any]) -> list[object]:
    """Give a layer's row under `LAYER_COLUMNS`, from its summary."""
    selective, others = summary["class_selectivity"], ", ".join(summary["compared_with"][1:])
    density = round(summary["density"], 4)
    selective = None if selective is None else round(selective, 4)
    named = summary["layer"], summary["units"], summary["dead_units"]
    return [*named, density, selective, summary["images"], others]


def _share(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


def unit_table(units: Sequence[UnitResponse]) -> tuple[list[str], list[list[object]]]:
    """Give columns and rows of a table of units; their category where they have one."""
    heads = ["unit", "peak", "above 0", "top image"]
    rows: list[list[object]] = [
        [u.unit, plain(u.peak_max), f"{u.density:.1%}", u.top_image] for u in units
    ]
    if any(unit.category for unit in units):
        heads += ["category", "of its top", "of all"]
        kinds = [(u.category, f"{u.category_share or 0:.0%}", _share(u.chance)) for u in units]
        rows = [[*row, *kind] for row, kind in zip(rows, kinds, strict=True)]
    heads += ["responds like", "r"]
    near = [(u.neighbour, u.neighbour_correlation) for u in units]
    rows = [[*row, n, r and round(r, 3)] for row, (n, r) in zip(rows, near, strict=True)]
    return heads, rows

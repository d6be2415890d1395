"""What every unit responds to, from any images: its highest and lowest, examples over its whole
range, how its values spread, which categories excite it, and which units are like it.

The highest activations carry little of a unit's effect on the output (Oikarinen and Weng, "Linear
Explanations for Individual Neurons", ICML 2024), so the whole range is shown; and natural examples
serve people better than optimized images (Borowski et al. 2020).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.activations.sources import Source, StoreSource
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.measure.unit_lists import bin_edges, draw, highest, nearest_units, repeats
from cnnlens.measure.unit_sweep import Peaks, UnitSweep, beside
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import Step, followed
from cnnlens.settings import UnitsSettings

AMONG = 100  # highest peaks that say which category excites a unit


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
    category : numpy.ndarray
        (C,) int64, by number; -1 where there are none.
    category_share, category_entropy, class_selectivity : numpy.ndarray
        (C,) float64, NaN where they are not known.
    layers : tuple of str
        The layers whose units are compared, this one first.
    neighbours, neighbour_layer, neighbour_correlation : numpy.ndarray
        (C, n): units, which of `layers` each is of, and correlations; -1 and NaN where there are
        fewer.
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
    category: np.ndarray
    category_share: np.ndarray
    category_entropy: np.ndarray
    class_selectivity: np.ndarray
    layers: tuple[str, ...]
    neighbours: np.ndarray
    neighbour_layer: np.ndarray
    neighbour_correlation: np.ndarray
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
            "compared_with": list(self.layers),
            "repeated_images": len(self.repeated),
            "settings": self.settings.as_dict(),
        }


def units(
    source: Source,
    data: ImageSet,
    settings: UnitsSettings | None = None,
    names: Sequence[str] = (),
    others: Source | None = None,
    preprocess: Preprocess | None = None,
    progress: Callable[[Step], None] | None = None,
) -> list[Responses]:
    """Find what the units of some layers respond to, in one sweep over their activations.

    Parameters
    ----------
    source : Source
        Activations of the layers over `data`.
    data : ImageSet
        The images, and their categories where they have some.
    settings : UnitsSettings, optional
        How many images are listed; the seed of the examples.
    names : sequence of str, optional
        Of the layers, then of the others; left out: numbers.
    others : Source, optional
        Further layers over the same images, whose units may be neighbours.
    preprocess : Preprocess, optional
        How images become input: of equal ones only the first is listed. Left out: all are.
    progress : callable, optional
        Called often with a Step.

    Returns
    -------
    list of Responses
        One per layer.

    Raises
    ------
    CnnlensError
        When an activation is not finite.
    """
    steps = units_steps(source, data, settings or UnitsSettings(), names, others, preprocess)
    return followed(steps, progress)


def units_steps(
    source: Source,
    data: ImageSet,
    settings: UnitsSettings,
    names: Sequence[str] = (),
    others: Source | None = None,
    preprocess: Preprocess | None = None,
    folder: Path | None = None,
) -> Generator[Step, None, list[Responses]]:
    """Do what `units` does, step by step; tables beyond memory are kept in `folder`."""
    categories = tuple(sorted(set(data.image_categories or ())))
    number = {name: index for index, name in enumerate(categories)}
    labels = np.array([number[name] for name in data.image_categories or ()], np.int64)
    sweeps = [
        UnitSweep(limit, shape, labels if categories else None, folder)
        for limit, shape in zip(source.limits, source.shapes, strict=True)
    ]
    with beside(sweeps) if isinstance(source, StoreSource) else nullcontext(sweeps) as observers:
        for step in source.sweep(observers):
            yield replace(step, stage="responses")
    tables: list[Peaks] = [*sweeps]
    if others is not None:
        pairs = zip(others.limits, others.shapes, strict=True)
        more = [Peaks(limit, shape[0], folder) for limit, shape in pairs]
        for step in others.sweep(more):
            yield replace(step, stage="peaks of other layers")
        tables += more
    known = list(names) or [str(number) for number in range(len(tables))]
    total = sum(sweep.values.shape[1] for sweep in sweeps)
    twice = _repeated(sweeps[0], data, preprocess)
    found: list[Responses] = []
    for place, sweep in enumerate(sweeps):
        yield Step(sum(one.units for one in found), total, "lists and neighbours", unit="units")
        same = [k for k, t in enumerate(tables) if np.array_equal(t.positions, sweep.positions)]
        order = [place, *(k for k in same if k != place)]
        near = nearest_units([tables[k].values for k in order], settings.neighbours)
        layers = tuple(known[k] for k in order)
        found.append(_responses(sweep, settings, twice, labels, categories, layers, near))
    return found


def _repeated(sweep: UnitSweep, data: ImageSet, preprocess: Preprocess | None) -> np.ndarray:
    """(N,) bool: rows whose image was there before."""
    if preprocess is None:
        return np.zeros(sweep.images, bool)

    def pixels(row: int) -> np.ndarray:
        try:
            return data.pixels(int(sweep.positions[row]), preprocess)
        except DamagedImage:  # it is gone since: like no other
            return np.array([row])

    return repeats(sweep.values, pixels)


def _responses(
    sweep: UnitSweep,
    settings: UnitsSettings,
    twice: np.ndarray,
    labels: np.ndarray,
    categories: tuple[str, ...],
    layers: tuple[str, ...],
    near: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Responses:
    peaks, rows = sweep.values, np.flatnonzero(~twice)
    among = None if len(rows) == len(peaks) else rows
    first = highest(peaks, max(settings.top, AMONG), among)
    top, bottom = first[:, : settings.top], highest(peaks, settings.top, among, lowest=True)
    order = np.random.default_rng(settings.seed).permutation(len(peaks))
    order = order[~twice[order]]
    edges = bin_edges(peaks, settings.bins)
    examples, counts = draw(peaks, edges, settings.per_bin, order)
    values = sweep.images * sweep.size[0] * sweep.size[1]
    kinds = _categories(first[:, :AMONG], labels[sweep.positions] if categories else None)
    every = np.arange(peaks.shape[1])[:, None]
    return Responses(
        settings=settings,
        positions=sweep.positions.copy(),
        shape=(peaks.shape[1], *sweep.size),
        repeated=np.flatnonzero(twice),
        density=sweep.positive / values,
        mean=sweep.total / values,
        lowest=np.asarray(peaks.min(axis=0)),
        peak_max=np.asarray(peaks.max(axis=0)),
        top=top,
        bottom=bottom,
        top_peak=np.where(top >= 0, peaks[np.maximum(top, 0), every], np.float32(np.nan)),
        top_position=sweep.places(top),
        bottom_position=sweep.places(bottom),
        examples=examples,
        example_position=sweep.places(examples),
        bin_images=counts,
        bin_edges=edges,
        histogram=sweep.histogram,
        edges=sweep.edges,
        categories=categories,
        category=kinds[0],
        category_share=kinds[1],
        category_entropy=kinds[2],
        class_selectivity=_selectivity(sweep),
        layers=layers,
        neighbours=near[0],
        neighbour_layer=near[1],
        neighbour_correlation=near[2],
    )


def _categories(
    rows: np.ndarray, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each unit's category among the images (C, 100) of its highest peaks, share and entropy."""
    units = len(rows)
    best = np.full(units, -1, np.int64)
    share, entropy = np.full(units, np.nan), np.full(units, np.nan)
    for unit in range(0 if labels is None else units):
        assert labels is not None
        met = Counter(labels[rows[unit][rows[unit] >= 0]].tolist())
        best[unit], most = met.most_common(1)[0]  # of equal ones the first met
        parts = np.array(sorted(met.values())) / met.total()
        share[unit], entropy[unit] = most / met.total(), max(0.0, -(parts * np.log2(parts)).sum())
    return best, share, entropy


def _selectivity(sweep: UnitSweep) -> np.ndarray:
    """(C,) float64: how far the highest mean of a category stands out; NaN where it cannot."""
    there = sweep.in_category > 0
    if there.sum() < 2:
        return np.full(len(sweep.total), np.nan)
    cells = sweep.size[0] * sweep.size[1]
    means = sweep.by_category[there] / (sweep.in_category[there, None] * cells)  # (K, C)
    most = means.max(axis=0)
    rest = (means.sum(axis=0) - most) / (len(means) - 1)
    fits = (means.min(axis=0) >= 0) & (most > 0)
    rest = np.maximum(rest, 0)  # a sum less its own part may fall below 0 by rounding
    return np.where(fits, (most - rest) / np.where(fits, most + rest, 1), np.nan)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None

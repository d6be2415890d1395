"""What every unit responds to, from any images: its highest and lowest, examples over its whole
range, how its values spread, which categories excite it, and which units are like it.

The highest activations carry little of a unit's effect on the output (Oikarinen and Weng, "Linear
Explanations for Individual Neurons", ICML 2024), so the whole range is shown; and natural examples
serve people better than optimized images (Borowski et al. 2020).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.activations.shared import SharedSource
from cnnlens.activations.sources import Source, StoreSource
from cnnlens.data.dataset import ImageSet
from cnnlens.distributed import ALL
from cnnlens.measure.distinct import pixels
from cnnlens.measure.image_tables import Peaks
from cnnlens.measure.responses import Responses
from cnnlens.measure.unit_lists import bin_edges, by_unit, draw, highest, nearest_units, repeats
from cnnlens.measure.unit_maps import SHOWN, fill_late, strongest
from cnnlens.measure.unit_sweep import UnitSweep, beside
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import Step, followed
from cnnlens.settings import UnitsSettings

AMONG = 100  # highest peaks that say which category excites a unit


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
    """Do what `units` does, step by step; tables beyond memory are kept in `folder`.

    Returned is nothing where this is not the first of the processes that share the sources.
    """
    share = source.share if isinstance(source, SharedSource) else ALL
    categories, labels = _labels(data)
    sweeps = [
        UnitSweep(limit, shape, labels if categories else None, folder)
        for limit, shape in zip(_held(source), source.shapes, strict=True)
    ]
    with beside(sweeps) if _is_stored(source) else nullcontext(sweeps) as observers:
        for step in source.sweep(observers):
            yield replace(step, stage="responses")
    tables: list[Peaks] = [*sweeps]
    if others is not None:
        pairs = zip(_held(others), others.shapes, strict=True)
        more = [Peaks(limit, shape[0], folder) for limit, shape in pairs]
        for step in others.sweep(more):
            yield replace(step, stage="peaks of other layers")
        tables += more
    known = list(names) or [str(number) for number in range(len(tables))]
    found: list[Responses] = []
    if share.leads:
        twice = _repeated(sweeps[0], data, preprocess)
        kinds = labels, categories
        found = yield from _listed(sweeps, tables, known, settings, twice, *kinds)
    for _ in share.wait():
        yield Step(0, 1, "lists and neighbours", unit="units")
    lacking = share.from_first(lambda: [_lacking(*p) for p in zip(sweeps, found, strict=True)])
    maps = [one.top_map for one in found]
    if not share.leads:
        maps = [one.maps.of(np.full_like(p, -1)) for one, p in zip(sweeps, lacking, strict=True)]
    yield from fill_late(source, lacking, maps)
    return found


def _listed(
    sweeps: Sequence[UnitSweep],
    tables: Sequence[Peaks],
    names: Sequence[str],
    settings: UnitsSettings,
    twice: np.ndarray,
    labels: np.ndarray,
    categories: tuple[str, ...],
) -> Generator[Step, None, list[Responses]]:
    """Make the lists of the first layers of `tables`, which have names."""
    total = sum(one.units for one in sweeps)
    found: list[Responses] = []
    for place, sweep in enumerate(sweeps):
        yield Step(sum(one.units for one in found), total, "lists and neighbours", unit="units")
        same = [k for k, t in enumerate(tables) if np.array_equal(t.positions, sweep.positions)]
        # by name, so that equal correlations come in the same order whatever was named first
        others_in_order = sorted((k for k in same if k != place), key=lambda k: (names[k], k))
        near = [(names[k], tables[k].values) for k in (place, *others_in_order)]
        found.append(_responses(sweep, settings, twice, labels, categories, near))
    yield Step(total, total, "lists and neighbours", unit="units")
    return found


def _labels(data: ImageSet) -> tuple[tuple[str, ...], np.ndarray]:
    """Give the categories of the data, and (N,) the number of each image's, where it has some."""
    categories = tuple(sorted(set(data.image_categories or ())))
    number = {name: index for index, name in enumerate(categories)}
    return categories, np.array([number[name] for name in data.image_categories or ()], np.int64)


def _held(source: Source) -> Sequence[int]:
    """Say of how many images, at most, this process is to have tables, layer by layer."""
    return source.held if isinstance(source, SharedSource) else source.limits


def _is_stored(source: Source) -> bool:
    return source.stored if isinstance(source, SharedSource) else isinstance(source, StoreSource)


def _lacking(sweep: UnitSweep, found: Responses) -> np.ndarray:
    """(C, k) positions of those top images whose maps were not kept, -1 elsewhere."""
    rows = sweep.maps.lacks(found.top[:, :SHOWN])
    return np.where(rows >= 0, sweep.positions[np.maximum(rows, 0)], -1)


def _repeated(sweep: UnitSweep, data: ImageSet, preprocess: Preprocess | None) -> np.ndarray:
    """(N,) bool: rows whose image was there before."""
    if preprocess is None:
        return np.zeros(sweep.images, bool)

    return repeats(sweep.values, lambda row: pixels(data, sweep.positions[row], preprocess))


def _responses(
    sweep: UnitSweep,
    settings: UnitsSettings,
    twice: np.ndarray,
    labels: np.ndarray,
    categories: tuple[str, ...],
    layers: Sequence[tuple[str, np.ndarray]],
) -> Responses:
    """Make a layer's lists from its sweep, `twice` left out, and from the peaks of all layers."""
    peaks = sweep.values
    edges = bin_edges(peaks, settings.bins)
    spread = _spread(sweep)
    with ThreadPoolExecutor(1) as pool:
        alike = pool.submit(nearest_units, [p for _, p in layers], settings.neighbours)
        first, bottom, examples, counts = _lists(peaks, edges, settings, twice)
        best, best_peak = strongest(peaks, spread["density"])
        near = alike.result()
    return Responses(
        settings=settings,
        positions=sweep.positions.copy(),
        shape=(peaks.shape[1], *sweep.size),
        repeated=np.flatnonzero(twice),
        **spread,
        **_ends(sweep, first[:, : settings.top], bottom),
        examples=examples,
        example_position=sweep.places(examples),
        bin_images=counts,
        bin_edges=edges,
        **_categories(sweep, first[:, :AMONG], twice, labels, categories),
        layers=tuple(name for name, _ in layers),
        neighbours=near[0],
        neighbour_layer=near[1],
        neighbour_correlation=near[2],
        image_units=best,
        image_peak=best_peak,
        image_place=sweep.places_on_images(best),
    )


def _spread(sweep: UnitSweep) -> dict[str, Any]:
    """How the values of each unit spread over all places of all images."""
    values = sweep.images * sweep.size[0] * sweep.size[1]
    return {
        "density": sweep.positive / values,
        "mean": sweep.total / values,
        "lowest": np.asarray(sweep.values.min(axis=0)),
        "peak_max": np.asarray(sweep.values.max(axis=0)),
        "histogram": sweep.histogram,
        "edges": sweep.edges,
    }


def _ends(sweep: UnitSweep, top: np.ndarray, bottom: np.ndarray) -> dict[str, Any]:
    """Rows of the highest and lowest peaks (C, k), where these are, how high, and maps of some."""
    every = np.arange(len(top))[:, None]
    peaks = sweep.values[np.maximum(top, 0), every]
    return {
        "top": top,
        "bottom": bottom,
        "top_peak": np.where(top >= 0, peaks, np.float32(np.nan)),
        "top_position": sweep.places(top),
        "bottom_position": sweep.places(bottom),
        "top_map": sweep.maps.of(top[:, :SHOWN]),
    }


def _lists(
    peaks: np.ndarray, edges: np.ndarray, settings: UnitsSettings, twice: np.ndarray
) -> Iterable[np.ndarray]:
    """List each unit's highest and lowest, examples, and how many rows its bins have."""
    order = np.random.default_rng(settings.seed).permutation(len(peaks))
    order = order[~twice[order]]
    rows = np.flatnonzero(~twice) if twice.any() else None
    found = [
        (
            highest(own, max(settings.top, AMONG), rows),
            highest(-own, settings.top, rows),
            *draw(own, edges[units], settings.per_bin, order),
        )
        for units, own in by_unit(peaks)
    ]
    return (np.concatenate(part) for part in zip(*found, strict=True))


def _categories(
    sweep: UnitSweep,
    rows: np.ndarray,
    twice: np.ndarray,
    labels: np.ndarray,
    categories: tuple[str, ...],
) -> dict[str, Any]:
    """Which categories excite each unit; `rows` (C, 100) are those of its highest peaks."""
    own = labels[sweep.positions] if categories else labels
    once = own[~twice] if categories else own  # equal images count once, as in the lists
    best, images, share, entropy = _most_frequent(rows, own, len(categories))
    return {
        "categories": categories,
        "category_counts": np.bincount(once, minlength=len(categories))[: len(categories)],
        "category": best,
        "category_images": images,
        "category_share": share,
        "category_entropy": entropy,
        "class_selectivity": _selectivity(sweep),
    }


def _most_frequent(
    rows: np.ndarray, labels: np.ndarray, kinds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each unit's category among the images (C, 100) of its highest peaks, how many of them are of
    each of some kinds (C, K), share and entropy.
    """
    units = len(rows)
    best, images = np.full(units, -1, np.int64), np.zeros((units, kinds), np.uint8)
    share, entropy = np.full(units, np.nan), np.full(units, np.nan)
    for unit in range(units if kinds else 0):
        met = Counter(labels[rows[unit][rows[unit] >= 0]].tolist())
        best[unit], most = met.most_common(1)[0]  # of equal ones the first met
        images[unit, list(met)] = list(met.values())
        parts = np.array(sorted(met.values())) / met.total()
        share[unit], entropy[unit] = most / met.total(), max(0.0, -(parts * np.log2(parts)).sum())
    return best, images, share, entropy


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

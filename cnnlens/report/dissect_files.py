"""``WORKSPACE/dissect/<layer>``: its files, written and read back.

units.csv, concepts.csv, scores.h5, top.csv, distributions.h5, summary.json, pictures/. Of what is
read every file but the summary and the units may be missing, none may be damaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from cnnlens.errors import CnnlensError
from cnnlens.files import read_csv, write_csv, write_json
from cnnlens.measure.dissection import Detectors, Dissection
from cnnlens.model.layers import file_name
from cnnlens.report.contents import finished, finite, in_order, read_object, reading
from cnnlens.report.shown import Fact, Picture, Shown

_WITHIN = ("label", "iou")
_REDO = "redo `cnnlens dissect` with --force"
T = TypeVar("T")


@dataclass(frozen=True)
class Best:
    """A unit's best concept within one category."""

    label: str
    category: str
    iou: float


@dataclass(frozen=True)
class TopImage:
    """One row of ``top.csv``: an image that excites a unit, and its peak activation."""

    image: str
    peak: float | None


@dataclass(frozen=True, eq=False)
class Histogram:
    """A unit's activations: counts per bin and the bins' edges, one more than counts."""

    counts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True, eq=False)
class Unit(Shown):
    """One row of ``units.csv``, its numbers digit by digit, and what else is known of the unit.

    Attributes
    ----------
    unit : int
        Counted from 0.
    threshold : float or None
        Activations above it make the unit's mask.
    label, category : str
        Its best concept; empty where nothing overlaps.
    iou : float
        With that concept.
    is_detector : bool
        Whether the IoU reaches the limit.
    p_value : float or None
        Share of shuffled units that reach this IoU.
    by_category : tuple of Best
        Its best concept within each category.
    top : tuple of TopImage
        Images that excite it most, best first.
    histogram : Histogram or None
        Of its activations.
    picture : pathlib.Path or None
        Its top images side by side.
    """

    unit: int
    threshold: float | None
    label: str
    category: str
    iou: float
    is_detector: bool
    p_value: float | None
    by_category: tuple[Best, ...] = ()
    top: tuple[TopImage, ...] = ()
    histogram: Histogram | None = None
    picture: Path | None = None

    @property
    def words(self) -> str:
        """What it detects, for people."""
        sure = "" if self.p_value is None else f", p {self.p_value:.2g}"
        kind = f" ({self.category})" if self.category else ""
        return f"unit {self.unit}: {self.label or 'no concept'}{kind}, IoU {self.iou:.3f}{sure}"

    def table(self) -> list[dict[str, Any]]:
        """Give its row of ``units.csv``."""
        names = ("unit", "threshold", "label", "category", "iou", "is_detector")
        within = {f"{b.category}_{k}": getattr(b, k) for b in self.by_category for k in _WITHIN}
        return [{**{n: getattr(self, n) for n in names}, **within, "p_value": self.p_value}]

    def _title(self) -> str:
        return self.words

    def _facts(self) -> Iterable[Fact]:
        return [(f"best {b.category}", f"{b.label} {b.iou:.3f}", "") for b in self.by_category]

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [("", self.picture)] if self.picture else []


@dataclass(frozen=True)
class Concept:
    """One row of ``concepts.csv``."""

    label: str
    category: str
    pixels: int | None = None
    images: int | None = None
    best_unit: int | None = None
    best_iou: float | None = None


@dataclass(frozen=True, eq=False)
class DissectResult(Shown):
    """Everything dissect found on one layer; ``found[12]`` is its unit 12.

    Attributes
    ----------
    name : str
        The layer as it was typed.
    folder : pathlib.Path
        ``WORKSPACE/dissect/<layer>``.
    summary : dict
        ``summary.json``.
    categories : list of str
        In the data's order.
    units, concepts : list
        Rows of ``units.csv`` and ``concepts.csv``.
    scores : numpy.ndarray or None
        (units, concepts) float32: every IoU, in the order of `units` and `concepts`.
    """

    name: str
    folder: Path
    summary: dict[str, Any]
    categories: list[str]
    units: list[Unit]
    concepts: list[Concept]
    scores: np.ndarray | None

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, unit: int) -> Unit:
        return self.units[unit]

    @cached_property
    def iou(self) -> np.ndarray:
        """(C,) float64: each unit's best IoU."""
        return np.array([unit.iou for unit in self.units])

    @property
    def labels(self) -> list[str]:
        """Each unit's best concept; empty where nothing overlaps."""
        return [unit.label for unit in self.units]

    @property
    def is_detector(self) -> np.ndarray:
        """(C,) bool: whether the best IoU reaches the limit."""
        return np.array([unit.is_detector for unit in self.units], bool)

    @property
    def p_value(self) -> np.ndarray:
        """(C,) float64: NaN where chance was not computed."""
        return np.array([np.nan if u.p_value is None else u.p_value for u in self.units])

    def best(self, count: int | None = None) -> list[Unit]:
        """List the units of highest IoU; ties go to the lower number."""
        return sorted(self.units, key=lambda unit: (-unit.iou, unit.unit))[:count]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per unit, the columns of ``units.csv``."""
        return [row for unit in self.units for row in unit.table()]

    def _title(self) -> str:
        return f"What the units of {self.name} detect"

    def _facts(self) -> Iterable[Fact]:
        chance = self.summary.get("chance") or {}
        yield "units", str(len(self)), ""
        for key, digits in (("detectors", 1), ("unique_detectors", 1), ("mean_iou", 4)):
            value, by_chance = self.summary.get(key), chance.get(key)
            shown = "–" if value is None else f"{value:.{digits if key == 'mean_iou' else 0}f}"
            words = "" if by_chance is None else f"{by_chance:.{digits}f}"
            yield key.replace("_", " "), shown, words

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(unit.words, unit.picture) for unit in self.best(12)]


# -- reading -------------------------------------------------------------------------------------


def read_dissections(workspace: Path) -> list[DissectResult]:
    """Read every dissected layer, in the workspace's order, then by name.

    A folder without ``summary.json`` is not finished and is left out.

    Raises
    ------
    CnnlensError
        Naming the file that is damaged.
    """
    folders = in_order(workspace, finished(workspace, "dissect"))
    return [read_dissection(folder) for folder in folders]


def labels(workspace: Path, layer: str) -> dict[int, tuple[str, str, float]]:
    """Look up what the detectors of a layer detect.

    Returns
    -------
    dict of int to (str, str, float)
        Unit to label, category and IoU; empty where the layer has not been dissected.

    Raises
    ------
    CnnlensError
        When the table is damaged.
    """
    path = workspace / "dissect" / file_name(layer) / "units.csv"
    units = _units(path, []) if path.exists() else []
    return {u.unit: (u.label, u.category, u.iou) for u in units if u.is_detector}


def detected(workspace: Path, layer: str) -> dict[int, str]:
    """Say what each detector of a layer detects: ``hair, IoU 0.24`` (see `labels`)."""
    found = labels(workspace, layer)
    return {unit: f"{label}, IoU {iou:.2f}" for unit, (label, _, iou) in found.items()}


def read_dissection(folder: Path) -> DissectResult:
    """Read the files of one layer.

    Raises
    ------
    CnnlensError
        Naming the file that is damaged.
    """
    summary = read_object(folder / "summary.json", redo=_REDO)
    _check(folder / "summary.json", summary)
    named = summary.get("categories") or summary.get("per_category") or []
    units = _units(folder / "units.csv", [str(name) for name in named])
    if summary.get("units") not in (None, len(units)):
        raise CnnlensError(f"{folder / 'units.csv'} is damaged: it has {len(units)} rows", _REDO)
    concepts, scores = _rows(folder / "concepts.csv", _concept, ("label", "category")), None
    if (folder / "scores.h5").exists():
        scores, concepts = _scores(folder / "scores.h5", units, concepts)
    met = [*named, *(best.category for unit in units for best in unit.by_category)]
    met += [*(unit.category for unit in units), *(concept.category for concept in concepts)]
    return DissectResult(
        name=str(summary.get("layer") or folder.name),
        folder=folder,
        summary=summary,
        categories=[str(name) for name in dict.fromkeys(met) if name],
        units=_with_more(folder, units),
        concepts=concepts,
        scores=scores,
    )


_NUMBERS = (
    "units", "images", "detectors", "unique_detectors", "quantile", "min_iou",
    "ratio_unique_detectors", "mean_iou",
)  # fmt: skip


def _check(path: Path, summary: dict[str, Any]) -> None:
    """Refuse a summary that has something else where people expect a number."""
    with reading(path, _REDO):
        for part in (summary, summary.get("chance") or {}):
            for found in (part, *(part.get("per_category") or {}).values()):
                for key in _NUMBERS:
                    value = found.get(key)
                    number = isinstance(value, (int, float)) and not isinstance(value, bool)
                    if value is not None and not (number and math.isfinite(value)):
                        raise ValueError(f"{key} is {value!r}, not a number")


def _rows(path: Path, read: Callable[[dict[str, str]], T], columns: tuple[str, ...]) -> list[T]:
    """Read the rows of a table; none where there is no such file."""
    result = []
    for number, row in enumerate(read_csv(path, columns) if path.exists() else [], start=2):
        try:  # line 1 is the header
            result.append(read(row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CnnlensError(f"{path} is damaged: line {number}: {error!r}", _REDO) from error
    return result


def _units(path: Path, categories: list[str]) -> list[Unit]:
    """Read ``units.csv``: the one place that does."""

    def read(row: dict[str, str]) -> Unit:
        flag = row["is_detector"].lower()
        if flag not in ("true", "false"):
            raise ValueError(f"is_detector is {flag!r}")
        known = [name.removesuffix("_label") for name in row if name and name.endswith("_label")]
        names = dict.fromkeys([*categories, *(n for n in known if f"{n}_iou" in row)])
        found = [(row.get(f"{n}_label"), n, finite(row.get(f"{n}_iou")) or 0.0) for n in names]
        return Unit(
            unit=int(row["unit"]),
            threshold=finite(row.get("threshold")),
            label=row["label"],
            category=row["category"],
            iou=finite(row["iou"]) or 0.0,
            is_detector=flag == "true",
            p_value=finite(row.get("p_value")),
            by_category=tuple(Best(label, name, iou) for label, name, iou in found if label),
        )

    if not path.exists():
        raise CnnlensError(f"{path} does not exist", "redo the command with --force")
    return _rows(path, read, ("unit", "label", "category", "iou", "is_detector"))


def _with_more(folder: Path, units: list[Unit]) -> list[Unit]:
    """Add each unit's top images, its histogram and its picture."""
    top, histograms = _top(folder / "top.csv"), _histograms(folder / "distributions.h5", units)
    pictures = {path.stem: path for path in (folder / "pictures").glob("*.webp")}
    return [
        replace(
            unit,
            top=tuple(top.get(unit.unit, ())),
            histogram=histograms.get(unit.unit),
            picture=pictures.get(str(unit.unit)),
        )
        for unit in units
    ]


def _whole(value: str | None) -> int | None:
    return int(value) if value else None


def _concept(row: dict[str, str]) -> Concept:
    pixels, images, unit = (_whole(row.get(key)) for key in ("pixels", "images", "best_unit"))
    best = finite(row.get("best_iou"))
    return Concept(row["label"], row["category"], pixels, images, unit, best)


def _top(path: Path) -> dict[int, list[TopImage]]:
    def read(row: dict[str, str]) -> tuple[int, int, TopImage]:
        return int(row["unit"]), int(row["rank"]), TopImage(row["image"], finite(row.get("peak")))

    found: dict[int, list[TopImage]] = {}
    rows = _rows(path, read, ("unit", "rank", "image"))
    for unit, _, image in sorted(rows, key=lambda row: row[:2]):
        found.setdefault(unit, []).append(image)
    return found


def _datasets(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            return {name: file[name][()] for name in names if name in file}
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise CnnlensError(f"{path} is damaged: {error}", _REDO) from error


def _scores(
    path: Path, units: list[Unit], concepts: list[Concept]
) -> tuple[np.ndarray, list[Concept]]:
    data = _datasets(path, ("iou", "unit", "concept"))
    if set(data) != {"iou", "unit", "concept"}:
        raise CnnlensError(f"{path} is damaged: it lacks iou, unit or concept", _REDO)
    names = [
        n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in data["concept"]
    ]
    if data["iou"].shape != (len(data["unit"]), len(names)):
        raise CnnlensError(f"{path} is damaged: its shapes do not fit", _REDO)
    if not concepts:
        parts = [name.partition(":") for name in names]
        concepts = [Concept(label, category) for category, _, label in parts]
    row_of = {int(unit): index for index, unit in enumerate(data["unit"])}
    column_of = {name: index for index, name in enumerate(names)}
    try:
        rows = [row_of[unit.unit] for unit in units]
        columns = [column_of[f"{concept.category}:{concept.label}"] for concept in concepts]
    except KeyError as error:
        raise CnnlensError(f"{path} does not fit its tables: {error} is missing", _REDO) from None
    return data["iou"][np.ix_(rows, columns)], concepts


def _histograms(path: Path, units: list[Unit]) -> dict[int, Histogram]:
    if not path.exists():
        return {}
    data = _datasets(path, ("histogram", "edges", "unit"))
    counts, edges = data.get("histogram"), data.get("edges")
    numbers = [int(n) for n in data.get("unit", [unit.unit for unit in units])]
    shape = None if edges is None else (len(numbers), edges.shape[-1] - 1)
    if counts is None or edges is None or counts.shape != shape or len(edges) != len(numbers):
        raise CnnlensError(f"{path} is damaged: its shapes do not fit", _REDO)
    return {n: Histogram(counts[row], edges[row]) for row, n in enumerate(numbers)}


# -- writing -------------------------------------------------------------------------------------


def write_tables(
    folder: Path, dissection: Dissection, summary: dict[str, Any], paths: list[str]
) -> None:
    """Write units.csv, concepts.csv, scores.h5, top.csv, distributions.h5 and summary.json.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder.
    dissection : Dissection
        One layer's.
    summary : dict
        From `summarize`.
    paths : list of str
        Images of the data set, in its order.
    """
    write_units(folder / "units.csv", dissection)
    write_concepts(folder / "concepts.csv", dissection)
    write_scores(folder / "scores.h5", dissection)
    if dissection.top is not None:
        write_top(folder / "top.csv", dissection, paths)
    if dissection.histogram is not None:
        with h5py.File(folder / "distributions.h5", "w") as file:
            file["histogram"] = dissection.histogram.counts
            file["edges"] = dissection.histogram.edges
    write_json(folder / "summary.json", summary)


def summarize(dissection: Dissection, layer: str, **more: Any) -> dict[str, Any]:
    """Put a layer's findings into one document, as ``summary.json`` and ``--json`` give them."""
    found, settings = dissection.detectors, dissection.settings
    summary: dict[str, Any] = {
        "layer": layer,
        "units": dissection.units,
        "images": dissection.images,
        "quantile": settings.quantile,
        "min_iou": settings.min_iou,
        "detectors": found.detectors,
        "unique_detectors": found.unique,
        "unique_detectors_per_category_summed": sum(u for _, u in found.per_category.values()),
        "ratio_unique_detectors": found.unique / dissection.units,
        "mean_iou": found.mean_iou,
        "dead_units": int(dissection.dead.sum()),
        "by_category": _by(found, "by_category"),
        "per_category": _by(found, "per_category"),
    }
    if dissection.chance is not None:
        p_values = dissection.p_values
        summary["chance"] = dissection.chance
        summary["detectors_beyond_chance"] = _beyond_chance(dissection, p_values)
    return {
        **summary,
        "categories": list(dissection.concepts.categories),
        "skipped_labels": [list(pair) for pair in dissection.skipped],
        "settings": settings.as_dict(),
        **more,
    }


def _by(found: Detectors, which: str) -> dict[str, dict[str, int]]:
    pairs = getattr(found, which).items()
    return {name: {"detectors": d, "unique_detectors": u} for name, (d, u) in pairs}


def _beyond_chance(dissection: Dissection, p_values: np.ndarray | None) -> int:
    reached = dissection.best_iou >= dissection.settings.min_iou
    return int((reached & (p_values < 0.05)).sum()) if p_values is not None else 0


def write_units(path: Path, dissection: Dissection) -> None:
    """Write ``units.csv``: one row per unit."""
    concepts = dissection.concepts
    within = [dissection.best_within(c) for c in range(len(concepts.categories))]
    header = ["unit", "threshold", "label", "category", "iou", "is_detector"]
    for category in concepts.categories:
        header += [f"{category}_label", f"{category}_iou"]
    p_values = dissection.p_values
    rows = []
    for unit in range(dissection.units):
        best, score = int(dissection.best[unit]), float(dissection.best_iou[unit])
        name = concepts.names[best] if best >= 0 else None
        detects = name is not None and score >= dissection.settings.min_iou
        row: list[object] = [unit, float(dissection.thresholds[unit])]
        row += [name.label, name.category] if name else ["", ""]
        row += [score, "true" if detects else "false"]
        for winners, scores in within:
            winner = int(winners[unit])
            row += [concepts.names[winner].label if winner >= 0 else "", float(scores[unit])]
        rows.append([*row, float(p_values[unit])] if p_values is not None else row)
    write_csv(path, [*header, "p_value"] if p_values is not None else header, rows)


def write_concepts(path: Path, dissection: Dissection) -> None:
    """Write ``concepts.csv``: how much there is of each concept, and its best unit."""
    scores, concepts = dissection.iou, dissection.concepts
    best = scores.argmax(axis=0)
    rows = [
        (
            concept.label,
            concept.category,
            int(concepts.pixels[k]),
            int(concepts.images[k]),
            int(best[k]) if scores[best[k], k] > 0 else "",
            float(scores[best[k], k]),
        )
        for k, concept in enumerate(concepts.names)
    ]
    write_csv(path, ["label", "category", "pixels", "images", "best_unit", "best_iou"], rows)


def write_scores(path: Path, dissection: Dissection) -> None:
    """Write ``scores.h5``: the table of IoU, units × concepts, with its scales."""
    names = [f"{c.category}:{c.label}" for c in dissection.concepts.names]
    with h5py.File(path, "w") as file:
        iou = file.create_dataset("iou", data=dissection.iou.astype(np.float32))
        file["unit"] = np.arange(dissection.units)
        file.create_dataset("concept", data=names, dtype=h5py.string_dtype())
        for axis, name in enumerate(("unit", "concept")):
            file[name].make_scale(name)
            iou.dims[axis].attach_scale(file[name])
            iou.dims[axis].label = name


def write_top(path: Path, dissection: Dissection, paths: list[str]) -> None:
    """Write ``top.csv``: each unit's top images, their peak, and where on the map it is."""
    top = dissection.top
    assert top is not None
    rows = []
    for unit in range(dissection.units):
        for rank, position in enumerate(top.positions[unit]):
            if position >= 0:
                y, x = np.unravel_index(top.maps[unit, rank].argmax(), top.maps.shape[2:])
                peak = float(top.peaks[unit, rank])
                rows.append((unit, rank, paths[position], peak, int(y), int(x)))
    write_csv(path, ["unit", "rank", "image", "peak", "y", "x"], rows)

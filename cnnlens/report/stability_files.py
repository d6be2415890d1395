"""``WORKSPACE/stability/<layer>``: units.csv and summary.json, written and read back; pictures/ and
where.png, drawn: where units look on an object, a unit on its top images, a layer on all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.data.parts import PartSet
from cnnlens.errors import CnnlensError, counted
from cnnlens.files import atomic
from cnnlens.files.tables import columns, finite, read_rows, write_rows
from cnnlens.measure.stable_units import Stability, UnitStability
from cnnlens.model.alone import Helpers
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Fields
from cnnlens.report import sheet as kit
from cnnlens.report.blocks import number
from cnnlens.report.contents import read_summary
from cnnlens.report.figures import as_seen, new_figure
from cnnlens.report.figures.parts import Mark, add_legend, draw_mark, part_marks, plot_marks
from cnnlens.report.shown import Fact, Picture, Shown, UnitResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REDO = "redo `cnnlens stability` with --force"
_CELL = 128  # pixels: side of one image in a unit's strip
_GAP = 4
_PEAK = (255, 225, 80)
_SHOWN = 12  # categories that the heat map shows


@dataclass(frozen=True, eq=False)
class StabilityUnit(UnitStability, Shown):
    """One row of ``units.csv``; `picture` shows its peaks on its top objects."""

    picture: Path | None = None

    @property
    def words(self) -> str:
        """What was found of it, for people."""
        said = [f"{self.category}: instability {number(self.location_instability, 3)}"]
        if self.p_value is not None:
            said.append(f"p = {number(self.p_value, 2)} against its shuffled places")
        if self.selectivity is not None:
            said.append(f"selectivity {number(self.selectivity, 2)}")
        if self.part_interpretability:
            said.append(f"its mask is the {self.part} in {self.part_interpretability:.0%}")
        elif self.part:
            said.append(f"steadiest from the {self.part}")
        return ", ".join(said) + "."

    def table(self) -> list[dict[str, Any]]:
        """Give its row of ``units.csv``."""
        return [_cells(self)]

    def _title(self) -> str:
        return f"unit {self.unit}, {self.words}"

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [("", self.picture)] if self.picture else []


def _cells(unit: UnitStability) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in columns(UnitStability)} | dict(unit.more)


class StabilityResult(UnitResults[StabilityUnit]):
    """Everything stability found on one layer; ``found[12]`` is its unit 12."""

    @property
    def instability(self) -> np.ndarray:
        """(C,) float64: location instability, NaN for dead units."""
        return self.column("location_instability")

    def best(self, count: int | None = None) -> list[StabilityUnit]:
        """List the steadiest units; dead ones are left out."""
        alive = [unit for unit in self.units if unit.location_instability is not None]
        return sorted(alive, key=lambda unit: unit.location_instability or 0.0)[:count]

    def _title(self) -> str:
        return f"Where the units of {self.name} look on an object"

    def _facts(self) -> Iterable[Fact]:
        shuffled = (self.summary.get("baselines") or {}).get("shuffled")
        masks = (self.summary.get("interpretability") or [{}])[0]
        chance = {
            "location_instability": shuffled,
            "part_interpretability": masks.get("chance"),
            "selectivity": self.summary.get("selectivity_chance"),
        }
        for key, by_chance in chance.items():
            words = "" if by_chance is None else number(by_chance, 3)
            yield key.replace("_", " "), number(self.summary.get(key), 3), words
        yield "dead units", str(self.summary.get("dead_units", "–")), ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(unit._title(), unit.picture) for unit in self.best(12)]


def write_units(path: Path, found: Stability) -> None:
    """Write units.csv: one row per unit, cells of dead units empty."""
    rows = [_cells(unit) for unit in found.rows()]
    write_rows(path, rows[0], rows)


def read_stability(folder: Path) -> StabilityResult:
    """Read what stability left of one layer; a damaged file is named (`CnnlensError`)."""
    (name, summary), file = read_summary(folder, _REDO), folder / "units.csv"

    def more(row: dict[str, str]) -> dict[str, Any]:
        others = {name: finite(cell) for name, cell in row.items() if name not in known}
        picture = folder / "pictures" / f"{row['unit']}.webp"
        return {"more": others, "picture": picture if picture.is_file() else None}

    known = columns(UnitStability)
    units = read_rows(file, StabilityUnit, _REDO, more)
    if not units:
        raise CnnlensError(f"{file} is damaged: it has no rows", _REDO)
    return StabilityResult(name, folder, summary, units)


# -- pictures --------------------------------------------------------------------------------------


def write_peaks(
    folder: Path,
    data: PartSet,
    found: Stability,
    fields: Fields,
    preprocess: Preprocess,
    top: int,
    workers: int = 4,
) -> Iterator[int]:
    """Write ``<unit>.webp`` for every live unit; yield how many units are done.

    Each shows the unit's top images with the receptive field of its peak framed and the parts'
    centres marked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marks = list(part_marks(data.parts).values())
    cells: dict[int, Image.Image] = {}

    def cell(row: int) -> Image.Image:
        if row not in cells:
            index = int(found.seen[row])
            seen = Image.fromarray(as_seen(data, index, preprocess, _CELL))
            _mark_parts(seen, data.centres[index], marks)
            cells[row] = seen
        return cells[row].copy()

    def strip(unit: int) -> None:
        if found.dead[unit]:
            return
        own = np.flatnonzero(found.labels == found.category[unit])
        best = own[np.argsort(-found.scores[own, unit], kind="stable")[:top]]
        pictures = [cell(row) for row in best.tolist()]
        for row, picture in zip(best.tolist(), pictures, strict=True):
            _mark_peak(picture, found.places[row, unit], fields, preprocess.size)
        shown = kit.Row(*(kit.Picture(one, frame=False) for one in pictures), gap=_GAP)
        with atomic(folder / f"{unit}.webp") as temporary:
            kit.sheet(shown, 0, 0, 0).save(temporary, "WEBP", quality=80, method=2)

    with Helpers(max(1, workers)) as pool:
        for done, _ in enumerate(pool.map(strip, range(found.units)), 1):
            yield done


def _mark_parts(picture: Image.Image, centres: np.ndarray, marks: Sequence[Mark]) -> None:
    pen = ImageDraw.Draw(picture)
    for (y, x), mark in zip(centres * _CELL, marks, strict=True):
        if not np.isnan(y):
            draw_mark(pen, x, y, mark)


def _mark_peak(
    picture: Image.Image, place: np.ndarray, fields: Fields, size: tuple[int, int]
) -> None:
    """Frame the peak's receptive field, as far as it is in the picture, and cross its centre."""
    pen = ImageDraw.Draw(picture)
    y, x = place * _CELL
    high, wide = (f.size / n * _CELL for f, n in zip(fields, size, strict=True))
    top, bottom = max(y - high / 2, 0), min(y + high / 2, _CELL - 1)
    left, right = max(x - wide / 2, 0), min(x + wide / 2, _CELL - 1)
    pen.rectangle((left, top, right, bottom), outline=_PEAK, width=2)
    for dx, dy in ((5, 0), (0, 5)):
        pen.line((x - dx, y - dy, x + dx, y + dy), fill="#000000", width=4)
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=_PEAK, width=2)


def where_units_look(
    data: PartSet, found: Stability, shape: tuple[int, int], preprocess: Preprocess
) -> Figure:
    """Draw, per category, where the live units peak: on one object, and over all of them.

    `shape` are rows and columns of the layer's maps: the grain of the heat.
    """
    shown = [k for k in range(len(found.names)) if ((found.category == k) & ~found.dead).any()]
    shown = shown[:_SHOWN]
    figure = new_figure(2.1 * max(len(shown), 2), 4.9, dpi=150, layout="constrained")
    axes = figure.subplots(2, max(len(shown), 1), squeeze=False)
    for column, kind in enumerate(shown):
        units = np.flatnonzero((found.category == kind) & ~found.dead)
        rows = np.flatnonzero(found.labels == kind)
        example = _example(data, found, rows, units)
        picture = as_seen(data, int(found.seen[example]), preprocess, 224)
        mean = _mean_picture(data, found, rows, preprocess)
        _heat(axes[0, column], picture, found.places[example, units], shape)
        plot_marks(axes[0, column], data.parts, data.centres[int(found.seen[example])])
        places = found.places[np.ix_(rows, units)][found.scores[np.ix_(rows, units)] > 0]
        _heat(axes[1, column], mean, places, shape)
        plot_marks(axes[1, column], data.parts, _mean_centres(data.centres[found.seen[rows]]))
        axes[0, column].set_title(
            f"{found.names[kind]}\n{counted(len(units), 'unit')}, {counted(len(rows), 'object')}",
            fontsize=8,
        )
    if shown:
        axes[0, 0].set_ylabel("one object", fontsize=8)
        axes[1, 0].set_ylabel("all, on their mean", fontsize=8)
        add_legend(figure, data.parts)
    return figure


def _example(data: PartSet, found: Stability, rows: np.ndarray, units: np.ndarray) -> int:
    """Of the objects that show most parts the one that excites the units most."""
    parts = (~np.isnan(data.centres[found.seen[rows], :, 0])).sum(axis=1)
    full = rows[parts == parts.max()]
    return int(full[np.argmax(found.scores[np.ix_(full, units)].mean(axis=1))])


def _mean_picture(
    data: PartSet, found: Stability, rows: np.ndarray, preprocess: Preprocess
) -> np.ndarray:
    some = rows[:: max(len(rows) // 40, 1)]
    seen = (as_seen(data, int(found.seen[row]), preprocess, 224).astype(float) for row in some)
    return (reduce(np.add, seen) / len(some)).astype(np.uint8)


def _mean_centres(centres: np.ndarray) -> np.ndarray:
    """(P, 2) means over the objects (n, P, 2) that show a part; NaN where none does."""
    shown = ~np.isnan(centres)
    total = np.where(shown, centres, 0).sum(axis=0)
    return np.where(shown.any(axis=0), total / np.maximum(shown.sum(axis=0), 1), np.nan)


def _heat(axes: Any, picture: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> None:
    """Lay the share of peaks around each position over a picture."""
    from scipy.ndimage import gaussian_filter

    grain = 112
    bins = [np.linspace(0, 1, grain + 1)] * 2
    count, _, _ = np.histogram2d(places[:, 0], places[:, 1], bins=bins)
    dense = gaussian_filter(count, [0.6 * grain / n for n in shape])
    dense = dense / dense.max() if dense.max() > 0 else dense
    axes.imshow(picture.mean(axis=2), cmap="gray", extent=(0, 1, 1, 0), vmin=0, vmax=255)
    axes.imshow(dense, cmap="inferno", extent=(0, 1, 1, 0), alpha=0.75 * dense**0.7, vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])

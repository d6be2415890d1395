"""``WORKSPACE/label/<layer>``: the names of its units, written, read back, and on the page.

Names from classes and from text lie side by side in ``classes`` and ``text``, each with its
``units.csv`` and ``summary.json``; those of the latest run stand in the layer's folder itself, too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from unicodedata import bidirectional

from cnnlens.files import atomic, atomic_folder
from cnnlens.files.tables import read_rows, write_rows
from cnnlens.measure.compared import data_name
from cnnlens.measure.unit_labels import LayerLabels, UnitLabel, means
from cnnlens.report.blocks import Cell, Layer, Section, Table, Text, number, section_of, sentence
from cnnlens.report.blocks import Facts as FactsBlock
from cnnlens.report.contents import in_order, read_object, read_summary, reading
from cnnlens.report.shown import Fact, Shown, UnitResults

_REDO = "redo `cnnlens label` with --force"
COLUMNS = (
    *("unit", "label", "score", "runner_up", "runner_up_score", "chance", "p_value", "terms"),
    *("single", "single_score"),
)
PLACED = ("rank", "margin")  # of names from words
ROWS = 60  # of the table on the page
_FILES = ("units.csv", "summary.json")
HEADS = ("Unit", "Name", "Correlation", "Chance", "p")
_NEXT = {
    "classes": ("Next best class", "Correlation"),
    "text": ("Rank", "Next best word", "Correlation"),
}


@dataclass(frozen=True, eq=False)
class LabelledUnit(UnitLabel, Shown):
    """One row of ``units.csv``; `exam` says how its name did there, where it was examined."""

    exam: str | None = None

    def table(self) -> list[dict[str, Any]]:
        """Give its row."""
        return [_cells(self)]

    @property
    def said(self) -> str:
        """Its name with weights: ``bird 1.2 + animal 0.4``."""
        return self._worded(str)

    @property
    def isolated(self) -> str:
        """The same, where what is written from right to left does not take weights along."""
        return self._worded(lambda name: f"\u2068{name}\u2069" if _is_leftwards(name) else name)

    def _worded(self, written: Callable[[str], str]) -> str:
        if [weight for _, weight in self.terms] == [1.0]:
            return self.label  # soft-wpmi's: one word without a weight
        return " + ".join(f"{written(name)} {weight:.2g}" for name, weight in self.terms)

    def _title(self) -> str:
        return f"unit {self.unit}"

    def _facts(self) -> Iterable[Fact]:
        yield "name", self.said or "none", ""
        yield (
            "correlation",
            number(self.score, 3),
            "" if self.chance is None else number(self.chance, 3),
        )


def _is_leftwards(name: str) -> bool:
    """Whether some of it is written from right to left, as Hebrew and Arabic are."""
    return any(bidirectional(letter) in ("R", "AL") for letter in name)


@dataclass(frozen=True, eq=False)
class LabelResult(UnitResults[LabelledUnit]):
    """The names of a layer's units; ``found[12].label`` is unit 12's."""

    @property
    def source(self) -> str:
        """What the names are from: "classes" or "text"."""
        return str(self.summary.get("from", "classes"))

    @property
    def means(self) -> dict[str, Any]:
        """Means over the units that have a score, and how many these are.

        From the rows: in summaries of earlier versions units without a score counted as 0.
        """
        return means(self.units)

    def best(self, count: int | None = None) -> list[LabelledUnit]:
        """List the units whose names fit best."""
        return sorted(self.units, key=lambda one: (-(one.score or 0.0), one.unit))[:count]

    def _title(self) -> str:
        return f"Names of the units of {self.name}"

    def _facts(self) -> Iterable[Fact]:
        sure, mean = self.summary.get("sure"), self.means
        yield "units with a name that is more than chance", f"{sure} of {len(self)}", ""
        chance = number(mean["chance"], 3) if mean["chance"] is not None else ""
        yield f"mean correlation{self.of_scored}", number(mean["mean_score"], 3), chance
        single = "word" if self.source == "text" else "class"
        yield f"of the best single {single}", number(mean["mean_single_score"], 3), ""

    @property
    def of_scored(self) -> str:
        """Say of how many units a mean is, where some have no correlation."""
        scored = self.means["scored"]
        return "" if scored == len(self) else f" of the {scored} of {len(self)} units that have one"


def write_labels(folder: Path, found: LayerLabels) -> None:
    """Write ``units.csv``."""
    more = PLACED if any(row.rank for row in found.rows) else ()
    write_rows(folder / "units.csv", (*COLUMNS, *more), [_cells(row) for row in found.rows])


def _cells(row: UnitLabel) -> dict[str, Any]:
    shown = {name: value for name, value in vars(row).items() if not name.startswith("_")}
    return {**shown, "terms": json.dumps(row.terms, ensure_ascii=False)}


def _terms(row: dict[str, str]) -> dict[str, Any]:
    terms = tuple((str(name), float(w)) for name, w in json.loads(row["terms"]))
    return {"terms": terms}


def read_labels(folder: Path) -> LabelResult:
    """Read the names of one layer; a damaged file is named (`CnnlensError`)."""
    name, summary = read_summary(folder, _REDO)
    rows = read_rows(folder / "units.csv", LabelledUnit, _REDO, _terms)
    return LabelResult(name, folder, summary, rows)


def sources_of(folder: Path) -> list[Path]:
    """List the folders of a layer's names, one per source.

    Earlier versions left them in the layer's folder itself.
    """
    found = sorted(path.parent for path in folder.glob("*/summary.json"))
    found = [one for one in found if not one.name.startswith(".")]  # what a killed run left
    early = folder / "summary.json"
    if early.is_file():
        source = read_object(early, redo=_REDO).get("from", "classes")
        found += [folder] * (source not in [one.name for one in found])
    return found


def part_early(folder: Path) -> None:
    """Move on what an earlier version left in a layer's folder: into that of its source."""
    for one in sources_of(folder):
        if one == folder:
            source = str(read_object(one / "summary.json", redo=_REDO).get("from", "classes"))
            with atomic_folder(folder / source) as own:
                for name in _FILES:
                    shutil.copyfile(folder / name, own / name)


def keep_latest(own: Path) -> None:
    """Leave the names of one source in the layer's folder, too."""
    for name in _FILES:
        latest, mine = own.parent / name, own / name
        if not latest.is_file() or latest.read_bytes() != mine.read_bytes():
            with atomic(latest) as fresh:
                shutil.copyfile(mine, fresh)


def read_layer_labels(folder: Path) -> list[LabelResult]:
    """Read a layer's names of every source."""
    return [read_labels(one) for one in sources_of(folder)]


def read_all_labels(workspace: Path) -> list[LabelResult]:
    """Read every layer whose units were named, in the workspace's order, by source."""
    folders = [one for one in (workspace / "label").glob("[!.]*") if one.is_dir()]
    return [one for layer in in_order(workspace, folders) for one in read_layer_labels(layer)]


def names(workspace: Path) -> Section | None:
    """Gather the section; None where label has not been run."""
    layers, found = [], read_all_labels(workspace)
    for name, of_layer in groupby(found, key=lambda layer: layer.name):
        layers.append(Layer(name, *(block for one in of_layer for block in _blocks(one))))
    files = [layer.folder / "summary.json" for layer in found]
    origins = sorted({layer.source for layer in found})
    title = f"Names from {' and '.join(origins)}"
    return section_of("label", title, layers, files, origins=origins)


def _blocks(layer: LabelResult) -> Iterator[Any]:
    shown = [one for one in layer.best(ROWS) if one.label]
    with reading(layer.folder / "summary.json", _REDO):
        yield FactsBlock(list(_facts(layer)))
        if seen := layer.summary.get("trained_on"):
            yield Text(sentence(seen), "small")
    rows = [_row(one, layer.source) for one in shown]
    yield Table((*HEADS, *_NEXT[layer.source]), rows, caption=f"from {layer.source}")
    if left := len(layer) - len(shown):
        yield Text(f"{left} more units stand in units.csv.", "small")


def _facts(layer: LabelResult) -> Iterator[tuple[str, str]]:
    s = layer.summary
    yield "From", layer.source
    yield "Data", Path(data_name(s)).name
    yield "Images", f"{s['images']:,}, {s['images_held_out']:,} of them held out"
    what = "Words" if layer.source == "text" else "Classes and groups"
    yield what, f"{s['concepts']:,}"
    if layer.source == "text":
        yield "Chosen by", f"{s['method']}, vectors of {s['vectors']}"
    yield "Names that are more than chance", f"{s['sure']} of {s['units']}"
    mean = layer.means
    chance = "" if mean["chance"] is None else f", of shuffled images {number(mean['chance'], 3)}"
    alone, whole = (number(mean[key], 3) for key in ("mean_single_score", "mean_score"))
    single = "word" if layer.source == "text" else "class"
    of = f"{whole}{layer.of_scored}"
    yield "Mean correlation", f"{of}; best single {single} {alone}{chance}"


def _row(one: LabelledUnit, source: str) -> list[Any]:
    rank = [Cell("" if one.rank is None else f"{one.rank:,}")] if source == "text" else []
    return [
        Cell(str(one.unit)),
        Cell(one.isolated),
        Cell(number(one.score, 3), strong=True),
        Cell(number(one.chance, 3)),
        Cell("" if one.p_value is None else f"{one.p_value:.3f}"),
        *rank,
        Cell(one.runner_up),
        Cell(number(one.runner_up_score, 3)),
    ]

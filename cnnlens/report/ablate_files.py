"""``WORKSPACE/ablate/<layer>``: what classes lose without units, written and read, on the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files.tables import read_rows, write_rows
from cnnlens.measure.ablation import LayerAblation
from cnnlens.measure.changed_classes import Effect
from cnnlens.measure.compared import data_name
from cnnlens.report.blocks import (
    Cell,
    Layer,
    Section,
    Table,
    Text,
    number,
    section_of,
    sentence,
    signed,
)
from cnnlens.report.blocks import Facts as FactsBlock
from cnnlens.report.blocks import Figure as FigureBlock
from cnnlens.report.contents import read_layers, read_summary, reading
from cnnlens.report.dissect_files import labels
from cnnlens.report.figures import as_drawn
from cnnlens.report.figures.ablate import save_curves
from cnnlens.report.label_files import read_layer_labels
from cnnlens.report.shown import Fact, Shown, UnitResults, spans
from cnnlens.report.steer_files import steered

_REDO = "redo `cnnlens ablate` with --force"
_NUMBERS = ("logit_change", "accuracy_change")
_ENDS = ("logit_low", "logit_high", "accuracy_low", "accuracy_high")
COLUMNS = ("unit", "class", *_NUMBERS, *_ENDS)
CONCEPT_COLUMNS = ("concept", "class", *_NUMBERS, *_ENDS, "random_low", "random_high")
ROWS = 40  # of the table on the page
CURVES = "curves.png"


@dataclass(frozen=True, eq=False)
class Ablated(Shown):
    """A unit, or a direction that was projected out: what each class loses without it.

    Attributes
    ----------
    unit : int or None
        Counted from 0; None for a direction.
    concept : str
        Of a direction.
    effects : list of Effect
        One per class.
    label : str
        What the workspace calls the unit; empty where nothing does.
    """

    unit: int | None
    concept: str
    effects: list[Effect]
    label: str = ""

    @property
    def worst(self) -> Effect:
        """The class that it hurts most to lose it: by accuracy, where that is sure, or by score."""
        return min(self.effects, key=lambda one: one.weight)

    @property
    def said(self) -> str:
        """In words: ``labelled grass; without it sheep loses 0.04``."""
        named = f"labelled {self.label}; " if self.label else ""
        return f"{named}without it {loss(self.worst)}"

    def table(self) -> list[dict[str, Any]]:
        """Give one row per class."""
        heads = COLUMNS if self.unit is not None else CONCEPT_COLUMNS
        return [{name: one.cells()[name] for name in heads} for one in self.effects]

    def _title(self) -> str:
        return self.concept or f"unit {self.unit}"

    def _facts(self) -> Iterable[Fact]:
        yield "without it", loss(self.worst), ""


def loss(effect: Effect) -> str:
    """Say what a class loses: ``sheep loses 0.04`` of its accuracy, else of its score."""
    if effect.is_loss:
        return f"{effect.cls} loses {-effect.accuracy_change:.2g}"
    if effect.logit_change >= 0:
        return "no class loses"
    return f"{effect.cls}'s score falls by {-effect.logit_change:.2g}"


@dataclass(frozen=True, eq=False)
class AblationResult(UnitResults[Ablated]):
    """What classes lose without units of a layer; ``found[12].worst.cls`` is whom unit 12 hurts.

    Attributes
    ----------
    concepts : list of Ablated
        Directions that were projected out.
    """

    concepts: list[Ablated]

    def __getitem__(self, unit: int) -> Ablated:
        """Look a unit up by its number."""
        for one in self.units:
            if one.unit == unit:
                return one
        known = spans(sorted(one.unit for one in self.units if one.unit is not None))
        raise KeyError(f"unit {unit!r} was not ablated; there are {known or 'none'}")

    @property
    def curves(self) -> list[dict[str, Any]]:
        """``class, k, accuracy, random_mean, random_low, random_high, …``, as in the summary."""
        return list(self.summary.get("curves") or [])

    def best(self, count: int | None = None) -> list[Ablated]:
        """List the units whose removal hurts a class most."""
        return sorted(self.units, key=lambda one: one.worst.weight)[:count]

    def _title(self) -> str:
        return f"What classes lose without units of {self.name}"

    def _facts(self) -> Iterable[Fact]:
        for k, own, others in means(self.curves):
            words = f"classes without their {k} best unit{'' if k == 1 else 's'}"
            yield words, number(own, 3), "" if others is None else number(others, 3)


def means(curves: Sequence[Mapping[str, Any]]) -> list[tuple[int, float, float | None]]:
    """Give the mean over classes for every k: k, accuracy, that without random units."""
    found = []
    for k in sorted({one["k"] for one in curves}):
        rows = [one for one in curves if one["k"] == k]
        others = [one["random_mean"] for one in rows if one["random_mean"] is not None]
        mean = sum(one["accuracy"] for one in rows) / len(rows)
        found.append((k, mean, sum(others) / len(others) if others else None))
    return found


# -- files ---------------------------------------------------------------------------------------


def write_ablation(folder: Path, found: LayerAblation) -> None:
    """Write ``units.csv``, ``concepts.csv`` where there are some, and the curves."""
    write_rows(folder / "units.csv", COLUMNS, [one.cells() for one in found.effects])
    if found.concepts:
        rows = [one.cells() for one in found.concepts]
        write_rows(folder / "concepts.csv", CONCEPT_COLUMNS, rows)
    if found.curves:
        summary = found.summary()
        save_curves(folder / CURVES, summary["curves"], summary["classes"])


def read_ablation(folder: Path) -> AblationResult:
    """Read the effects of one layer's units; a damaged file is named (`CnnlensError`)."""
    name, summary = read_summary(folder, _REDO)
    called = _called(folder)
    effects = _read(folder / "units.csv")
    units = [
        Ablated(unit, "", list(rows), called.get(unit or 0, ""))
        for unit, rows in groupby(effects, key=lambda one: one.unit)
    ]
    by_concept = groupby(_read(folder / "concepts.csv"), key=lambda one: one.concept)
    concepts = [Ablated(None, concept, list(rows)) for concept, rows in by_concept]
    return AblationResult(name, folder, summary, units, concepts)


def _read(path: Path) -> list[Effect]:
    def more(row: dict[str, str]) -> dict[str, Any]:
        return {"cls": row["class"], "concept": row.get("concept", "")}

    return read_rows(path, Effect, _REDO, more, may_miss=path.name == "concepts.csv")


def _called(folder: Path) -> dict[int, str]:
    """What other methods call a layer's units: detectors' labels, else names from classes."""
    workspace, found = folder.parents[1], dict[int, str]()
    with suppress(CnnlensError):
        found = {unit: label for unit, (label, *_) in labels(workspace, folder.name).items()}
    with suppress(CnnlensError):
        for named in read_layer_labels(workspace / "label" / folder.name):
            for one in named.units:
                if one.is_sure and one.label:
                    found.setdefault(one.unit, one.label)
    return found


def read_all_ablations(workspace: Path) -> list[AblationResult]:
    """Read every layer whose units were taken out, in the workspace's order."""
    return read_layers(workspace, "ablate", read_ablation)


# -- on screen and on the page -------------------------------------------------------------------


def unit_row(one: Ablated) -> list[Any]:
    """A unit or a direction in a terminal's table."""
    worst = one.worst
    name = one.concept or one.unit
    return [name, one.label, worst.cls, worst.accuracy_change, worst.logit_change]


def curve_table(found: AblationResult) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Heads and rows of the table of curves: a class's accuracy by k, beside random units'."""
    sizes = sorted({one["k"] for one in found.curves})
    most = sizes[-1]
    heads = ("class", "all units", *(f"k = {k}" for k in sizes), f"{most} random")
    rows: list[list[Any]] = []
    for known in found.summary["classes"]:
        mine = [one for one in found.curves if one["class"] == known["class"]]
        accuracies = [one["accuracy"] for one in mine]
        rows.append([known["class"], known["accuracy"], *accuracies, mine[-1]["random_mean"]])
    middle = means(found.curves)
    base = sum(known["accuracy"] for known in found.summary["classes"]) / len(rows)
    rows.append(["mean", base, *(own for _, own, _ in middle), middle[-1][2]])
    return heads, rows


def ablations(workspace: Path) -> Section | None:
    """Gather the section; None where ablate has not been run."""
    layers: list[Any] = []
    found = read_all_ablations(workspace)
    for layer in found:
        with reading(layer.folder / "summary.json", _REDO):
            layers.append(_layer(layer))
    pictures, files = steered(workspace)
    sources = [*(layer.folder / "summary.json" for layer in found), *files]
    return section_of("ablate", "What classes lose without units", [*layers, *pictures], sources)


def _layer(layer: AblationResult) -> Layer:
    blocks: list[Any] = [FactsBlock(list(_facts(layer)))]
    if (drawn := layer.folder / CURVES).is_file():
        words = "How well each class is told from all others without its best units (orange), "
        words += "beside random ones (grey)."
        blocks.append(FigureBlock(as_drawn(drawn), words, alt="Accuracy over units taken out"))
    for key in ("classes_read", "trained_on"):
        if assumed := layer.summary.get(key):
            blocks.append(Text(sentence(assumed), "small"))
    if layer.curves:
        heads, rows = curve_table(layer)
        cells = [[Cell(row[0]), *(Cell(number(one, 3)) for one in row[1:])] for row in rows]
        heads = (heads[0].title(), *heads[1:])
        blocks.append(Table(heads, cells))
    if layer.concepts:
        heads = ("Concept", "Hurts most", "Accuracy", "Score", "Accuracy by random directions")
        blocks.append(Table(heads, [_concept_row(one) for one in layer.concepts]))
    if shown := layer.best(ROWS):
        heads = ("Unit", "Label", "Hurts most", "Accuracy", "Score")
        blocks.append(Table(heads, [_row(one) for one in shown]))
    if left := len(layer) - len(shown):
        blocks.append(Text(f"{left} more units stand in units.csv.", "small"))
    return Layer(layer.name, *blocks)


def _facts(layer: AblationResult) -> Iterator[tuple[str, str]]:
    s = layer.summary
    yield "Data", Path(data_name(s)).name
    yield "Images", f"{s['images']:,}, {s['images_held_out']:,} of them held out"
    yield "In the place of a map", "its mean over the data" if s["to"] == "mean" else "zero"
    if silent := len(s.get("silent_units") or ()):
        yield "Units that never change", f"{silent}, which are no loss"


def _row(one: Ablated) -> list[Any]:
    return [Cell(str(one.unit)), Cell(one.label), *_changes(one.worst)]


def _concept_row(one: Ablated) -> list[Any]:
    low, high = one.worst.random_low, one.worst.random_high
    band = "" if low is None or high is None else f"{signed(low, 3)} to {signed(high, 3)}"
    return [Cell(one.concept), *_changes(one.worst), Cell(band)]


def _changes(worst: Effect) -> list[Cell]:
    accuracy = worst.accuracy_low, worst.accuracy_high
    logit = worst.logit_low, worst.logit_high
    return [
        Cell(worst.cls),
        Cell(signed(worst.accuracy_change, 3), worst.is_loss, _between(accuracy, 3)),
        Cell(signed(worst.logit_change, 2), not worst.is_loss, _between(logit, 2)),
    ]


def _between(ends: tuple[float | None, float | None], digits: int) -> str:
    low, high = ends
    if low is None or high is None:
        return ""
    return f"{signed(low, digits)} to {signed(high, digits)}"

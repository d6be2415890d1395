"""How labels did on images that chose nothing: on the screen and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnlens.measure.exam_truth import ENCODER
from cnnlens.report.blocks import Cell, Layer, Section, Table, Text, number, percent, section_of
from cnnlens.report.contents import reading
from cnnlens.report.exam_files import REDO, ExaminedLabel, ExamResult, read_all_exams

ROWS = 20  # of a method's labels that pass on the page, and of those that do not
COLUMNS = ("method", "labels", "pass", "by chance", "correlation", "by chance", "held out")
_METHODS = ("Method", "Labels", "Pass", "Shuffled", "Correlation", "Average precision", "IoU", "F1")
_LABELS = ("Unit", "Label", "Correlation", "Average precision", "IoU", "F1", "p")
_SHOWN = ("correlation", "average_precision", "iou", "f1")
TWIN = "random weights"


def pass_rows(methods: Mapping[str, Any]) -> Iterator[list[object]]:
    """Give each method's row of the table on the screen, and its random twin's."""
    for method, of in methods.items():
        held = of["images_held_out"]
        yield [method, *_passes(of), of["mean_by_chance"]["correlation"], held]
        if twin := of.get("twin"):
            yield [f"{method}, {TWIN}", *_passes(twin), None, held]


def _passes(of: Mapping[str, Any]) -> list[object]:
    passes = f"{of['passes']} ({percent(of['share'])})"
    chance = None if of["share_by_chance"] is None else percent(of["share_by_chance"])
    return [of["labels"], passes, chance, of["mean"]["correlation"]]


def images_said(of: Mapping[str, Any]) -> str:
    """Say in a line which images were used."""
    held, images = f"{of['images_held_out']:,}", f"{of['images']:,}"
    said = f"examined on {held} of {images} images of {of['data']}"
    if not of["chose"]:
        return f"{said}; the labels were chosen elsewhere"
    if of["iou_of"] == "images":
        return f"{said}, those that `label` had held out{_told_said(of.get('told_by') or {})}"
    again = f"{of['chosen_again']} of {of['labels']} labels"
    return f"{said}; the others choose {again} again, the rest cannot pass"


def _told_said(told_by: Mapping[str, int]) -> str:
    """Say how many labels only the encoder knows of."""
    by_encoder = told_by.get(ENCODER)
    if not by_encoder:
        return ""
    others = ", ".join(f"{n:,} by {what}" for what, n in told_by.items() if what != ENCODER)
    and_others = f", {others}" if others else ""
    return f"; {by_encoder:,} labels are held against the encoder that chose them{and_others}"


def planted_said(planted: list[Mapping[str, Any]], signal: float) -> str:
    """Say in a line what became of planted units."""
    found = sum(one["is_found"] for one in planted)
    missed = [f"{one['planted']} ({one['label'] or 'no name'})" for one in planted
              if not one["is_found"]]  # fmt: skip
    passed = sum(one["passes"] for one in planted)
    said = f"found {found} of {len(planted)} planted units (signal to noise {signal:g})"
    return f"{said}, {passed} pass" + (f"; not {', '.join(missed[:4])}" if missed else "")


def marks(workspace: Path) -> Section | None:
    """Gather the section; None where exam has not been run."""
    layers, found = [], read_all_exams(workspace)
    for layer in found:
        with reading(layer.folder / "summary.json", REDO):
            layers.append(Layer(layer.name, *_blocks(layer)))
    sources = [layer.folder / "summary.json" for layer in found]
    return section_of("exam", "Labels on images that chose nothing", layers, sources)


def _blocks(layer: ExamResult) -> Iterator[Any]:
    methods = layer.summary["methods"]
    yield Table(_METHODS, list(_method_rows(methods)))
    signal = layer.summary["made_from"]["settings"]["signal"]
    for name, of in methods.items():
        yield Text(f"{name}: {images_said(of)}.", "small")
        if seen := of.get("trained_on"):
            yield Text(f"{name}: {seen}.", "small")
        if of.get("planted"):
            yield Text(f"{name}: {planted_said(of['planted'], signal)}.", "small")
        mine = layer.of(name)
        yield from _table(f"{name}: labels that pass", sorted(filter(_passing, mine), key=_by_fit))
        others = (one for one in mine if not one.passes)
        key = _by_place if of["iou_of"] == "pixels" else _by_fit
        yield from _table(f"{name}: labels that do not", sorted(others, key=key))


def _passing(one: ExaminedLabel) -> bool:
    return one.passes


def _by_fit(one: ExaminedLabel) -> float:
    return -2.0 if one.correlation is None else -one.correlation


def _by_place(one: ExaminedLabel) -> float:
    """First those that a unit's map outlines well, and yet says nothing of which images."""
    return -(one.iou or 0.0)


def _table(caption: str, rows: list[ExaminedLabel]) -> Iterator[Any]:
    if not rows:
        return
    of = f" ({ROWS} of {len(rows):,}; the others stand in units.csv)" if len(rows) > ROWS else ""
    heads = _LABELS if rows[0].passes else (*_LABELS, "Because")
    yield Table(heads, [_label_row(one) for one in rows[:ROWS]], caption=caption + of)


def _method_rows(methods: Mapping[str, Any]) -> Iterator[list[Any]]:
    for name, of in methods.items():
        chance = of["mean_by_chance"]
        yield [name, *_cells(of), *(_mean(of["mean"][s], chance[s]) for s in _SHOWN)]
        if twin := of.get("twin"):
            means = (_mean(twin["mean"][s], None) for s in _SHOWN)
            yield [f"{name}, {TWIN}", *_cells(twin), *means]


def _cells(of: Mapping[str, Any]) -> list[Cell]:
    labels, passes, chance, _ = _passes(of)
    return [Cell(f"{labels:,}"), Cell(str(passes), strong=True), Cell(str(chance or "–"))]


def _mean(value: float | None, chance: float | None) -> Cell:
    return Cell(number(value, 3), chance="" if chance is None else f"{chance + 0:.3f}")


def _label_row(one: ExaminedLabel) -> list[Any]:
    p = "–" if one.p_value is None else f"{one.p_value:.4f}"
    row = [Cell(str(one.unit)), Cell(one.label), *(_score(one, s) for s in _SHOWN), Cell(p)]
    return row if one.passes else [*row, Cell(one.verdict)]


def _score(one: ExaminedLabel, name: str) -> Cell:
    low, high, chance = one.intervals[name]
    main = name == _SHOWN[0]
    known = main and low is not None and high is not None
    between = f"{low:.2f} to {high:.2f}" if known else ""
    by_chance = "" if chance is None else f"{round(chance, 2) + 0:.2f}"
    return Cell(number(getattr(one, name), 2), main and one.passes, between, by_chance)

"""``WORKSPACE/exam/<layer>``: how labels did, written, read back, and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import counted
from cnnlens.files import mark, read_json
from cnnlens.files.tables import columns, finite, read_csv, read_rows, write_rows
from cnnlens.measure.exam import Examined, LayerExam
from cnnlens.measure.exam_scores import SCORES
from cnnlens.measure.exam_truth import ENCODER
from cnnlens.report.blocks import format_p, number, percent
from cnnlens.report.contents import read_layers, read_summary
from cnnlens.report.shown import Fact, Shown, UnitResults

REDO = "redo `cnnlens exam` with --force"


@dataclass(frozen=True, eq=False)
class ExaminedLabel(Shown):
    """One row of ``units.csv``: a unit's label of one method, and how it did.

    Attributes
    ----------
    unit, method, label
        Whose, and what it says.
    correlation, average_precision, iou, f1, cosine : float or None
        On images that chose nothing; None where nothing can be said.
    chance, p_value : float or None
        The correlation where images are shuffled; how often those correlate as highly.
    adjusted_p_value : float or None
        After Benjamini and Hochberg over the units.
    passes : bool
        Whether that is below .01, and the label is the one that was examined.
    examined : str
        What its method chooses without the images that examine.
    images, shown : int
        Images that examine; those of them that show the label.
    told_by : str or None
        What tells whether it is there: "classes", "label maps" or an "encoder"; None: an earlier
        version did not say.
    intervals : mapping of str to (float or None, float or None, float or None)
        Of each score its interval, and its mean where images are shuffled.
    """

    unit: int
    method: str
    label: str
    correlation: float | None
    average_precision: float | None
    iou: float | None
    f1: float | None
    chance: float | None
    p_value: float | None
    cosine: float | None
    adjusted_p_value: float | None
    passes: bool
    examined: str
    images: int
    shown: int
    intervals: Mapping[str, tuple[float | None, float | None, float | None]]
    told_by: str | None = None

    @property
    def verdict(self) -> str:
        """What came out, in a word or some: "passes", "fails", or why that is not known."""
        if self.p_value is None:
            unseen = not self.shown and self.told_by != ENCODER
            return "untested: " + ("no image shows it" if unseen else "nothing varies")
        if self.passes:
            return "passes"
        if self.examined == self.label:
            return "fails"
        return f"unsettled: half of the images say {self.examined or 'nothing'}"

    @property
    def words(self) -> str:
        """The verdict with its figures, for a unit's page."""
        if self.p_value is None or self.correlation is None:
            return self.verdict
        chance = "" if self.chance is None else f", by chance {self.chance + 0:.2f}"
        said = f"correlation {self.correlation:.2f}{chance}, p {format_p(self.p_value)}"
        return f"{self.label} {self.verdict} ({said}, {counted(self.images, 'image', ',')})"

    def table(self) -> list[dict[str, Any]]:
        """Give its row."""
        known = {name: getattr(self, name) for name in columns(ExaminedLabel)}
        more = {
            f"{score}_{end}": value
            for score, values in self.intervals.items()
            for end, value in zip(_ENDS, values, strict=True)
        }
        return [{**known, **more}]

    def _title(self) -> str:
        return f"unit {self.unit}: {self.label} ({self.method}) {self.verdict}"

    def _facts(self) -> Iterable[Fact]:
        for name in SCORES:
            chance = self.intervals[name][2]
            yield _said(name), number(getattr(self, name), 3), _plain(chance)


_ENDS = ("low", "high", "chance")
_MORE = [
    f"{score}_{end}" for score in SCORES for end in _ENDS if (score, end) != (SCORES[0], "chance")
]


def _said(score: str) -> str:
    return {"iou": "IoU", "f1": "F1"}.get(score, score.replace("_", " "))


def _plain(value: float | None) -> str:
    return "" if value is None else number(value, 3)


@dataclass(frozen=True, eq=False)
class ExamResult(UnitResults[ExaminedLabel]):
    """The exam of a layer's labels; ``found[12]`` are those of its unit 12."""

    def __getitem__(self, unit: int) -> list[ExaminedLabel]:  # type: ignore[override]
        return [one for one in self.units if one.unit == unit]

    def of(self, method: str) -> list[ExaminedLabel]:
        """Those of one method."""
        return [one for one in self.units if one.method == method]

    def is_about(self, method: str, chosen: Mapping[str, Any]) -> bool:
        """Whether the labels that a method has now are those that were examined.

        Parameters
        ----------
        method : str
            Whose labels.
        chosen : mapping
            The summary that they stand beside: what they were made from, their groups.
        """
        made_from = self.summary.get("made_from") or {}
        mine = (made_from.get("methods") or {}).get(method)
        if not mine:  # a table of labels of a user's, or nothing is known
            return True
        theirs = chosen.get("made_from") or {}
        known = chosen_by(theirs, chosen.get("groups") or {})
        if any(mine.get(key) != value for key, value in known.items()):
            return False
        on_the_same = mine.get("data") == theirs.get("data")
        return not on_the_same or mine.get("planes") == theirs.get("labels")

    def _title(self) -> str:
        return f"Labels of {self.name} on images that chose nothing"

    def _facts(self) -> Iterable[Fact]:
        for method, of in self.summary["methods"].items():
            share = of["share_by_chance"]
            chance = "" if share is None else percent(share)
            yield f"{method}: labels that pass", f"{of['passes']} of {of['labels']}", chance


def chosen_by(made_from: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, str]:
    """Give marks of what chose labels: images, settings, words, and groups they may name.

    What labels these images is told beside it, in the exam's "planes".
    """
    made = {key: made_from.get(key) for key in ("data", "settings", "text")}
    return {"groups": mark(groups), "chosen": mark(made)}


def write_exam(folder: Path, found: LayerExam) -> None:
    """Write ``units.csv``: one row per unit and method."""
    rows = [_cells(method, row) for method, sheet in found.sheets.items() for row in sheet.rows]
    rows.sort(key=lambda row: int(row["unit"]))  # of one unit in the methods' order
    write_rows(folder / "units.csv", [*columns(ExaminedLabel), *_MORE], rows)


def _cells(method: str, row: Examined) -> dict[str, Any]:
    found = {
        **{"unit": row.unit, "method": method, "label": row.label, "p_value": row.p_value},
        **{"adjusted_p_value": row.adjusted, "passes": row.passes, "examined": row.chosen},
        **{"images": row.images, "shown": row.shown, "told_by": row.told_by},
    }
    parts = ((row.scores, ""), (row.low, "_low"), (row.high, "_high"), (row.chance, "_chance"))
    for values, end in parts:
        found |= {f"{s}{end}": _known(v) for s, v in zip(SCORES, values.tolist(), strict=True)}
    return {**found, "chance": found["correlation_chance"]}


def join(workspace: Path, found: ExamResult) -> None:
    """Say in the tables of the methods themselves, in a column ``exam``, how each label did.

    Of formulas it is ``formula_exam``. Everything else in them stays as it was, byte for byte.
    """
    for method in found.summary["methods"]:
        label, column = ("formula", "formula_exam") if method == "formula" else ("label", "exam")
        verdicts = {(one.unit, one.label): one.verdict for one in found.of(method)}
        for table in _tables(workspace, found.folder.name, method):
            rows = read_csv(table, ("unit", label))
            before = [row.get(column) for row in rows]
            for row in rows:
                row[column] = verdicts.get((int(row["unit"]), row[label]), "")
            if rows and [row[column] for row in rows] != before:
                write_rows(table, rows[0], rows)


def _tables(workspace: Path, folder: str, method: str) -> list[Path]:
    if method in ("dissect", "formula"):
        return [workspace / "dissect" / folder / "units.csv"]
    own = workspace / "label" / folder
    latest = own / "summary.json"
    found = [own / method / "units.csv"]
    if latest.is_file() and read_json(latest).get("from") == method:
        found.append(own / "units.csv")
    return [table for table in found if table.is_file()]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _intervals(row: dict[str, str]) -> dict[str, Any]:
    row = {**row, "correlation_chance": row["chance"]}
    return {
        "intervals": {
            score: tuple(finite(row[f"{score}_{end}"]) for end in _ENDS) for score in SCORES
        }
    }


def read_exam(folder: Path) -> ExamResult:
    """Read the exam of one layer; a damaged file is named (`CnnlensError`)."""
    name, summary = read_summary(folder, REDO)
    rows = read_rows(folder / "units.csv", ExaminedLabel, REDO, _intervals)
    return ExamResult(name, folder, summary, rows)


def read_all_exams(workspace: Path) -> list[ExamResult]:
    """Read every layer whose labels were examined, in the workspace's order."""
    return read_layers(workspace, "exam", read_exam)

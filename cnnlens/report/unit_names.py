"""What a unit is called, name beside name, each with its method, score and exam; and what is lost
without the unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.measure.changed_classes import Effect
from cnnlens.report.ablate_files import read_all_ablations
from cnnlens.report.dissect_files import read_dissections
from cnnlens.report.dissect_result import DissectResult
from cnnlens.report.exam_files import ExaminedLabel, ExamResult, read_all_exams
from cnnlens.report.label_files import LabelResult, read_all_labels
from cnnlens.report.unit_facts import healthy

SOURCES = {
    "dissect": "label maps",
    "formula": "label maps, a formula (p: of its gain)",
    "classes": "class folders",
    "text": "words",
    "given": "a table",
}

Names = dict[str, dict[int, list["Name"]]]  # by layer, by unit


@dataclass(frozen=True)
class Name:
    """A unit's name by one method.

    Attributes
    ----------
    method : str
        "dissect", "formula", "classes", "text", or "given" in a table.
    text : str
        What it says.
    measure, score : str, float or None
        What the method scores it by, and how high.
    is_detector : bool or None
        Whether a dissected unit's score makes it a detector; None of other methods.
    chance, p_value : float or None
        The same where images are shuffled, and how often those reach it.
    verdict : str
        What came out of its exam; empty where there was none.
    exam_score, exam_chance, exam_p_value : float or None
        The correlation on images that chose nothing, by chance, and how often chance reaches it.
    passes : bool
        Whether it passed.
    """

    method: str
    text: str
    measure: str = ""
    score: float | None = None
    is_detector: bool | None = None
    chance: float | None = None
    p_value: float | None = None
    verdict: str = ""
    exam_score: float | None = None
    exam_chance: float | None = None
    exam_p_value: float | None = None
    passes: bool = False

    @property
    def source(self) -> str:
        """What it was made from, for people."""
        return SOURCES.get(self.method, self.method)

    @property
    def words(self) -> str:
        """What it says, and what that is worth: ``bird, correlation 0.62; exam: passes, 0.60``."""
        said = self.text if self.score is None else f"{self.text}, {self.measure} {self.score:.2f}"
        if not self.verdict:
            return said
        exam = "" if self.exam_score is None else f", {self.exam_score:.2f}"
        return f"{said}; exam: {self.verdict}{exam}"

    @property
    def rank(self) -> tuple[float, ...]:
        """Orders names: those that pass their exam first, by its score, then by theirs."""
        return -self.passes, -(self.exam_score or 0.0), -(self.score or 0.0)


def names_of(workspace: Path) -> Names:
    """Gather every name of every unit; nothing of what is damaged, whose own section says so."""
    exams = {layer.name: layer for layer in healthy(read_all_exams, workspace)}
    found: Names = defaultdict(lambda: defaultdict(list))
    for layer, names in _named(workspace):
        verdicts = _verdicts(exams.get(layer.name), layer)
        for unit, name in names:
            exam = verdicts.get((unit, name["method"], name["text"]))
            found[layer.name][unit].append(Name(**name, **_exam(exam)))
    for exam_of in exams.values():
        for one in exam_of.of("given"):
            found[exam_of.name][one.unit].append(Name("given", one.label, **_exam(one)))
    return found


def _verdicts(
    exam: ExamResult | None, layer: DissectResult | LabelResult
) -> dict[tuple[int, str, str], ExaminedLabel]:
    """Give, by unit, method and label, how a layer's labels did; those of earlier runs aside."""
    found = () if exam is None else exam.units
    current = {m: exam is not None and exam.is_about(m, layer.summary) for m in SOURCES}
    return {(o.unit, o.method, o.label): o for o in found if current.get(o.method)}


def _exam(exam: ExaminedLabel | None) -> dict[str, Any]:
    if exam is None:
        return {}
    return {
        "verdict": exam.verdict,
        "exam_score": exam.correlation,
        "exam_chance": exam.chance,
        "exam_p_value": exam.p_value,
        "passes": exam.passes,
    }


def _named(
    workspace: Path,
) -> Iterator[tuple[DissectResult | LabelResult, Iterator[tuple[int, dict[str, Any]]]]]:
    """Yield a layer's results, and of its units what they are called there."""
    for dissected in healthy(read_dissections, workspace):
        yield dissected, _dissected(dissected)
    for labelled in healthy(read_all_labels, workspace):
        yield labelled, _labelled(labelled)


def _dissected(layer: DissectResult) -> Iterator[tuple[int, dict[str, Any]]]:
    chance = (layer.summary.get("chance") or {}).get("mean_iou")
    for one in layer.units:
        if not one.label:
            continue
        known: dict[str, Any] = {"method": "dissect", "text": one.label, "measure": "IoU"}
        scored = {"score": one.iou, "is_detector": one.is_detector}
        yield one.unit, known | scored | {"chance": chance, "p_value": one.p_value}
        if one.formula and (one.formula_length or 1) > 1:
            known |= {"method": "formula", "text": one.formula}
            yield one.unit, known | {"score": one.formula_iou, "p_value": one.formula_p_value}


def _labelled(layer: LabelResult) -> Iterator[tuple[int, dict[str, Any]]]:
    method = str(layer.summary.get("from", "classes"))
    for one in layer.units:
        if one.label:
            known: dict[str, Any] = {"method": method, "text": one.label, "measure": "correlation"}
            known |= {"score": one.score, "chance": one.chance, "p_value": one.p_value}
            yield one.unit, known


def effects_of(workspace: Path) -> dict[str, dict[int, Effect]]:
    """Gather what it hurts most to lose each unit, by layer and unit."""
    return {
        layer.name: {one.unit: one.worst for one in layer.units if one.unit is not None}
        for layer in healthy(read_all_ablations, workspace)
    }

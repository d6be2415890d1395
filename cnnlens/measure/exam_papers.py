"""One exam from activations to marks: of labels that are given, or that a method chooses on the
images that choose. A network's units go this way, those of its random twin, and planted ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.data.broden import Broden
from cnnlens.errors import CnnlensError, counted
from cnnlens.measure.dissect import dissect_steps
from cnnlens.measure.dissection import Dissection
from cnnlens.measure.distinct import Among
from cnnlens.measure.exam import Exam, Sheet, examine
from cnnlens.measure.exam_maps import MapTruth, OverlapCounter, concept_names
from cnnlens.measure.exam_truth import Claim, class_truth
from cnnlens.measure.linear_labels import Parts, class_concepts, split
from cnnlens.measure.meaning import Meaning, read_meaning
from cnnlens.measure.planted import Planted, plant_classes, plant_maps
from cnnlens.measure.unit_labels import label_steps, responses
from cnnlens.progress import Step, followed
from cnnlens.settings import DissectSettings, LabelSettings
from cnnlens.settings.exam import ExamSettings

_LEAST = 8  # images that choose, and that examine


@dataclass(frozen=True)
class Given:
    """A label as its method wrote it: of a category of labels, or with its terms' weights."""

    unit: int
    label: str
    category: str = ""
    terms: tuple[tuple[str, float], ...] = ()


class Paper(Protocol):
    """The exam of one method's labels on one set of images."""

    @property
    def known(self) -> Mapping[str, str]:
        """What labels may name."""
        ...

    def steps(
        self, source: Source, given: Sequence[Given] | None = None
    ) -> Generator[Step, None, Sheet]:
        """Examine the labels given, or those chosen on the images that choose."""
        ...

    def plant(self, positions: np.ndarray, extent: tuple[int, int]) -> Planted:
        """Make artificial units on images at `positions`, of maps as large as `extent`."""
        ...


def _read(given: Given, known: Mapping[str, str]) -> Meaning:
    if given.terms and all(name in known for name, _ in given.terms):
        return Meaning(given.terms)
    whole = f"{given.category}:{given.label}"
    return read_meaning(whole if given.category and whole in known else given.label, known)


def claims_of(
    given: Sequence[Given], known: Mapping[str, str], chosen: Mapping[int, Given] | None = None
) -> tuple[list[Claim], list[str]]:
    """Read labels; those that name what the data does not know are left out, and said.

    Where labels were `chosen` anew, by unit, those are examined in their place; where nothing was,
    the label is, and cannot pass.
    """
    claims, left = [], []
    for one in filter(lambda one: one.label, given):
        anew = one if chosen is None else chosen.get(one.unit)
        try:
            own = _read(one, known)
            meaning = own if anew is None else _read(anew, known)
        except CnnlensError as error:
            left.append(f"unit {one.unit}: {error.message}{error.hint and f'; {error.hint}'}")
            continue
        name = "" if anew is None else anew.label
        same = anew is not None and meaning.canonical == own.canonical
        claims.append(Claim(one.unit, one.label, meaning, one.label if same else name))
    return claims, left


def _concepts(found: Dissection) -> dict[int, Given]:
    """Each unit's best concept."""
    names = found.concepts.names
    best = {unit: names[at] for unit, at in enumerate(found.best.tolist()) if at >= 0}
    return {unit: Given(unit, of.label, of.category) for unit, of in best.items()}


def _formulas(found: Dissection) -> dict[int, Given]:
    """Each unit's best formula."""
    words, formulas = found.concepts.words, found.formulas.found if found.formulas else ()
    return {unit: Given(unit, one.formula.words(words)) for unit, one in enumerate(formulas) if one}


def halves(images: int, seed: int) -> Parts:
    """Part images in those that choose and those that examine, by chance.

    Raises
    ------
    CnnlensError
        When there are fewer than 16.
    """
    if images < 2 * _LEAST:
        raise CnnlensError(
            f"{counted(images, 'image')}: too few to choose on some and examine on others",
            f"give {2 * _LEAST} or more",
        )
    order = np.random.default_rng(seed).permutation(images)
    choose, held = np.split(order, [images // 2])
    return Parts(np.sort(choose), np.zeros(0, np.int64), np.sort(held))


@dataclass(frozen=True)
class ClassPaper:
    """Labels held against classes and groups of classes.

    Attributes
    ----------
    categories : sequence of str
        Of every image of the data, by position.
    groups : mapping of str to sequence of str
        Classes of each group.
    naming : LabelSettings
        How `label` names units: which images choose, too.
    settings : ExamSettings
        Of the exam.
    """

    categories: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    naming: LabelSettings
    settings: ExamSettings

    @property
    def known(self) -> Mapping[str, str]:
        """Classes and groups of classes."""
        return {name: name for name in (*sorted(set(self.categories)), *self.groups)}

    def steps(
        self, source: Source, given: Sequence[Given] | None = None
    ) -> Generator[Step, None, Sheet]:
        """Examine the labels given, or those that `label` chooses."""
        if given is None:
            naming = replace(self.naming, chance=0)
            found = yield from label_steps(source, self.categories, self.groups, naming)
            given = [Given(row.unit, row.label, "", row.terms) for row in found.rows]
        response = self.naming.response
        values, positions = yield from responses(source, len(self.categories), response)
        of = [self.categories[at] for at in positions.tolist()]
        names, concepts = class_concepts(of, self.groups)
        claims, left = claims_of(given, {name: name for name in names})
        truth = class_truth(list(dict.fromkeys(c.meaning for c in claims)), names, concepts)
        exam = Exam(values, truth, split(len(values), self.naming.seed), self.settings)
        return (yield from examine(exam, claims, left_out=left, iou_of="images"))

    def plant(self, positions: np.ndarray, extent: tuple[int, int]) -> Planted:
        """Make units of classes, of one position each."""
        s, of = self.settings, [self.categories[at] for at in positions.tolist()]
        return plant_classes(of, self.groups, positions, s.planted, s.signal, s.seed)


@dataclass(frozen=True)
class MapPaper:
    """Labels held against label maps.

    Attributes
    ----------
    data : Broden
        With label maps.
    naming : DissectSettings
        How `dissect` names units.
    settings : ExamSettings
        Of the exam.
    workers : int
        Threads that read labels.
    chooses : bool
        Whether labels that are given were chosen on these images: then those are examined that
        the same rule chooses without the images that examine.
    formula : bool
        Whether labels are formulas.
    """

    data: Broden
    naming: DissectSettings
    settings: ExamSettings
    workers: int = 4
    chooses: bool = True
    formula: bool = False

    @cached_property
    def known(self) -> Mapping[str, str]:
        """Concepts by label, and by ``category:label``."""
        return concept_names(self.data)

    def steps(
        self, source: Source, given: Sequence[Given] | None = None
    ) -> Generator[Step, None, Sheet]:
        """Examine the labels given, or those that `dissect` chooses."""
        count = len(self.data.paths)
        values, positions = yield from responses(source, count, self.settings.response)
        parts = halves(len(values), self.settings.seed)
        choose = positions[np.union1d(parts.fit, parts.choose)]
        length = self.naming.formula if self.formula else 0
        naming = replace(self.naming, chance=0, top=0, formula=length)
        (found,) = yield from dissect_steps(Among(source, choose), self.data, naming, self.workers)
        chosen = _formulas(found) if self.formula else _concepts(found)
        own = list(chosen.values()) if given is None else given
        claims, left = claims_of(own, self.known, chosen if given is None or self.chooses else None)
        maps = MapTruth(self.data, list(dict.fromkeys(c.meaning for c in claims)))
        yield from maps.steps(positions, parts.held)
        exam = Exam(values, maps.truth, parts, self.settings)
        counter = OverlapCounter(exam, claims, maps, found.thresholds, positions)
        for step in Among(source, positions[parts.held]).sweep([counter]):
            yield Step(step.done, step.total, "overlaps")
        more = {"left_out": left, "iou_of": "pixels", "skipped_labels": maps.skipped}
        return (yield from examine(exam, claims, counter.overlaps, **more))

    def plant(self, positions: np.ndarray, extent: tuple[int, int]) -> Planted:
        """Make units of label maps."""
        s = self.settings
        return plant_maps(self.data, positions, extent, s.planted, s.signal, s.seed)


def exam(
    source: Source,
    labels: Mapping[int, str],
    truth: Sequence[str] | Broden,
    groups: Mapping[str, Sequence[str]] | None = None,
    settings: ExamSettings | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Sheet:
    """Examine labels of the units of a source's first layer, on images that chose none of them.

    Parameters
    ----------
    source : Source
        Activations of one layer, on images that are there once (see `distinct`).
    labels : mapping of int to str
        By unit: a concept, a sum ``a + b``, or a formula ``(a OR b) AND NOT c``.
    truth : sequence of str, or Broden
        The class of every image, by position; or data with label maps.
    groups : mapping of str to sequence of str, optional
        Classes of each group that labels may name.
    settings : ExamSettings, optional
        Shuffles, resamples, seed. Three tenths of the images examine (with label maps half); the
        others say from which value on a unit says so.
    progress : callable, optional
        Called often with a Step.

    Raises
    ------
    CnnlensError
        When there are too few images.

    Notes
    -----
    Scores: Oikarinen, Yan & Weng, "Evaluating Neuron Explanations", ICML 2025.
    """
    settings = settings or ExamSettings()
    paper: Paper
    if isinstance(truth, Broden):
        paper = MapPaper(truth, DissectSettings(), settings, chooses=False)
    else:
        naming = LabelSettings(response=settings.response, seed=settings.seed)
        paper = ClassPaper(truth, groups or {}, naming, settings)
    given = [Given(unit, label) for unit, label in sorted(labels.items())]
    return followed(paper.steps(source, given), progress)

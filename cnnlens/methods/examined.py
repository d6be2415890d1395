"""Which labels there are of a layer, and the images that each method's are examined on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import mark
from cnnlens.methods.measurement import EACH_ONCE
from cnnlens.methods.named_by import VECTORS
from cnnlens.settings import DissectSettings, ExamSettings, LabelSettings, TextSettings
from cnnlens.study.images import ANY

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.measure.exam_papers import Given, Paper
    from cnnlens.model.layer import Layer
    from cnnlens.study.session import Study

KINDS = ("broden", "classes", "parts")  # of data that tell whether a label is there


@dataclass(frozen=True)
class LabelSet:
    """One method's labels of a layer.

    Attributes
    ----------
    method : str
        "classes", "text", "dissect", "formula", or "given".
    given : list of Given
        The labels.
    made_from : mapping
        What they depend on, as their method says it.
    groups : mapping
        Groups of classes that they may name.
    kept_vectors : mapping
        Names from words: where the vectors are that chose them.
    """

    method: str
    given: list[Given]
    made_from: Mapping[str, Any]
    groups: Mapping[str, list[str]] = field(default_factory=dict)
    kept_vectors: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of data that tell whether its labels are there."""
        return ANY if self.kept_vectors else KINDS

    def is_of(self, images: ImageSet) -> bool:
        """Whether they were chosen on these very images."""
        return self.made_from.get("data") == images.fingerprint

    def is_outdated(self, images: ImageSet) -> bool:
        """Whether what labels these very images (label maps, classes) has changed since."""
        theirs = self.made_from.get("labels", images.labels_fingerprint)
        return self.is_of(images) and theirs != images.labels_fingerprint

    def settings(self, kind: Any) -> Any:
        """Its method's settings, as far as it says them."""
        said = self.made_from.get("settings") or {}
        known = {field.name for field in fields(kind)}
        return kind(**{name: value for name, value in said.items() if name in known})


@dataclass(frozen=True)
class Task:
    """One method's labels, the images they are examined on, and how."""

    labels: LabelSet
    images: ImageSet
    paper: Paper

    @property
    def chose(self) -> bool:
        """Whether the labels were chosen on these very images."""
        return self.labels.is_of(self.images)

    @property
    def is_stale(self) -> bool:
        """Whether `label` chose them before it took equal images once."""
        return (
            self.chose
            and self.labels.method in ("classes", "text")
            and not (EACH_ONCE.items() <= self.labels.made_from.items())
        )

    @property
    def key(self) -> dict[str, Any]:
        """What the marks depend on beside network, layer and settings."""
        from cnnlens.report.exam_files import chosen_by

        given = [(g.unit, g.label, g.category, g.terms) for g in self.labels.given]
        return {
            "labels": mark(given),
            **chosen_by(self.labels.made_from, self.labels.groups),
            "data": self.images.fingerprint,
            "planes": self.images.labels_fingerprint,
        }


def label_sets(workspace: Path, layer: Layer) -> list[LabelSet]:
    """Read the labels of every method that has named a layer's units."""
    return [*_dissected(workspace, layer), *_named(workspace, layer)]


def _dissected(workspace: Path, layer: Layer) -> Iterator[LabelSet]:
    from cnnlens.measure.exam_papers import Given
    from cnnlens.report.dissect_files import read_dissection

    folder = workspace / "dissect" / layer.folder
    if (folder / "summary.json").is_file():
        found = read_dissection(folder)
        given = [Given(u.unit, u.label, u.category) for u in found.units if u.label]
        made_from = found.summary.get("made_from") or {}
        yield LabelSet("dissect", given, made_from)
        if given := [Given(u.unit, u.formula) for u in found.units if u.formula]:
            yield LabelSet("formula", given, made_from)


def _named(workspace: Path, layer: Layer) -> Iterator[LabelSet]:
    from cnnlens.measure.exam_papers import Given
    from cnnlens.report.label_files import read_layer_labels

    for found in read_layer_labels(workspace / "label" / layer.folder):
        given = [Given(u.unit, u.label, "", tuple(u.terms)) for u in found.units if u.label]
        s = found.summary
        known = (s.get(name) or {} for name in ("made_from", "groups", "kept_vectors"))
        yield LabelSet(found.source, given, *known)


# ---- on which images, and how


def images_of(study: Study, labels: LabelSet, asked: Path | None) -> ImageSet:
    """Open the images that were named, else those that the labels were made on.

    Raises
    ------
    UsageError
        When neither is there, or they are labelled otherwise than when the labels were chosen.
    """
    if asked is None and labels.made_from.get("data") is not None:
        images = _made_on(study, labels)
    else:
        images = study.images(asked, labels.kinds)
    if labels.is_outdated(images):
        raise UsageError(
            f"{images.name} is labelled otherwise than when the labels of '{labels.method}' were "
            "made on it",
            "redo the labels, or name other images with classes or label maps with -d DIR",
        )
    return images


def _made_on(study: Study, labels: LabelSet) -> ImageSet:
    for entry in reversed(study.workspace.document["data"]):
        with suppress(CnnlensError):  # it was moved away
            images = study.remembered(entry) if entry["kind"] in labels.kinds else None
            if images is not None and labels.is_of(images):
                return study.images(images, labels.kinds, default=False)
    raise UsageError(
        f"the images that the labels of '{labels.method}' were made on are gone or changed",
        "redo the labels, or name images with classes or label maps with -d DIR",
    )


def paper_of(study: Study, labels: LabelSet, images: ImageSet, settings: ExamSettings) -> Paper:
    """Say how labels are held against images.

    Raises
    ------
    UsageError
        When these tell nothing.
    CnnlensError
        When the vectors are gone that chose names from words.
    """
    from cnnlens.data.broden import Broden
    from cnnlens.measure.exam_papers import ClassPaper, MapPaper

    if labels.kept_vectors and labels.is_of(images):
        return _word_paper(study, labels, images, settings)
    if isinstance(images, Broden):
        naming, formula = labels.settings(DissectSettings), labels.method == "formula"
        workers, chooses = study.run.workers, labels.is_of(images)
        return MapPaper(images, naming, settings, workers, chooses, formula)
    if images.image_categories is None:
        raise UsageError(
            f"{images.name} tells nothing of what is on its images",
            "name images with classes or label maps with -d DIR",
        )
    named = labels.settings(LabelSettings) if labels.method in ("classes", "text") else None
    naming = named or LabelSettings(response=settings.response, seed=settings.seed)
    return ClassPaper(images.image_categories, _groups(labels, images), naming, settings)


def _word_paper(study: Study, labels: LabelSet, images: ImageSet, settings: ExamSettings) -> Paper:
    from cnnlens.activations.encoded import Kept
    from cnnlens.measure.exam_words import WordPaper

    kept = Kept(**labels.kept_vectors)
    vectors = kept.read(study.workspace.path / VECTORS, len(images.paths))
    text = TextSettings(labels.made_from["text"]["method"])
    return WordPaper(images, vectors, labels.settings(LabelSettings), text, settings)


def _groups(labels: LabelSet, images: ImageSet) -> dict[str, list[str]]:
    known = set(images.image_categories or ())
    return {name: of for name, of in labels.groups.items() if known.issuperset(of)}


def readable(task: Task) -> tuple[Task, list[str]]:
    """Leave out labels that name what the images do not tell of; say why."""
    from cnnlens.measure.exam_papers import claims_of

    claims, left = claims_of(task.labels.given, task.paper.known)
    units = {claim.unit for claim in claims}
    kept = [one for one in task.labels.given if one.unit in units]
    return replace(task, labels=replace(task.labels, given=kept)), left


def said_of(left: Sequence[str], task: Task) -> str:
    """Say which labels were left out."""
    more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    name = task.images.name
    return f"{task.labels.method}: {left[0]}{more}: not in {name}, not examined"

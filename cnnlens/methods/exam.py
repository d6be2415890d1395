"""``cnnlens exam``: how true labels are on images that chose nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError, counted
from cnnlens.methods.examined import (
    Task,
    images_of,
    label_sets,
    paper_of,
    readable,
    said_of,
)
from cnnlens.methods.measurement import EACH_ONCE, Measurement
from cnnlens.methods.method import LayersInputs, Results, page_part
from cnnlens.methods.pasted import pasted
from cnnlens.progress import Step, relayed
from cnnlens.settings import ExamSettings
from cnnlens.settings.option import option

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.measure.exam import LayerExam, Sheet
    from cnnlens.measure.exam_papers import Paper
    from cnnlens.model.layer import Layer


@dataclass(frozen=True)
class ExamInputs(LayersInputs):
    """Which layers, which labels, which images."""

    labels: Path | None = option(
        None,
        "A table with the columns unit,label to be examined in place of the workspace's labels.",
        metavar="FILE.csv",
        panel="What",
    )
    twin: bool = option(
        False, "Name and examine the same network with random weights, too.", off="-"
    )


class Exam(Measurement):
    """Hold labels against images that chose nothing.

    Every label of the layers' units, of whichever method, is scored on images it was not chosen
    on, beside the same with images shuffled. It passes where its correlation with the unit is rare
    by chance: p < .01 after Benjamini and Hochberg over the units.
    """

    name, panel = "exam", "Measure units"
    asks, settings_types = ExamInputs, (ExamSettings,)
    vectors, pictured = True, ""
    sections = (("exam", page_part("exam_section.marks")),)
    examples = (
        "cnnlens exam -l layer4",
        "cnnlens exam -l layer4 --planted 20 --twin",
        "cnnlens exam -l layer4 --labels mine.csv -d photos/",
    )
    reader = "exam_files.read_exam"

    def resolve(self) -> None:
        """Find layers, their labels, and images that tell whether those are true."""
        self.layers = self.study.layers(self.asked.layer, self.vectors)
        self.tasks = {layer: self._tasks(layer) for layer in self.layers}
        self.images = self.tasks[self.layers[0]][0].images

    def _tasks(self, layer: Layer) -> list[Task]:
        study, asked = self.study, self.asked
        if asked.labels is not None and len(self.layers) > 1:
            raise UsageError("--labels names units of one layer", "name it with -l LAYER")
        if asked.labels:
            given, notes = pasted(asked.labels, layer, study.addresses)
            sets = [given]
            for note in notes:
                study.voice.note(note)
        else:
            sets = label_sets(study.workspace.path, layer)
        if not any(one.given for one in sets):
            raise UsageError(
                f"no labels of {layer.name} in {study.workspace.path}",
                "run `cnnlens dissect` or `cnnlens label` first, or name --labels FILE.csv",
            )
        found = []
        for one in (one for one in sets if one.given):
            images = images_of(study, one, asked.data)
            paper = paper_of(study, one, images, self.settings)
            task, left = readable(Task(one, images, paper))
            if left:
                study.voice.note(said_of(left, task))
            found += [task] if task.labels.given else []
        if not found:
            raise UsageError(
                f"{images.name} tells of none of the labels of {layer.name}",
                "name images with classes or label maps that they speak of with -d DIR",
            )
        return found

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name network and settings, and of each method labels, images and how they chose."""
        tasks = {
            task.labels.method: {**task.key, **self.rounded(layer, task.images)}
            for task in self.tasks[layer]
        }
        key = self.study.key(layer, None, settings=self.settings.as_dict())
        squash = {task.labels.method: task.images.aligned for task in self.tasks[layer]}
        return {**key, **EACH_ONCE, "methods": tasks, "squash": squash, "twin": self.asked.twin}

    def plan(self) -> str:
        """Say which labels are examined on what."""
        if done := ", ".join(layer.name for layer in self.layers if layer not in self.todo):
            self.study.voice.note(
                f"{done}: examined before with these settings (--force redoes it)"
            )
        said = [
            f"{counted(len(task.labels.given), 'label')} of '{task.labels.method}' of "
            f"{layer.name} on {task.images.name}"
            for layer in self.todo
            for task in self.tasks[layer]
        ]
        return "; ".join(said)

    def work(self) -> Iterator[Step]:
        """Examine what is missing, method by method."""
        from cnnlens.measure.exam import LayerExam

        for layer in self.todo:
            sheets, skipped = {}, []
            for task in self.tasks[layer]:
                sheet, lost = yield from self._examined(layer, task)
                sheets[task.labels.method] = sheet
                skipped += lost
            yield from self._keep(layer, LayerExam(layer.units, sheets), skipped)

    def _examined(
        self, layer: Layer, task: Task
    ) -> Generator[Step, None, tuple[Sheet, list[tuple[str, str]]]]:
        from cnnlens.activations.sources import StoreSource
        from cnnlens.measure.distinct import among
        from cnnlens.report.trained import seen_in_training

        study, images = self.study, task.images
        yield from study.fill(images, [layer], self.stored, force=study.force)
        with study.stored(images, layer).open() as store:
            source = StoreSource([store])
            once = yield from self.each_once(source, layer, images)
            sheet = yield from task.paper.steps(among(source, once), task.labels.given)
            positions, skipped = store.positions if once is None else once, [*source.skipped]
        sheet.more.update({"data": images.name, "chose": task.chose})
        if said := seen_in_training(study.model.spec, images):
            study.voice.note(said)
            sheet.more["trained_on"] = said
        if once is not None and task.is_stale:
            study.voice.note(
                f"the labels of '{task.labels.method}' were chosen on copies of images that "
                "examine, by an earlier version: redo `cnnlens label`"
            )
        if self.settings.planted:
            planted = yield from self._planted(task.paper, positions, layer)
            sheet.more["planted"] = planted
        if self.asked.twin:
            sheet.more["twin"] = yield from self._twin(layer, task, once)
        return sheet, skipped

    def _planted(
        self, paper: Paper, positions: np.ndarray, layer: Layer
    ) -> Generator[Step, None, list[dict[str, Any]]]:
        """Name and examine artificial units."""
        from cnnlens.measure.planted import found_of

        planted, whole = paper.plant(positions, layer.shape[1:]), getattr(paper, "formula", False)
        sheet = yield from relayed(
            paper.steps(planted), lambda step: replace(step, stage=f"planted: {step.stage}")
        )
        return [asdict(one) for one in found_of(planted, sheet, whole)]

    def _twin(
        self, layer: Layer, task: Task, once: np.ndarray | None
    ) -> Generator[Step, None, dict[str, Any]]:
        """Name and examine the units of the same network with random weights."""
        from cnnlens.activations.extract import StoredLayer, extract
        from cnnlens.activations.sources import StoreSource
        from cnnlens.measure.distinct import among
        from cnnlens.model.twin import untrained

        twin = untrained(self.study.model, self.settings.seed)
        given = task.labels.given if task.labels.method == "given" else None
        with TemporaryDirectory(prefix="cnnlens-") as name:
            folder = Path(name)
            yield from extract(twin, task.images, [layer], folder, run=self.study.run)
            with StoredLayer(twin, task.images, layer, folder).open() as store:
                steps = task.paper.steps(among(StoreSource([store]), once), given)
                sheet = yield from relayed(
                    steps, lambda step: replace(step, stage=f"random twin: {step.stage}")
                )
        kept = ("labels", "tested", "passes", "share", "share_by_chance", "mean")
        summary = sheet.summary()
        return {name: summary[name] for name in kept}

    def write(self, folder: Path, layer: Layer, found: LayerExam) -> Iterator[int]:
        """Write the table."""
        from cnnlens.report.exam_files import write_exam

        write_exam(folder, found)
        yield from ()

    def close(self) -> None:
        """Read the summaries; say in the tables of the methods how each label did."""
        from cnnlens.report.exam_files import join

        super().close()
        for layer in self.layers:
            if layer.name in self.summaries:
                join(self.study.workspace.path, self.read(self.folder(layer)))

    def show(self, results: Results) -> None:
        """Show how many labels of each method pass, on which images, and what was planted."""
        from cnnlens.report.exam_section import COLUMNS, images_said, pass_rows, planted_said

        for name, summary in self.summaries.items():
            methods = summary["methods"]
            title = f"{name}: labels on images that chose nothing"
            results.table(COLUMNS, list(pass_rows(methods)), title=title)
            for method, of in methods.items():
                results.say(f"{method}: {images_said(of)}")
                if of.get("planted"):
                    said = planted_said(of["planted"], self.settings.signal)
                    results.say(f"{method}: {said}")
        results.say(f"tables: {self.study.folder(self.name)}")

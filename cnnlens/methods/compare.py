"""``cnnlens compare``: two or more models side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.picture_names import shown_path
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.progress import Step, staged
from cnnlens.settings.inputs import data_input, filters_input, layers_input, out_input
from cnnlens.settings.measure import CompareSettings
from cnnlens.settings.option import option
from cnnlens.settings.run import ORDERS, ModelSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet


@dataclass(frozen=True)
class CompareInputs(Inputs):
    """Which workspaces, layers and units."""

    others: tuple[Path, ...] = option(
        (), "The others, one or more.", metavar="WORKSPACE", argument=True
    )
    layer: tuple[str, ...] = layers_input(
        "A layer that was measured in each, or one per workspace: conv5,conv6; repeatable.",
        shown="all that they have in common",
    )
    filters: tuple[str, ...] = filters_input(
        "Units whose pictures stand side by side: conv5:12, conv5:0-15, conv5:3,7,9; repeatable.",
        shown="the best of each",
    )
    data: Path | None = data_input(
        "Class folders to measure every model's accuracy on. "
        "Default: what fine-tuning left in new.json."
    )
    classes: str | None = option(
        None,
        "What every model's outputs are called, in order: a file (one name per line, a JSON list "
        "or index map), imagenet; or natural, alphabetical: the class folders in that order.",
        metavar="FILE|NAME",
        shown="what each workspace knows",
    )
    held_out: str | None = option(
        None,
        "all: every image of --data, those that a network was trained on included.",
        metavar="all",
        shown="those that fine-tuning held out, where it was on these images",
    )
    out: Path = out_input("cnnlens-compare", "Folder for compare.html, compare.json, compare.csv.")


class Compare(Method):
    """Compare models side by side.

    Which of two or more workspaces is better at what, by how much, and within noise or not:
    accuracy, detectors, location instability, part interpretability, selectivity, dead units, how
    classes cluster and whether their trees agree, each with chance and with an interval; and the
    same units' pictures beside each other. Dissect, or run stability or cluster, in each first.
    """

    name, panel = "compare", "Results"
    asks, settings_types = CompareInputs, (CompareSettings,)
    sections = (("compare", page_part("side_by_side.side_by_side")),)
    opens_model = False
    forces = "compare what was measured on other data, too"
    examples = (
        "cnnlens compare ordinary icnn",
        "cnnlens compare ordinary icnn -l relu4 -d cub/val --out ordinary/compare",
    )

    def resolve(self) -> None:
        """Read what every workspace holds; compare what was measured there."""
        from cnnlens.measure.accuracy import classes_of
        from cnnlens.measure.compared import compare_models, match_layers, not_recorded, units_named
        from cnnlens.report.compare_files import read_models, units_to_show

        first, asked, top = self.study, self.asked, self.settings.top
        if asked.classes and asked.data is None:
            raise UsageError("--classes names what --data is held against", "name it with -d DIR")
        if asked.held_out not in (None, "all"):
            raise UsageError(f"--held-out {asked.held_out}", "it is all, or left out")
        paths = [first.workspace.path, *map(Path, asked.others)]
        self.models = read_models(paths)
        self.images = None if asked.data is None else self._unseen(asked.data)
        self.layers = match_layers(self.models, asked.layer)
        named = units_named(asked.filters, self.layers)
        shown = named or {name: units_to_show(rows, top) for name, rows in self.layers.items()}
        self.found = compare_models(self.models, self.layers, self.settings, first.force)
        self.found["shown"], read = shown, list[str]()
        if self.images is not None:
            self.found["cautions"] += not_recorded(self.models)
            classes_of(self.images)
            read = self._open_networks(paths, self.images)
        for line in (*self.found["unlike"], *self.found["remarks"]):
            first.voice.note(line)
        self.found["remarks"] += read

    def _open_networks(self, paths: list[Path], images: ImageSet) -> list[str]:
        """Open the networks that accuracy is asked of; how each reads the images' classes."""
        first, read = self.study, dict[str, None]()  # sentences, each once
        named_so = self.asked.classes or first.opening.classes
        first.opening = replace(first.opening, classes=named_so)
        others = (
            Study(Workspace(one), None, ModelSettings(classes=named_so), first.run, first.voice)
            for one in paths[1:]
        )
        self.studies = [first, *others]
        for study in self.studies:
            _check_model(study)
            if named_so in ORDERS:
                study.name_classes(images)
            elif study.model.classes and not study.model.has_assumed_classes:
                read |= dict.fromkeys(study.read_classes(images).values())
        return list(read)

    def _unseen(self, data: Path) -> ImageSet:
        """Open the images; where networks were trained on them, those that all have held out."""
        from cnnlens.measure.compared import held_out_of_all

        images = self.study.images(data, remember=False)
        rows = held_out_of_all(self.models, images.fingerprint)
        self.held_out = rows is not None and self.asked.held_out is None
        if rows is None or not self.held_out:
            return images
        if not rows:
            raise CnnlensError(
                f"of {data} no image was held out of every training",
                "name other images, or take all of these with --held-out all",
            )
        self.study.voice.note(
            f"accuracy: {len(rows)} of {len(images.paths)} images, which fine-tuning held out "
            "(--held-out all: all of them)"
        )
        return images.take(rows, "held-out")

    def work(self) -> Iterator[Step]:
        """Measure accuracies where images were named; write the comparison."""
        from cnnlens.measure.accuracy import accuracy_steps
        from cnnlens.measure.verdict import conclude
        from cnnlens.report.side_by_side import write_comparison

        images, found = self.images, self.found
        if images is not None:
            for who, study in zip(found["workspaces"], self.studies, strict=True):
                steps = accuracy_steps(study.model, images, self.settings.level, study.run)
                accuracy = yield from staged(f"accuracy of {who['name']}", steps)
                of = {"source": shown_path(images.root), "held_out": self.held_out}
                who["accuracy"] = {**accuracy.as_dict(), **of}
            conclude(found)
        for line in found["warnings"]:
            self.study.voice.note(line)
        self.html = write_comparison(self.asked.out, self.models, self.layers, found)
        self.summaries = {"compare": found}

    def result(self) -> Any:
        """Return the comparison."""
        from cnnlens.report.side_by_side import Comparison

        return Comparison(self.found)

    def show(self, results: Results) -> None:
        """Show every quantity, model by model."""
        from cnnlens.report.compare_files import tables

        for line in self.found["verdict"]:
            results.say(line)
        for columns, rows, title in tables(self.found):
            results.table(columns, rows, title=title)
        results.say(f"page: {self.html}")


def _check_model(study: Study) -> None:
    if study.spec is None and study.workspace.model_options is None:
        raise CnnlensError(f"{study.workspace.path} knows no model to measure", "leave out --data")

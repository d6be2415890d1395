"""``cnnlens outliers``: what images are predicted as that belong to none of the classes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.files import mark
from cnnlens.files.ledger import MADE_FROM, Item
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings import ExtractSettings
from cnnlens.settings.cluster import OutlierSettings
from cnnlens.settings.inputs import data_input, layer_input
from cnnlens.study.workspace_data import is_entry_of, is_strange

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.activations.extract import StoredLayer
    from cnnlens.data.dataset import ImageSet
    from cnnlens.report.outlier_files import OutlierResult

FILE = "outliers.json"
_CLUSTERS = 3  # raised where more is measured of clusters: earlier ones are redone


@dataclass(frozen=True)
class OutlierInputs(Inputs):
    """Which images, and where known ones are measured."""

    data: Path | None = data_input(
        "Images that belong to none of the classes, flat or in class subfolders. Left out: noise "
        "alone."
    )
    layer: str | None = layer_input(
        "Where regions and clusters are measured. Default: the workspace's last one, else the last "
        "that finetune made mean something, else last."
    )


class Outliers(Method):
    """What out-of-sample images and noise are predicted as.

    Which class does noise fall to, against the class's bias and its region's radius? Do clusters
    of the workspace's class folders match their categories?
    """

    name, panel = "outliers", "Look at a layer"
    asks, settings_types = OutlierInputs, (OutlierSettings,)
    sections = (("outliers", page_part("outlier_files.outliers")),)
    _SCORES, _NAMES = "model.classes.probe_scores", "model.classes.probe_names"
    probes = (("", _SCORES, "activations.sources.probe", _NAMES),)
    examples = (
        "cnnlens outliers model.pt --noise 500",
        "cnnlens outliers -d strangers/ -l layer4",
    )

    def resolve(self) -> None:
        """Find images and the layer; see that the network gives scores."""
        from cnnlens.model.classes import count_scores

        study, asked = self.study, self.asked
        if asked.data is None and not self.settings.noise:
            raise UsageError("neither images nor noise were asked for", "name images with -d DIR")
        # out-of-sample images never become the data of other commands
        self.strange = None if asked.data is None else study.images(asked.data, default=False)
        count = count_scores(study.model)
        self.is_two_sided, self._outputs = count == 1, count
        if not count:
            raise CnnlensError(
                f"{study.model.arch} returns no class scores, so it predicts no class",
                "name a classifier",
            )
        self.layer = study.layer(asked.layer)
        self.own = self._own()
        if self.own is not None:
            study.name_classes(self.own)
        self.known = self._known()
        if self.known and self.strange:
            from cnnlens.report.outlier_files import no_strangers

            said = no_strangers(self.known, self.strange.name)
            study.voice.note(f"{said}; name others with -d DIR")
        self.folder = study.folder("outliers")

    def _known(self) -> list[str]:
        """Categories of the out-of-sample images that are classes of the network, by name.

        Where its outputs have none, folders of known images say what its classes are.
        """
        from cnnlens.model.matching import named_outputs
        from cnnlens.model.two_sided import side_names

        categories = sorted(set((self.strange and self.strange.image_categories) or ()))
        own = sorted(set((self.own and self.own.image_categories) or ()))
        classes = side_names(self.study.model.classes, own) if self.is_two_sided else None
        return list(named_outputs(categories, classes or self.study.model.classes or own))

    def _own(self) -> ImageSet | None:
        """The workspace's last data set with categories that is neither the strange one nor was one
        before.
        """
        from cnnlens.data.paths import is_data

        workspace = self.study.workspace
        for entry in reversed(workspace.document["data"]):
            mine = self.strange is None or not is_entry_of(entry, self.strange)
            mine = mine and not is_strange(entry)
            there = workspace.holds(entry) or is_data(entry["path"])
            if entry["kind"] in ("classes", "parts") and mine and there:
                images = self.study.remembered(entry)
                return images if images.image_categories else None
        return None

    @cached_property
    def item(self) -> Item:
        """What is made, from what; equal inputs, equal results."""
        from cnnlens.cluster.outliers import FEW
        from cnnlens.model.ending import SIGMOID, link_mark

        regions = len(set((self.own and self.own.image_categories) or ())) or self._outputs
        few = min(self._outputs, regions) <= FEW
        exact: dict[str, Any] = {"p_values": "exact"} if few else {}  # as earlier ones were not
        made_from = self.study.key(
            self.layer,
            settings=self.settings.as_dict(),
            classes=mark(self.study.model.classes),
            own=self.own and self._stored(self.own).about(),
            clusters=_CLUSTERS if self.own else None,
            strange=self.strange and self._stored(self.strange).about(),
            **exact,
            **self.study.head,
            **link_mark(self.study.model, SIGMOID),
        )
        noise = ("noise.png",) if self.settings.noise else ()
        return Item(FILE, made_from, ("predictions.png", *noise))

    def _stored(self, images: ImageSet) -> StoredLayer:
        return self.study.stored(images, self.layer)

    def plan(self) -> str:
        """Say what is predicted and measured, or that it was before."""
        strange, own = self.strange, self.own
        self.made = self.study.ledger("outliers", file=FILE, listed="").is_made(self.item)
        if self.made:
            self.study.voice.note("outliers: done before with these settings (--force redoes it)")
            return ""
        noise = f"{self.settings.noise} random images of each kind" if self.settings.noise else ""
        parts = (
            strange and f"{counted(len(strange.paths), 'image', ',')} of {strange.name}",
            noise,
            own and f"regions of {counted(len(own.paths), 'image', ',')} of {own.name}",
        )
        return ", ".join(part for part in parts if part)

    def work(self) -> Iterator[Step]:
        """Predict, measure, write."""
        from cnnlens.cluster.outliers import outlier_steps
        from cnnlens.cluster.taken_for import surest
        from cnnlens.cluster.vectors import group_rows
        from cnnlens.measure.distinct import firsts_of
        from cnnlens.report.outlier_files import write_outliers

        if self.own is None:
            self.study.voice.note(
                "no other class folders in the workspace: regions and clusters are left out "
                "(`cnnlens cluster -d DIR` adds some)"
            )
        if self.made:
            return
        study, settings, own = self.study, self.settings, self.own
        logits, rows = yield from self._logits()
        model, batch, voice = study.model, study.run.batch_size, study.voice
        if own is None:
            found = yield from outlier_steps(model, logits, None, None, settings, batch)
        else:
            yield from voice.limits(self._stored(own).fill(study.run))
            with self._stored(own).open() as store:
                groups = group_rows(store.positions, own.image_categories)
                same = firsts_of(own, store.positions[:], model.preprocess, voice.note)
                found = yield from outlier_steps(
                    model, logits, store, groups, settings, batch, same
                )
        data = own.name if own else ""
        for note in found.notes():
            voice.note(note)
        about = {
            "layer": self.layer.name,
            "data": self.strange and self.strange.name,
            "settings": settings.as_dict(),
            "classes": list(found.names),
            "known": self.known,
        }
        strange = {name: found.scores[name] for name in rows}
        worst = surest(strange, rows, found.names, link=found.link)
        shown = self._pictured(worst)
        document = {**about, **found.as_dict(data), "surest": shown}
        write_outliers(self.folder, found, {**document, MADE_FROM: self.item.made_from})

    def _pictured(self, worst: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write the strange images that the network is surest of, and name their pictures."""
        from cnnlens.report.figures import as_seen
        from cnnlens.report.outlier_files import write_surest

        if (images := self.strange) is None:
            return []
        preprocess = self.study.model.preprocess
        return write_surest(
            self.folder, worst, images.paths, lambda row: as_seen(images, row, preprocess)
        )

    def _logits(self) -> Generator[Step, None, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Scores of the strange images, by category, and their positions in the data."""
        from cnnlens.cluster.vectors import group

        if (images := self.strange) is None:
            return {}, {}
        stored, known = self._stored(images), images.image_categories
        settings = ExtractSettings(stored.dtype or "float32")
        anew = yield from stored.is_lost()
        yield from self.study.fill(images, [self.layer], settings, logits=True, force=anew)
        with stored.open() as store:
            logits = store.logits
            groups = group([known[at] if known else images.name for at in store.positions])
            positions = store.positions[:]
        rows = {name: groups.rows(name) for name in groups.names}
        by_name = {name: positions[at] for name, at in rows.items()}
        return {name: logits[at] for name, at in rows.items()}, by_name

    def close(self) -> None:
        """Read what was found."""
        from cnnlens.files import read_json

        if self.study.ledger("outliers", file=FILE, listed="").entries.get(FILE):
            self.summaries = {"outliers": read_json(self.folder / FILE)}

    def show(self, results: Results) -> None:
        """Show what each source is predicted as, and where noise falls."""
        from cnnlens.cluster.taken_for import SOURCE_COLUMNS, source_row

        results.table(SOURCE_COLUMNS, [source_row(one) for one in self.document()["sources"]])
        for line in self.result().words:
            results.say(line)
        results.say(f"pictures: {self.folder}")

    def result(self) -> OutlierResult:
        """Return what was found."""
        from cnnlens.report.outlier_files import read_outliers

        return read_outliers(self.folder)

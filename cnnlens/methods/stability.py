"""``cnnlens stability``: do a layer's units follow an object's parts?"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError, counted
from cnnlens.methods.measurement import Measurement
from cnnlens.methods.method import Inputs, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings import StabilitySettings
from cnnlens.settings.inputs import data_input, layers_input, negatives_input, store_option
from cnnlens.settings.option import option

if TYPE_CHECKING:
    from cnnlens.activations.sources import Source
    from cnnlens.data.parts import PartSet
    from cnnlens.measure.stable_units import Stability as Found
    from cnnlens.model.layer import Layer


@dataclass(frozen=True)
class StabilityInputs(Inputs):
    """Which objects, parts and layers."""

    data: Path | None = data_input()
    layer: tuple[str, ...] = layers_input()
    parts: tuple[str, ...] = option(
        (), "Only these parts; repeatable. Default: all.", metavar="NAME", panel="What"
    )
    merge_categories: str | None = option(
        None, "Take all objects for one category.", metavar="NAME", panel="What"
    )
    negatives: Path | None = negatives_input("Images of no category, for the selectivity.")
    held_out: str | None = option(
        None,
        "Only the images that a fine-tuning held out: its new.json; or all.",
        metavar="new.json|all",
        shown="the network's own, where it was fine-tuned on these images",
        panel="What",
    )
    store: bool = store_option()


class Stability(Measurement):
    """Whether units follow an object's parts, with chance.

    Location instability and part interpretability of every unit, on objects with parts. Beside
    them stand what shuffled, random and central places give, dead units, how far peaks lie from
    the centre, and how well a unit tells its category from others. Tables go to
    WORKSPACE/stability.
    """

    name, panel = "stability", "Measure units"
    asks, settings_types = StabilityInputs, (StabilitySettings,)
    sections = (("stability", page_part("sections.parts")),)
    examples = (
        "cnnlens stability model.pt -d CUB_200_2011 -l conv5",
        "cnnlens stability -d animals/ --negatives animals/negatives --parts head",
    )
    reader = "stability_files.read_stability"
    images: PartSet

    def resolve(self) -> None:
        """Find objects, the parts that count, negatives, and layers."""
        asked, study = self.asked, self.study
        objects: Any = study.images(asked.data, ("parts",))
        self.unseen = self._unseen(objects)
        if self.unseen is not None:
            objects = objects.take(self.unseen["images"], "held-out")
        self.images = objects.choose(asked.parts, asked.merge_categories)
        self.negatives = study.negatives(asked.negatives)
        self.layers = study.layers(asked.layer)

    def _unseen(self, objects: PartSet) -> dict[str, Any] | None:
        """Find which objects a fine-tuning held out; None: all are measured."""
        from cnnlens.report.trained import held_out_of, record_of

        asked, study, voice = self.asked.held_out, self.study, self.study.voice
        if asked == "all":
            return None
        spec = study.model.spec
        found = held_out_of(asked or spec, asked is not None)
        if found is None or found["data"] != objects.fingerprint:
            if asked is not None:
                raise UsageError(
                    f"{asked} held out images of other data than {objects.root}",
                    "name the fine-tuning on just these images, or leave --held-out out",
                )
            if record_of(spec):
                voice.note(
                    f"{spec} was fine-tuned on other data, or on {objects.name} before it changed: "
                    "measured on all images, which it may have been trained on"
                )
            return None
        count = len(found["images"])
        if asked is None and not self._enough(objects.take(found["images"], "held-out")):
            voice.note(
                f"fine-tuning held out {counted(count, 'image')}, too few: measured on all "
                f"{len(objects.paths)}, those that the network was trained on included"
            )
            return None
        voice.note(
            f"{count} of {len(objects.paths)} images, which fine-tuning held out (--held-out all: "
            "all of them)"
        )
        return found

    def _enough(self, objects: PartSet) -> bool:
        """Whether a part is shown often enough on some category."""
        import numpy as np

        from cnnlens.measure.part_measures import categories

        chosen = objects.choose(self.asked.parts, self.asked.merge_categories)
        known = chosen.image_categories or ()
        names = sorted(set(known))
        labels = np.array([names.index(name) for name in known])
        return bool(categories(labels, chosen.centres, names))

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say how many images were held out of a training, where only these are measured."""
        found = self.unseen
        return {"held_out": None if found is None else len(found["images"])}

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name objects, parts and their masks, negatives, the network, the settings."""
        others = None if self.negatives is None else self.negatives.fingerprint
        settings = self.settings.as_dict()
        key = self.study.key(layer, self.images, negatives=others, settings=settings)
        # earlier results shuffled places of all images, and lack this: their p-values are wrong
        return {**key, "shuffled_among": "excited", **self.rounded(layer, self.images)}

    def work(self) -> Iterator[Step]:
        """Measure what is missing; objects with faults are reported."""
        faults = self.images.faults
        self.study.voice.skipped([{"image": one.where, "reason": one.what} for one in faults])
        return super().work()

    def measure(self, source: Source, layers: list[Layer]) -> Generator[Step, None, Sequence[Any]]:
        """Hold peaks and masks against parts; peaks also against those on the negatives."""
        from cnnlens.activations.sources import ModelSource
        from cnnlens.measure.stability import stability_steps

        study, fields, others = self.study, [layer.fields for layer in layers], None
        if self.negatives is not None:
            others = ModelSource(study.model, self.negatives, layers, study.run)
        size = study.model.preprocess.size
        return stability_steps(source, self.images, fields, size, self.settings, others)

    def write(self, folder: Path, layer: Layer, found: Found) -> Iterator[int]:
        """Write the table, where each unit peaks, and where all of them do."""
        from cnnlens.report.figures import save_figure
        from cnnlens.report.stability_files import where_units_look, write_peaks, write_units

        preprocess, top = self.study.model.preprocess, self.settings.top
        for note in found.notes:
            self.study.voice.note(note)
        write_units(folder / "units.csv", found)
        if top:
            yield from write_peaks(
                folder / "pictures", self.images, found, layer.fields, preprocess, top,
                self.study.run.workers,
            )  # fmt: skip
        figure = where_units_look(self.images, found, layer.shape[1:], preprocess)
        save_figure(figure, folder / "where.png")

    def show(self, results: Results) -> None:
        """Show the layers beside each other, and beside chance."""
        from cnnlens.measure.stable_units import LAYER_COLUMNS, MASK_COLUMNS, layer_row, mask_rows

        found = self.summaries.values()
        results.table(LAYER_COLUMNS, [layer_row(summary) for summary in found])
        if rows := [row for summary in found for row in mask_rows(summary)]:
            results.table(MASK_COLUMNS, rows)
        results.say(f"tables: {self.study.folder('stability')}")

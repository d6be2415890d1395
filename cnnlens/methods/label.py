"""``cnnlens label``: names for units without label maps."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError
from cnnlens.files import mark
from cnnlens.methods.measurement import EACH_ONCE, Measurement
from cnnlens.methods.method import LayersInputs, Results, page_part
from cnnlens.methods.named_by import Text
from cnnlens.progress import Step
from cnnlens.settings import LabelSettings, TextSettings
from cnnlens.settings.option import option
from cnnlens.study.images import ANY

if TYPE_CHECKING:
    from cnnlens.activations.sources import Source
    from cnnlens.measure.unit_labels import LayerLabels
    from cnnlens.model.layer import Layer

COLUMNS = ("unit", "name", "correlation", "chance", "p", "next best")


@dataclass(frozen=True)
class LabelInputs(LayersInputs):
    """Which images, which layers, named by what."""

    source: str = option(
        "classes", "What names are made of: the class folders, or words that an encoder compares "
        "with images.", name="from", choices=("classes", "text"), panel="What",
    )  # fmt: skip
    groups: Path | None = option(
        None,
        'Groups of classes: JSON {"animal": ["cat", "dog"]}, or lines `animal: cat, dog`.',
        metavar="FILE",
        shown="the branches of the layer's tree of categories, where `cluster` made one",
        panel="What",
    )
    words: Path | None = option(
        None, "Words, one per line; imagenet: the names of its classes.", metavar="FILE|imagenet",
        panel="Text",
    )  # fmt: skip
    template: tuple[str, ...] = option(
        (), "What an encoder reads of a word, {} in its place; of several the mean. Repeatable.",
        metavar="PHRASE", panel="Text", shown="{}",
    )  # fmt: skip
    encoder: str | None = option(
        None, "A folder that transformers or open_clip wrote, or file.py:factory: code that "
        "returns two callables, of PIL images and of texts, to vectors in one space.",
        metavar="SPEC", panel="Text",
    )  # fmt: skip
    vectors: Path | None = option(
        None, "Vectors made elsewhere: an .npz with images, words, paths, names.",
        metavar="FILE", panel="Text",
    )  # fmt: skip


class Label(Measurement):
    """Names for units without label maps: from class folders, or from words.

    A unit's answer to each image is approximated by a sum of few classes and groups of classes, or
    of few words by how well they agree with the image, which an encoder of images and texts says.
    Some images give the weights, others choose how many there are, and the name is tested on a
    third part that did neither, beside the same with images shuffled.
    """

    name, panel = "label", "Measure units"
    asks, settings_types = LabelInputs, (LabelSettings, TextSettings)
    kinds, vectors, pictured = ("classes", "parts"), True, ""
    sections = (("label", page_part("label_files.names")),)
    examples = (
        "cnnlens label model.pt -d photos/ -l layer4",
        "cnnlens label -l layer4 --groups groups.json --terms 1",
        "cnnlens label -l layer4 --from text --words words.txt --encoder clip.py:towers",
    )
    reader = "label_files.read_labels"

    def resolve(self) -> None:
        """Find images, layers, and what names are made of: groups of classes of each, or words."""
        from cnnlens.measure.linear_labels import split
        from cnnlens.report.label_files import part_early
        from cnnlens.report.trained import seen_in_training

        self.by_text = Text.of(self.study, self.asked, self.all_settings[-1])
        if self.by_text is None:
            super().resolve()
        else:
            self.images = self.study.images(self.asked.data, ANY)
            self.layers = self.study.layers(self.asked.layer, self.vectors)
            self.by_text.resolve(self.images)
        self.within = self.asked.source
        for layer in self.layers:
            part_early(self.study.folder(self.name, layer))
        if self.by_text is None and self.images.image_categories is None:
            raise UsageError(f"{self.images.name} has no classes", "name class folders with -d DIR")
        split(len(self.images.paths), self.settings.seed)  # which says where they are too few
        if self.study.model.has_random_weights:
            self.study.voice.note("the weights are random: names say little of any network")
        if said := seen_in_training(self.study.model.spec, self.images):
            self.study.voice.note(said)
        self.trained_on = {"trained_on": said} if said else {}
        grouped = self.layers if self.by_text is None else ()
        self.groups = {layer: self._groups(layer) for layer in grouped}

    def _groups(self, layer: Layer) -> dict[str, list[str]]:
        from cnnlens.data.class_groups import branches, read_class_groups
        from cnnlens.report.cluster_files import read_clusters

        classes = set(self.images.image_categories or ())
        if self.asked.groups is not None:
            return read_class_groups(self.asked.groups, classes)
        folder = self.study.folder("cluster", layer)
        if not (folder / "categories.json").is_file():
            return {}
        tree = branches(read_clusters(folder).categories)
        return {name: members for name, members in tree.items() if classes.issuperset(members)}

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name network, images and their classes, settings, and the groups or the words."""
        key = {**super().made_from(layer), **EACH_ONCE}
        if self.by_text is not None:
            return {**key, "text": self.by_text.key}
        return {**key, "groups": mark(self.groups[layer])}

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say what names could be made of."""
        if self.by_text is not None:
            return {"from": self.asked.source, **self.by_text.described, **self.trained_on}
        return {"from": self.asked.source, "groups": self.groups[layer], **self.trained_on}

    def measure(
        self, source: Source, layers: list[Layer]
    ) -> Generator[Step, None, Sequence[LayerLabels]]:
        """Name the units of a layer."""
        from cnnlens.measure.distinct import among
        from cnnlens.measure.unit_labels import label_steps

        (layer,) = layers
        source = among(source, (yield from self.each_once(source, layer, self.images)))
        if self.by_text is not None:
            return [(yield from self.by_text.measure(source, self.settings))]
        categories = self.images.image_categories or ()
        steps = label_steps(source, categories, self.groups[layer], self.settings)
        return [(yield from steps)]

    def write(self, folder: Path, layer: Layer, found: LayerLabels) -> Iterator[int]:
        """Write the table."""
        from cnnlens.report.label_files import write_labels

        write_labels(folder, found)
        yield from ()

    def close(self) -> None:
        """Leave these names beside those from elsewhere, where a layer's are looked for."""
        from cnnlens.report.label_files import keep_latest

        super().close()
        for layer in self.layers:
            if layer.name in self.summaries:
                keep_latest(self.folder(layer))

    def show(self, results: Results) -> None:
        """Show each layer's names that fit best, then how well all do."""
        every = {layer.name: self.read(self.folder(layer)) for layer in self.layers}
        for name, found in every.items():
            rows = [
                (one.unit, one.said, one.score, one.chance, one.p_value, one.runner_up)
                for one in found.best(10)
            ]
            results.table(COLUMNS, rows, title=f"{name}: names that fit best")
        keys = ("units", "sure", "mean_score", "mean_single_score", "chance")
        single = "single class" if self.by_text is None else "single word"
        heads = ("layer", "units", "more than chance", "correlation", single, "by chance")
        known = {name: {**found.summary, **found.means} for name, found in every.items()}
        means = [(name, *map(one.get, keys)) for name, one in known.items()]
        results.table(heads, means, title="on the images held out")
        for name, found in every.items():
            if found.of_scored:
                results.say(f"{name}: correlations are means{found.of_scored}")
        results.say(f"tables: {self.study.folder(self.name)}")

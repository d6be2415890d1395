"""``cnnlens label``: names for units without label maps."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError
from cnnlens.files import mark
from cnnlens.methods.measurement import Measurement
from cnnlens.methods.method import LayersInputs, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings import LabelSettings
from cnnlens.settings.option import option

if TYPE_CHECKING:
    from cnnlens.activations.sources import Source
    from cnnlens.measure.unit_labels import LayerLabels
    from cnnlens.model.layers import Layer

COLUMNS = ("unit", "name", "correlation", "chance", "p", "next best")


@dataclass(frozen=True)
class LabelInputs(LayersInputs):
    """Which images, which layers, named by what."""

    source: str = option(
        "classes", "What names are made of: the class folders.", name="from", choices=("classes",),
        panel="What",
    )  # fmt: skip
    groups: Path | None = option(
        None,
        'Groups of classes: JSON {"animal": ["cat", "dog"]}, or lines `animal: cat, dog`.',
        metavar="FILE",
        shown="the branches of the layer's tree of categories, where `cluster` made one",
        panel="What",
    )


class Label(Measurement):
    """Names for units from class folders, without label maps.

    A unit's answer to each image is approximated by a sum of few classes and groups of classes.
    Some images give the weights, others choose how many there are, and the name is tested on a
    third part that did neither, beside the same with images shuffled.
    """

    name, panel = "label", "Measure units"
    asks, settings_types = LabelInputs, (LabelSettings,)
    kinds, vectors, pictured = ("classes", "parts"), True, ""
    sections = (("label", page_part("label_files.names")),)
    examples = (
        "cnnlens label model.pt -d photos/ -l layer4",
        "cnnlens label -l layer4 --groups groups.json --terms 1",
    )
    reader = "label_files.read_labels"

    def resolve(self) -> None:
        """Find images, layers, and the groups of classes of each."""
        from cnnlens.measure.linear_labels import split
        from cnnlens.report.label_files import part_early

        super().resolve()
        self.within = self.asked.source
        for layer in self.layers:
            part_early(self.study.folder(self.name, layer))
        if self.images.image_categories is None:
            raise UsageError(f"{self.images.name} has no classes", "name class folders with -d DIR")
        split(len(self.images.paths), self.settings.seed)  # which says where they are too few
        if self.study.model.has_random_weights:
            self.study.voice.note("the weights are random: names say little of any network")
        self.groups = {layer: self._groups(layer) for layer in self.layers}

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
        """Name network, images and their classes, settings, and the groups."""
        return {**super().made_from(layer), "groups": mark(self.groups[layer])}

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say what names could be made of."""
        return {"from": self.asked.source, "groups": self.groups[layer]}

    def measure(
        self, source: Source, layers: list[Layer]
    ) -> Generator[Step, None, Sequence[LayerLabels]]:
        """Name the units of a layer."""
        from cnnlens.measure.unit_labels import label_steps

        (layer,) = layers
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
        for layer in self.layers:
            found = self.read(self.folder(layer))
            rows = [
                (one.unit, one.said, one.score, one.chance, one.p_value, one.runner_up)
                for one in found.best(10)
            ]
            results.table(COLUMNS, rows, title=f"{layer.name}: names that fit best")
        keys = ("units", "sure", "mean_score", "mean_single_score", "chance")
        heads = ("layer", "units", "more than chance", "correlation", "single class", "by chance")
        rows = [(name, *map(one.get, keys)) for name, one in self.summaries.items()]
        results.table(heads, rows, title="on the images held out")
        results.say(f"tables: {self.study.folder(self.name)}")

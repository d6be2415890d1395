"""``cnnlens cluster``: how a layer organizes what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.methods.cluster_parts import Part
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.methods.stored import detected, fill, groups_of, mark, store_key
from cnnlens.progress import Step
from cnnlens.settings.cluster import ClusterSettings
from cnnlens.settings.option import data_input, fields_of, layers_input, option
from cnnlens.study.ledger import Item, Ledger
from cnnlens.study.session import ANY

if TYPE_CHECKING:
    from cnnlens.model.layers import Layer

# what can be found about a layer, and the settings that each depends on
PARTS = {
    "categories": ("bootstrap", "noise", "seed"),
    "filters": ("rule",),
    "embed": ("neighbours", "seed"),
}


@dataclass(frozen=True)
class ClusterInputs(Inputs):
    """Which images, which layers, which parts."""

    data: Path | None = data_input()
    layer: tuple[str, ...] = layers_input()
    only: str | None = option(
        None, "Make only one of them.", choices=tuple(PARTS), shown="all three", panel="What"
    )

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            field.check(getattr(self, field.attribute))


@dataclass(frozen=True)
class _Layer:
    """One layer: what is known of it, and what is still to be made."""

    layer: Layer
    ledger: Ledger
    todo: list[Item]


class Cluster(Method):
    """Trees of categories and filters, and an embedding.

    Which categories does a layer hold close, in which order do its filters decide on one, how do
    the images lie? Needs class folders; the model runs only where a layer has no store yet.
    """

    name, panel = "cluster", "Look at a layer"
    asks, settings_types = ClusterInputs, (ClusterSettings,)
    sections = (
        ("categories", page_part("clusters.category_trees")),
        ("filters", page_part("clusters.filter_trees")),
        ("embed", page_part("clusters.embeddings")),
    )
    examples = (
        "cnnlens cluster model.pt -d photos/ -l layer4",
        "cnnlens cluster --only categories --bootstrap 1000 --noise",
    )

    def resolve(self) -> None:
        """Find images and layers."""
        self.parts = [self.asked.only] if self.asked.only else list(PARTS)
        kinds = ANY if self.parts == ["embed"] else ("classes", "parts")
        self.images = self.study.images(self.asked.data, kinds)
        self.layers = self.study.layers(self.asked.layer)

    @cached_property
    def found(self) -> list[_Layer]:
        """What is known of every layer; damaged summaries are reported and left."""
        found = []
        for layer in self.layers:
            ledger = self.study.ledger("cluster", layer, "summary.json", listed="")
            key = store_key(self.study, self.images, layer)
            items = [self._item(key, layer, part, ledger) for part in self.parts]
            found.append(_Layer(layer, ledger, ledger.missing(items)))
        return found

    def _item(self, key: dict[str, Any], layer: Layer, part: str, ledger: Ledger) -> Item:
        from cnnlens.report.cluster_files import CATEGORIES, EMBED

        values = self.settings.as_dict()
        made_from = {**key, "settings": {name: values[name] for name in PARTS[part]}}
        if part == "filters":
            files = ledger.entries.get(part, {}).get("files") or ()
            made_from["detects"] = mark(detected(self.study, layer))
            return Item(part, made_from, tuple(map(str, files)))
        return Item(part, made_from, CATEGORIES if part == "categories" else EMBED)

    def plan(self) -> str:
        """Say which trees and layouts are made, and which were made before."""
        kinds, images = len(set(self.images.image_categories or ())), len(self.images.paths)
        resampled = f" with {self.settings.bootstrap} resamples" if self.settings.bootstrap else ""
        words = {
            "categories": f"a tree of {kinds} categories{resampled}",
            "filters": f"{kinds} trees of filters",
            "embed": f"an embedding of {images:,} images",
        }
        plans = []
        for one in self.found:
            todo = [item.name for item in one.todo]
            for part in self.parts:
                if part not in todo:
                    self.study.voice.note(
                        f"{one.layer.name}: {part} done before (--force redoes it)"
                    )
            if todo:
                plans.append(f"{one.layer.name}: {', '.join(words[part] for part in todo)}")
        return "; ".join(plans)

    def work(self) -> Iterator[Step]:
        """Make what is missing, layer by layer."""
        for one in self.found:
            if not one.todo:
                continue
            yield from fill(self.study, self.images, one.layer)
            with self.study.store(self.images, one.layer) as store:
                known = groups_of(self.images, store)
                part = Part(self.study, self.settings, self.images, one.layer, store, known)
                for item in one.todo:
                    one.ledger.keep(item, (yield from part.make(item)))

    def close(self) -> None:
        """List what was made."""
        for one in self.found:
            if one.ledger.entries:
                self.summaries[one.layer.name] = one.ledger.close({"layer": one.layer.name})

    def show(self, results: Results) -> None:
        """Show each layer's tree of categories."""
        rows = [
            (
                name,
                found["categories"],
                found["images"],
                " + ".join(found["first_merge"]),
                found["first_support"],
                found["centre"],
                found["cophenetic"],
            )
            for name, summary in self.summaries.items()
            if (found := summary.get("categories"))
        ]
        if rows:
            columns = ["layer", "categories", "images", "first to merge", "support", "centre"]
            results.table([*columns, "cophenetic r"], rows, title="categories")
        results.say(f"trees: {self.study.folder('cluster')}")

    def result(self) -> Any:
        """Return what is known of one layer, or of several by name."""
        from cnnlens.report.cluster_files import read_clusters

        found = {one.layer.name: read_clusters(one.ledger.folder) for one in self.found}
        return found if len(self.asked.layer) > 1 else next(iter(found.values()))

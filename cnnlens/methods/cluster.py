"""``cnnlens cluster``: how a layer organizes what it knows."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from cnnlens.errors import counted
from cnnlens.files import mark
from cnnlens.files.ledger import MADE_FROM, Item, Ledger
from cnnlens.methods.confused import Confused
from cnnlens.methods.measurement import EACH_ONCE
from cnnlens.methods.method import Method, Results, StoredInputs, page_part
from cnnlens.progress import Step, staged
from cnnlens.settings.cluster import PARTS, ClusterSettings
from cnnlens.settings.option import option
from cnnlens.study.images import ANY

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.activations.store import Store
    from cnnlens.activations.streamed import ModelMaps
    from cnnlens.cluster.vectors import Groups
    from cnnlens.model.layer import Layer

    Making = Generator[Step, None, dict[str, Any]]
    Answers = Store | ModelMaps  # a layer's maps, kept or computed

CONFUSION = "confusion"  # the part that asks the network itself


@dataclass(frozen=True)
class ClusterInputs(StoredInputs):
    """Which images, which layers, which parts, and whether activations are kept."""

    only: str | None = option(
        None, "Make only one of them.", choices=(*PARTS, CONFUSION), shown="all", panel="What"
    )


class Cluster(Method):
    """Trees of categories and filters, an embedding, confusions.

    Which categories does a layer hold close, in which order do its filters decide on one, how do
    the images lie, and which classes does the network itself confuse? Needs class folders.
    """

    name, panel = "cluster", "Look at a layer"
    asks, settings_types = ClusterInputs, (ClusterSettings,)
    sections = (
        ("confusion", page_part("confusion_files.confusions")),
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
        only = self.asked.only
        self.parts = [part for part in PARTS if only in (None, part)]
        kinds = ANY if self.parts == ["embed"] else ("classes", "parts")
        self.images = self.study.images(self.asked.data, kinds)
        self.layers = self.study.layers(self.asked.layer)
        asks = only in (None, CONFUSION)
        self.confused = Confused(self.study, self.images, only is not None) if asks else None

    @cached_property
    def found(self) -> list[ClusteredLayer]:
        """What is known of every layer; damaged summaries are reported and left."""
        return [ClusteredLayer(self, layer) for layer in self.layers]

    def plan(self) -> str:
        """Say which trees and layouts are made, and which were made before."""
        kinds, images = len(set(self.images.image_categories or ())), len(self.images.paths)
        resampled = f" with {self.settings.bootstrap} resamples" if self.settings.bootstrap else ""
        words = {
            "categories": f"a tree of {kinds} categories{resampled}",
            "filters": f"{kinds} trees of filters",
            "embed": f"an embedding of {images:,} images{self._search}",
        }
        plans = []
        for one in self.found:
            name, todo = one.layer.name, [item.name for item in one.todo]
            for part in (part for part in self.parts if part not in todo):
                self.study.voice.note(f"{name}: {part} done before (--force redoes it)")
            if todo:
                plans.append(f"{name}: {', '.join(words[part] for part in todo)}")
                if not self.asked.store:
                    self.study.voice.note(f"{name}: {self._runs(one.layer, todo, kinds)}")
        if confused := self.confused:
            if confused.why:
                self.study.voice.note(f"no confusion matrix: {confused.why}")
            elif confused.made:
                self.study.voice.note("confusion done before (--force redoes it)")
            else:
                plans.append(f"a confusion matrix of {images:,} images")
        return "; ".join(plans)

    @property
    def approximate(self) -> bool:
        """Whether there are too many images to compare all with all."""
        return len(self.images.paths) > self.settings.exact

    @property
    def _search(self) -> str:
        exact = f"{self.settings.exact:,}"
        return f", neighbours approximate beyond --exact {exact}" if self.approximate else ""

    def _runs(self, layer: Layer, todo: list[str], kinds: int) -> str:
        """Say how often the network is run over the images where nothing is kept."""
        from cnnlens.cluster.categories import count_readings

        shape = (len(self.images.paths), *layer.shape)
        resamples = self.settings.bootstrap
        runs, bare = (
            sum(count_readings(shape, kinds, n) if part == "categories" else 1 for part in todo)
            for n in (resamples, 0)
        )
        less = f"; {bare} with --bootstrap 0" if bare < runs else ""
        return f"nothing is kept, so the network is run {runs} times over the images{less}"

    def work(self) -> Iterator[Step]:
        """Make what is missing, layer by layer."""
        todo = [one for one in self.found if one.todo]
        readable = (yield from self._readable()) if todo and not self.asked.store else None
        for one in todo:
            if readable is None:
                yield from self.study.voice.limits(one.stored.fill(self.study.run))
                with one.stored.open() as store:
                    yield from staged(one.layer.name, one.make(store))
            else:
                yield from staged(one.layer.name, one.make(one.computed(readable)))
        if (confused := self.confused) and not confused.why and not confused.made:
            yield from staged("confusion", confused.make())

    def _readable(self) -> Generator[Step, None, np.ndarray]:
        """Find the images that can be read, (N,) positions; name the others."""
        from cnnlens.activations.streamed import readable_steps

        study = self.study
        steps = readable_steps(self.images, study.model.preprocess, study.run)
        found, damaged = yield from steps
        study.voice.skipped([{"image": path, "reason": reason} for path, reason in damaged])
        return found

    def close(self) -> None:
        """List what was made."""
        for one in self.found:
            if one.ledger.entries:
                self.summaries[one.layer.name] = one.ledger.close({"layer": one.layer.name})

    def show(self, results: Results) -> None:
        """Show each layer's tree of categories."""
        from cnnlens.cluster.categories import LAYER_COLUMNS, layer_row

        trees = {name: found.get("categories") for name, found in self.summaries.items()}
        if rows := [layer_row(name, tree) for name, tree in trees.items() if tree]:
            results.table(LAYER_COLUMNS, rows, title="categories")
        if found := self.confused and self.confused.document():
            from cnnlens.measure.confusion import summary

            results.say(f"confusions: {summary(found)}")
        made = {"embed": "embedding", CONFUSION: "confusions"}.get(self.asked.only, "trees")
        results.say(f"{made}: {self.study.folder('cluster')}")

    def result(self) -> Any:
        """Return what is known of one layer, or of several by name."""
        from cnnlens.report.cluster_files import ClusterResult, read_clusters

        found = {
            one.layer.name: read_clusters(one.ledger.folder)
            if one.ledger.entries
            else ClusterResult(one.layer.name, one.ledger.folder, {})  # of confusions alone
            for one in self.found
        }
        return self.of_layers(found)


class ClusteredLayer:
    """One layer: what is known of it, what is still to be made, and how that is made."""

    def __init__(self, method: Cluster, layer: Layer) -> None:
        self.study, self.settings, self.layer = method.study, method.settings, layer
        self.approximate = method.approximate
        self.images, self.stored = method.images, self.study.stored(method.images, layer)
        self.ledger = self.study.ledger("cluster", layer, "summary.json", listed="")
        self.detects = method.detected(layer)
        # what is computed is what a store of float32 holds: results are good for both
        made_from = self.stored.key if method.asked.store else self.stored.key_as("float32")
        key = self.study.key(layer, self.images, **made_from)
        self.todo = self.ledger.missing([self._item(key, part) for part in method.parts])

    def _item(self, key: dict[str, Any], part: str) -> Item:
        """Describe a part of `PARTS`."""
        from cnnlens.report.cluster_files import CATEGORIES, EMBED

        made_from = {**key, "settings": self.settings.of_part(part)}
        if part == "filters":
            files = self.ledger.entries.get(part, {}).get("files") or ()
            made_from["detects"] = mark(self.detects)
            return Item(part, made_from, tuple(map(str, files)))
        if part == "embed" and self.approximate:
            made_from["neighbours"] = "approximate"
        if part == "embed" and self.images.image_categories:
            made_from |= EACH_ONCE
        return Item(part, made_from, CATEGORIES if part == "categories" else EMBED)

    def computed(self, readable: np.ndarray) -> ModelMaps:
        """Give the layer's maps on images (N,) that can be read, computed when they are read."""
        from cnnlens.activations.streamed import ModelMaps

        return ModelMaps(self.study.model, self.images, self.layer, self.study.run, readable)

    def make(self, source: Answers) -> Generator[Step, None, None]:
        """Make what is missing, part by part; each is safe once it is made."""
        from cnnlens.cluster.vectors import group_rows

        making = {"categories": self._categories, "filters": self._filters, "embed": self._embed}
        groups = group_rows(source.positions, self.images.image_categories)
        for item in self.todo:
            found = yield from making[item.name](source, groups, item)
            self.ledger.keep(item, {**found, "data": {"name": self.images.name}})

    def _categories(self, source: Answers, groups: Any, item: Item) -> Making:
        from cnnlens.cluster.clustering import tree_steps
        from cnnlens.report.cluster_files import CATEGORIES, write_categories

        noise, size = (self.study.model, self.layer), self.study.run.batch_size
        steps = tree_steps(source, groups, self.settings, noise, size)
        tree = yield from staged("tree of categories", steps)
        self.ledger.begin(item)
        write_categories(self.ledger.folder, tree)
        for note in tree.notes:
            self.study.voice.note(note)
        return {**tree.as_dict(), "files": list(CATEGORIES)}

    def _filters(self, source: Answers, groups: Any, item: Item) -> Making:
        """Grow a tree per category; who is stopped keeps those that are finished."""
        from cnnlens.cluster.filters import filter_trees
        from cnnlens.report.cluster_files import drop_filters, write_filters
        from cnnlens.report.contents import file_names
        from cnnlens.report.figures import rows_seen

        ledger = Ledger(self.ledger.folder / ".filters.json", "", self.study.force)
        files, paths = file_names(groups.names), source.images
        seen = rows_seen(self.images, source.positions, self.study.model.preprocess, 64)
        items = {name: self._tree_item(ledger, item, name, files[name]) for name in files}
        missing = [one.subject for one in ledger.missing(items.values())]
        stage, before = "filters of categories", len(items) - len(missing)
        yield Step(before, len(items), stage, unit="categories")
        trees = filter_trees(source, groups, missing, self.settings.rule)
        for done, (given, tree) in enumerate(trees, before + 1):
            images = [paths[row] for row in given.rows.tolist()]
            for own, one in ((self.ledger, item), (ledger, items[given.name])):
                own.begin(one)
            entry = write_filters(
                self.ledger.folder, files[given.name], given, tree, images, self.detects,
                self.layer.name, seen,
            )  # fmt: skip
            ledger.keep(items[given.name], entry)
            yield Step(done, len(items), stage, note=given.name, unit="categories")
        ledger.close({})
        known = [ledger.entries[one.name] for one in items.values()]
        found = [{k: v for k, v in entry.items() if k != MADE_FROM} for entry in known]
        for entry in found:
            if entry["excluded"]:
                out = counted(len(entry["excluded"]), "image")
                self.study.voice.note(
                    f"{entry['category']}: left out {out} to which the layer answers nothing"
                )
        grown = [entry["file"] for entry in found if entry["leaves"]]
        drop_filters(self.ledger.folder, grown)
        return {"categories": found, "files": [f"filters/{file}.json" for file in grown]}

    def _tree_item(self, ledger: Ledger, part: Item, category: str, file: str) -> Item:
        """One category's tree; where the layer answered nothing, there are no files of it."""
        from cnnlens.report.cluster_files import filter_files

        name, made_from = f"{file}.json", {**part.made_from, "category": category}
        bare = ledger.entries.get(name, {}).get("leaves") == 0
        return Item(name, made_from, () if bare else filter_files(file), category)

    def _embed(self, source: Answers, groups: Groups | None, item: Item) -> Making:
        from cnnlens.cluster.embed import embed_steps, pixel_size, read_pixels, recalled
        from cnnlens.files.lent import lend_to_numba
        from cnnlens.measure.distinct import firsts_of
        from cnnlens.report.cluster_files import EMBED, write_layouts
        from cnnlens.report.figures import rows_seen
        from cnnlens.report.figures.categories import MOST, SIDE

        lend_to_numba()  # before UMAP is imported
        preprocess, settings = self.study.model.preprocess, self.settings

        def read() -> tuple[np.ndarray, int | None]:
            rows = source.positions.tolist()
            workers = 0 if self.images.one_by_one else self.study.run.workers
            plane = partial(self.images.plane, preprocess=preprocess)
            return read_pixels(plane, rows, workers, settings.seed)

        exact = 0 if self.approximate else source.shape[0]
        how = settings.neighbours, settings.seed, exact
        same = firsts_of(self.images, source.positions, preprocess, self.study.voice.note)
        found = yield from embed_steps(source, groups, read, *how, same)
        if said := recalled(found.as_dict()):
            way = f"--exact {source.shape[0]} compares all with all"
            self.study.voice.note(f"{self.layer.name}: {said}; {way}")
        seen = rows_seen(self.images, source.positions, preprocess, SIDE)
        small = [seen(row) for row in range(min(source.shape[0], MOST))]
        self.ledger.begin(item)
        write_layouts(self.ledger.folder, found, source.images, groups, self.layer.name, small)
        size = list(pixel_size(preprocess.size))
        return {**found.as_dict(), "pixels_size": size, "files": list(EMBED)}

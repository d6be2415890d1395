"""The parts of ``cnnlens cluster``, each made and written by a generator of steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError
from cnnlens.methods.stored import detected, staged
from cnnlens.progress import Step
from cnnlens.study.ledger import MADE_FROM, Item, Ledger

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.activations.store import Store
    from cnnlens.cluster.filters import FilterTree
    from cnnlens.cluster.vectors import CategoryMaps, Groups, MapSource
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.settings.cluster import ClusterSettings
    from cnnlens.study.session import Study

Making = Generator[Step, None, dict[str, Any]]


class Part:
    """Makes parts of what is known of a layer: trees of categories, of filters, layouts."""

    def __init__(
        self,
        study: Study,
        settings: ClusterSettings,
        images: ImageSet,
        layer: Layer,
        store: Store,
        known: Groups | None,
    ) -> None:
        self.study, self.settings, self.images = study, settings, images
        self.layer, self.store, self.known = layer, store, known
        self.folder = study.folder("cluster", layer)

    def make(self, item: Item) -> Making:
        """Make the part that an item names; write it, and return its summary."""
        making: dict[str, Callable[[Item], Making]] = {
            "categories": self._categories,
            "filters": self._filters,
            "embed": self._embed,
        }
        return making[item.name](item)

    @property
    def groups(self) -> Groups:
        """The categories, without which there are no trees."""
        assert self.known is not None  # `resolve` asked for data that has them
        return self.known

    def _as_seen(self, row: int, side: int) -> np.ndarray:
        """An image as the network sees it, by its row in the store."""
        from cnnlens.report.figures import as_seen

        at = int(self.store.positions[row])
        return as_seen(self.images, at, self.study.model.preprocess, side)

    def _categories(self, item: Item) -> Making:
        from cnnlens.cluster.categories import category_steps
        from cnnlens.cluster.noise import add_noise
        from cnnlens.report.cluster_files import CATEGORIES, write_categories

        source: MapSource = self.store
        groups, settings = self.groups, self.settings
        if settings.noise:
            source, groups = add_noise(
                source, groups, self.study.model, self.layer, settings.seed,
                self.study.run.batch_size,
            )  # fmt: skip
        steps = category_steps(source, groups, settings.bootstrap, settings.seed)
        tree = yield from staged(f"{self.layer.name}: tree of categories", steps)
        write_categories(self.folder, tree)
        for excluded in tree.excluded[:5]:
            self.study.voice.note(f"left out {excluded}: the layer answers nothing to its images")
        return {**tree.as_dict(), "files": list(CATEGORIES)}

    def _filters(self, item: Item) -> Making:
        """Grow a tree per category; who is stopped keeps those that are finished."""
        from cnnlens.cluster.filters import filter_trees
        from cnnlens.report.words import file_names

        ledger = Ledger(self.folder / ".filters.json", "", self.study.force)
        items = {
            name: self._tree_item(ledger, item, name, file)
            for name, file in file_names(self.groups.names).items()
        }
        missing = [one.subject for one in ledger.missing(items.values())]
        stage, before = f"{self.layer.name}: filters of categories", len(items) - len(missing)
        yield Step(before, len(items), stage, unit="categories")
        trees = filter_trees(self.store, self.groups, missing, self.settings.rule)
        for done, (given, tree) in enumerate(trees, before + 1):
            one = items[given.name]
            ledger.keep(one, self._tree(given, tree, one.name.removesuffix(".json")))
            yield Step(done, len(items), stage, note=given.name, unit="categories")
        ledger.close({})
        entries = [ledger.entries[one.name] for one in items.values()]
        return self._all_trees([{k: v for k, v in e.items() if k != MADE_FROM} for e in entries])

    def _tree_item(self, ledger: Ledger, part: Item, category: str, file: str) -> Item:
        """One category's tree; where the layer answered nothing, there are no files of it."""
        from cnnlens.report.cluster_files import filter_files

        name, made_from = f"{file}.json", {**part.made_from, "category": category}
        bare = ledger.entries.get(name, {}).get("leaves") == 0
        return Item(name, made_from, () if bare else filter_files(file), category)

    def _tree(self, given: CategoryMaps, tree: FilterTree, file: str) -> dict[str, Any]:
        """Write a category's tree; return what is listed of it."""
        from cnnlens.report.cluster_files import write_filters

        images = [self.store.images[row] for row in given.rows]
        if len(tree.leaves):
            title = f"{given.name}: filters of {self.layer.name}"
            write_filters(
                self.folder, file, given, tree, images, detected(self.study, self.layer), title,
                lambda row: self._as_seen(row, 64),
            )  # fmt: skip
        about = {"category": given.name, "file": file, "images": len(images)}
        return {**about, **tree.as_dict(images)}

    def _all_trees(self, found: list[dict[str, Any]]) -> dict[str, Any]:
        for entry in found:
            if entry["excluded"]:
                self.study.voice.note(
                    f"{entry['category']}: left out {len(entry['excluded'])} images to which the "
                    "layer answers nothing"
                )
        files = [f"filters/{entry['file']}.json" for entry in found if entry["leaves"]]
        return {"categories": found, "files": files}

    def _embed(self, item: Item) -> Making:
        from cnnlens.cluster.embed import FEWEST, flat_vectors, layout_steps, pixel_size
        from cnnlens.report.cluster_files import EMBED, write_layouts
        from cnnlens.report.figures.embedding import MOST, SIDE

        count = self.store.shape[0]
        if count < FEWEST:
            raise CnnlensError(
                f"{count} images are too few for a layout",
                f"{FEWEST} or more are needed; --only categories or filters works without",
            )
        k, seed, stage = self.settings.neighbours, self.settings.seed, f"{self.layer.name}: "
        yield Step(0, 4, f"{stage}embedding", note="UMAP compiles itself", unit="stages")
        vectors, projected = flat_vectors(self.store, seed)
        steps = layout_steps(vectors, self.known, k, seed)
        layer = yield from staged(f"{stage}embedding", steps)
        del vectors
        steps = layout_steps(self._pixels(), self.known, k, seed)
        raw = yield from staged(f"{stage}embedding of pixels", steps)
        small = [self._as_seen(row, SIDE) for row in range(min(count, MOST))]
        write_layouts(
            self.folder, (layer, raw), self.store.images, self.known, self.layer.name, small
        )
        return {
            "images": count,
            "neighbours": layer.neighbours,
            "projected": projected,
            "layer": layer.as_dict(),
            "pixels": raw.as_dict(),
            "pixels_size": list(pixel_size(self.study.model.preprocess.size)),
            "files": list(EMBED),
        }

    def _pixels(self) -> np.ndarray:
        """Raw pixels (N, h·w·c) float32 in [0, 1] of the images as the network sees them."""
        from concurrent.futures import ThreadPoolExecutor

        import numpy as np

        from cnnlens.cluster.embed import pixel_vector

        preprocess = self.study.model.preprocess

        def read(at: int) -> np.ndarray:
            image = self.images.load(int(at), "L" if preprocess.channels == 1 else "RGB")
            return pixel_vector(preprocess.pixels(image, self.images.aligned))

        with ThreadPoolExecutor(max(1, self.study.run.workers)) as pool:
            return np.stack(list(pool.map(read, self.store.positions)))

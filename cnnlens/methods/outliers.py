"""``cnnlens outliers``: what images are predicted as that belong to none of the classes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.methods.stored import StoredLayer, mark
from cnnlens.progress import Step
from cnnlens.settings import ExtractSettings
from cnnlens.settings.cluster import OutlierSettings
from cnnlens.settings.option import data_input, layer_input
from cnnlens.study.ledger import MADE_FROM, Item
from cnnlens.study.session import ANY

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cluster.outliers import Outliers as Found
    from cnnlens.data.dataset import ImageSet
    from cnnlens.report.outlier_files import OutlierResult

FILE = "outliers.json"


@dataclass(frozen=True)
class OutlierInputs(Inputs):
    """Which images, and where known ones are measured."""

    data: Path | None = data_input(
        "Images that belong to none of the classes, flat or in class subfolders. Left out: noise "
        "alone."
    )
    layer: str | None = layer_input(
        "Where regions and clusters are measured. Default: the workspace's last one, else last."
    )


class Outliers(Method):
    """What out-of-sample images and noise are predicted as.

    Which class does noise fall to, against the class's bias and its region's radius? Do clusters
    of the workspace's class folders match their categories?
    """

    name, panel = "outliers", "Look at a layer"
    asks, settings_types = OutlierInputs, (OutlierSettings,)
    sections = (("outliers", page_part("sections.outliers")),)
    examples = (
        "cnnlens outliers model.pt --noise 500",
        "cnnlens outliers -d strangers/ -l layer4",
    )

    def resolve(self) -> None:
        """Find images and the layer; see that the network gives scores."""
        from cnnlens.model.classes import gives_scores

        if self.asked.data is None and not self.settings.noise:
            raise UsageError("neither images nor noise were asked for", "name images with -d DIR")
        self.strange = None if self.asked.data is None else self._strange(self.asked.data)
        if not gives_scores(self.study.model):
            raise CnnlensError(
                f"{self.study.model.arch} returns no class scores, so it predicts nothing",
                "name a classifier",
            )
        (self.layer,) = self.study.layers([self.asked.layer] if self.asked.layer else [])
        self.own = self._own()
        self.folder = self.study.folder("outliers")

    def _strange(self, data: Any) -> ImageSet:
        """Open the out-of-sample images; they never become the data of other commands."""
        root = Path(data if isinstance(data, (str, Path)) else data.root).resolve()
        known = any(entry["path"] == str(root) for entry in self.study.workspace.document["data"])
        return self.study.images(data, ANY, default=False, remember=not known)

    def _own(self) -> ImageSet | None:
        """The workspace's last data set with categories that is not the strange one."""
        strange = None if self.strange is None else str(self.strange.root.resolve())
        for entry in reversed(self.study.workspace.document["data"]):
            path = Path(entry["path"])
            there = path.is_dir() or self.study.workspace.in_memory(str(path)) is not None
            if entry["kind"] in ("classes", "parts") and str(path) != strange and there:
                images = self.study.images(path, remember=False)
                return images if images.image_categories else None
        return None

    @cached_property
    def item(self) -> Item:
        """What is made, from what; equal inputs, equal results."""
        made_from = self.study.key(
            self.layer,
            settings=self.settings.as_dict(),
            classes=mark(self.study.model.classes),
            own=self._about(self.own),
            strange=self._about(self.strange),
        )
        noise = ("noise.png",) if self.settings.noise else ()
        return Item(FILE, made_from, ("predictions.png", *noise))

    def _about(self, images: ImageSet | None) -> dict[str, Any] | None:
        """Say everything that a result depends on of some images."""
        if images is None:
            return None
        return {
            "name": images.name,
            "data": images.fingerprint,
            "labels": mark(images.image_categories),
            "squash": images.aligned,
            "dtype": self._stored(images).dtype or "float32",
        }

    def _stored(self, images: ImageSet) -> StoredLayer:
        return StoredLayer(self.study, images, self.layer)

    def plan(self) -> str:
        """Say what is predicted and measured, or that it was before."""
        self.made = self.study.ledger("outliers", file=FILE, listed="").is_made(self.item)
        if self.made:
            self.study.voice.note("outliers: done before with these settings (--force redoes it)")
            return ""
        parts = []
        if self.strange is not None:
            parts.append(f"{len(self.strange.paths):,} images of {self.strange.name}")
        if self.settings.noise:
            parts.append(f"{self.settings.noise} random images of each kind")
        if self.own is not None:
            parts.append(f"regions of {len(self.own.paths):,} images of {self.own.name}")
        return ", ".join(parts)

    def work(self) -> Iterator[Step]:
        """Predict, measure, write."""
        if self.own is None:
            self.study.voice.note(
                "no class folders in the workspace: regions and clusters are left out "
                "(`cnnlens cluster -d DIR` adds some)"
            )
        if self.made:
            return
        found = yield from self._find()
        regions = found.regions
        if self.own is not None and not self.study.model.classes and found.classes:
            self.study.voice.note(
                "the network's classes have no names: they are called after the categories of "
                f"{self.own.name} in alphabetical order"
            )
        if regions and regions.unclustered:
            self.study.voice.note(f"no clusters: {regions.unclustered}")
        self._write(found)

    def _find(self) -> Generator[Step, None, Found]:
        from cnnlens.cluster.outliers import outlier_steps

        study, settings, batch = self.study, self.settings, self.study.run.batch_size
        logits = {} if self.strange is None else (yield from self._logits(self.strange))
        if self.own is None:
            return (yield from outlier_steps(study.model, logits, None, None, settings, batch))
        stored = self._stored(self.own)
        yield from stored.fill()
        with stored.opened() as (store, groups):
            return (yield from outlier_steps(study.model, logits, store, groups, settings, batch))

    def _logits(self, images: ImageSet) -> Generator[Step, None, dict[str, np.ndarray]]:
        """Scores of the strange images, by category."""
        import numpy as np

        dtype = self._stored(images).dtype or "float32"
        yield from self.study.fill(images, [self.layer], ExtractSettings(dtype), logits=True)
        with self.study.store(images, self.layer) as store:
            logits, known = store.logits, images.image_categories
            named = [known[at] if known else images.name for at in store.positions]
        categories = np.array(named)
        return {name: logits[categories == name] for name in sorted(set(named))}

    def _write(self, found: Found) -> None:
        from cnnlens.report.outlier_files import write_outliers

        document = found.as_dict()
        if document["regions"] and self.own is not None:
            document["regions"] = {"data": self.own.name, **document["regions"]}
        about = {
            "layer": self.layer.name,
            "data": None if self.strange is None else self.strange.name,
            "settings": self.settings.as_dict(),
        }
        made_from = {MADE_FROM: self.item.made_from}
        write_outliers(self.folder, found, {**about, **document, **made_from})

    def close(self) -> None:
        """Read what was found."""
        from cnnlens.files import read_json

        if self.study.ledger("outliers", file=FILE, listed="").entries.get(FILE):
            self.summaries = {"outliers": read_json(self.folder / FILE)}

    def show(self, results: Results) -> None:
        """Show what each source is predicted as, and where noise falls."""
        document = self.document()
        rows = [
            (
                one["source"],
                one["images"],
                ", ".join(f"{t['name']} {t['share']:.0%}" for t in one["taken_for"][:3]),
                round(one["confidence"], 3),
            )
            for one in document["sources"]
        ]
        results.table(["images of", "how many", "predicted as", "confidence"], rows)
        for line in self.result().words:
            results.say(line)
        results.say(f"pictures: {self.folder}")

    def result(self) -> OutlierResult:
        """Return what was found."""
        from cnnlens.report.outlier_files import read_outliers

        return read_outliers(self.folder)

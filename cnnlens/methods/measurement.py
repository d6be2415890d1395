"""What methods share that measure whole layers: one folder of tables per layer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cnnlens.errors import UsageError, counted
from cnnlens.files.ledger import Item
from cnnlens.methods.method import Inputs, LayersInputs, Method, page_part
from cnnlens.progress import Step, relayed
from cnnlens.settings import ExtractSettings
from cnnlens.study.images import ANY

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.activations.in_turn import SourcesInTurn
    from cnnlens.activations.sources import ModelSource, Source, StoreSource
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layer import Layer
    from cnnlens.study.session import Study

SUMMARY = "summary.json"
EACH_ONCE = {"equal_images": "once"}  # what results are made from, of methods that use `each_once`


class Measurement(Method):
    """A method whose results on a layer are a folder, written whole, with a summary in it.

    A subclass measures layers; it may say of which `kinds` its data is, write what it found beside
    the summary, and name a `reader` of that. Where results depend on more than network, images and
    settings, it says also what they are `made_from`. What it finds of a layer has `units`, images
    `skipped`, and a `summary`.
    Without a page no pictures are wanted: the setting `pictured`, where there is one, is 0.
    """

    asks: ClassVar[type[Inputs]] = LayersInputs
    kinds: ClassVar[tuple[str, ...]] = ANY  #: of data that serve
    images: Any  #: what is measured on
    layers: list[Layer]  #: what is measured
    #: how activations are kept; None: they are measured as they come
    stored: ExtractSettings | None = ExtractSettings()
    pictured: ClassVar[str] = "top"  #: the setting that counts a unit's pictures; empty: none does
    #: the function of `cnnlens.report` that reads a layer's folder; empty: its summary says all
    reader: ClassVar[str] = ""
    within: str = ""  #: the part of a layer's folder that holds these results, where not all of it

    def __init__(
        self, study: Study, asked: Any = None, settings: Any = None, page: bool = True
    ) -> None:
        super().__init__(study, asked, settings, page)
        if not page and hasattr(self.settings, self.pictured):
            self.settings = replace(self.settings, **{self.pictured: 0})
        if not getattr(self.asked, "store", True):
            self.stored = None
            if study.share.is_apart:
                raise UsageError(
                    "--shard fills activation stores, and --no-store wants none",
                    "leave one of them out",
                )
        self.written: list[Layer] = []  # those that this run has measured
        self.repeated: dict[str, int] = {}  # images left out of layers, at most (see `each_once`)
        self._once: dict[tuple[str, str], np.ndarray | None] = {}

    def resolve(self) -> None:
        """Find images and layers."""
        self.images = self.study.images(self.asked.data, self.kinds)
        self.layers = self.study.layers(self.asked.layer, self.vectors)

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Say everything that a layer's results depend on, the settings under "settings"."""
        settings = {} if self.settings is None else self.settings.as_dict()
        key = self.study.key(layer, self.images, settings=settings)
        return {**key, **self.rounded(layer, self.images)}

    def stored_as(self, layer: Layer) -> str:
        """As what numbers a layer's activations are kept, where they are; else float32."""
        if self.stored is None:
            return ExtractSettings().type
        return self.study.stored_as(self.images, layer, self.stored)

    def rounded(self, layer: Layer, images: ImageSet) -> dict[str, str]:
        """Say the type of stored activations, where they are not what the network gives."""
        if self.stored is None:
            return {}
        return rounded_as(self.study.stored_as(images, layer, self.stored))

    def serves(self, earlier: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
        """Whether results that were made from something else are good enough."""
        return holds_more(earlier, mine)

    def measure(self, source: Source, layers: list[Layer]) -> Generator[Step, None, Sequence[Any]]:
        """Measure layers, one of them or all, on what a source gives of them.

        Where several processes share the source, all call this; the first one gets the results.
        """
        raise NotImplementedError

    def each_once(
        self, source: Source, layer: Layer, images: ImageSet
    ) -> Generator[Step, None, np.ndarray | None]:
        """Find the images that no earlier one equals, for methods that choose on some images and
        test on others: their places in the data's order; None where no two are equal.
        """
        from cnnlens.measure.distinct import distinct

        if (key := (layer.name, images.fingerprint)) not in self._once:
            positions, count = yield from distinct(source, images, self.study.model.preprocess)
            self._once[key] = positions if count else None
            self.repeated[layer.name] = max(count, self.repeated.get(layer.name, 0))
            self.say_copies(layer, images, count)
        return self._once[key]

    def say_copies(self, layer: Layer, images: ImageSet, count: int) -> None:
        """Say how many images were left out, as they equal others."""
        if count:
            self.study.voice.note(
                f"{layer.name}: {counted(count, 'image')} of {images.name} equal to earlier "
                "ones, pixel by pixel: of equal ones only the first counts"
            )

    def write(self, folder: Path, layer: Layer, found: Any) -> Iterator[int]:
        """Write a layer's files beside its summary; yield how many of its units are drawn."""
        return iter(())

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say what a layer's summary holds beside what was found."""
        return {}

    def read(self, folder: Path) -> Any:
        """Read a layer's results; raise where they are damaged."""
        from cnnlens.report.contents import read_object

        return page_part(self.reader)(folder) if self.reader else read_object(folder / SUMMARY)

    def folder(self, layer: Layer) -> Path:
        """Where a layer's results are."""
        return self.study.folder(self.name, layer) / self.within

    @cached_property
    def todo(self) -> list[Layer]:
        """Layers to be measured; damaged results are reported and left."""
        self.study.key(None, self.images)  # of labels too, as they are before anything is measured
        return [layer for layer in self.layers if not self._is_made(layer)]

    def _is_made(self, layer: Layer) -> bool:
        file = str(Path(self.within, SUMMARY))
        ledger = self.study.ledger(self.name, layer, file, listed="")
        if self.study.force or SUMMARY not in ledger.entries:
            return False
        self.read(self.folder(layer))
        mine = self.made_from(layer)
        return ledger.is_made(
            Item(SUMMARY, mine, serves=lambda earlier: self.serves(earlier, mine))
        )

    def plan(self) -> str:
        """Say which layers are measured on what, and which were before."""
        if done := ", ".join(layer.name for layer in self.layers if layer not in self.todo):
            self.study.voice.note(f"{done}: done before with these settings (--force redoes it)")
        units = [f"{counted(layer.units, 'unit')} of {layer.name}" for layer in self.todo]
        return f"{', '.join(units)}, on {counted(len(self.images.paths), 'image')}" if units else ""

    def fill(self) -> Iterator[Step]:
        """Run the model for layers that have no store, where activations are kept."""
        if self.todo and self.stored is not None:
            force = self.study.force
            yield from self.study.fill(self.images, self.todo, self.stored, force=force)

    def work(self) -> Iterator[Step]:
        """Measure what is missing, layer by layer where activations are kept, else all at once."""
        yield from self._measured()

    def assist(self) -> Iterator[Step]:
        """Do this process's part of the activations, and of measuring."""
        yield from self._measured()

    def _measured(self) -> Iterator[Step]:
        from cnnlens.activations.sources import ModelSource, StoreSource

        study = self.study
        if self.todo and self.stored is None:
            source = ModelSource(study.model, self.images, self.todo, study.run)
            yield from self._measure(self._shared(source), self.todo)
        elif self.todo:
            yield from self.fill()
            for layer in self.todo:
                with study.stored(self.images, layer).open() as store:
                    yield from self._measure(self._shared(StoreSource([store])), [layer])

    def _shared(self, source: ModelSource | StoreSource | SourcesInTurn) -> Source:
        """Give this process its part of a source, where several measure."""
        from cnnlens.activations.shared import SharedSource

        share = self.study.share
        return SharedSource(source, self.images, share) if share.joined else source

    def _measure(self, source: Source, layers: list[Layer]) -> Iterator[Step]:
        """Measure layers; of several processes, the first one keeps what was found."""
        names = ", ".join(layer.name for layer in layers)
        steps = self.measure(source, layers)
        results = yield from relayed(steps, lambda s: replace(s, stage=f"{names}: {s.stage}"))
        for layer, found in zip(layers, results, strict=True) if self.study.share.leads else ():
            yield from self._keep(layer, found, [*source.skipped, *found.skipped])

    def _keep(self, layer: Layer, found: Any, skipped: list[tuple[str, str]]) -> Iterator[Step]:
        from cnnlens.files import atomic_folder, write_json

        summary = {
            "layer": layer.name,
            **found.summary(),
            **({"repeated_images": n} if (n := self.repeated.get(layer.name)) is not None else {}),
            **self.described(layer),
            "skipped": [{"image": path, "reason": reason} for path, reason in skipped],
            "data": {"name": self.images.name},
            "made_from": self.made_from(layer),
        }
        self.study.voice.skipped(summary["skipped"])
        with atomic_folder(self.folder(layer)) as folder:
            write_json(folder / SUMMARY, summary)
            for done in self.write(folder, layer, found):
                yield Step(done, found.units, f"{layer.name}: pictures", unit="units")
        self.written.append(layer)

    def close(self) -> None:
        """Read the summaries of the layers that are measured."""
        from cnnlens.files import read_json

        self.summaries = {
            layer.name: read_json(self.folder(layer) / SUMMARY)
            for layer in self.layers
            if layer in self.written or layer not in self.todo
        }

    def result(self) -> Any:
        """Return one layer's results, or several by layer."""
        found = {layer.name: self.read(self.folder(layer)) for layer in self.layers}
        return self.of_layers(found)


def rounded_as(dtype: str | None) -> dict[str, str]:
    """Say the type of stored activations, where they are not what the network gives."""
    return {} if dtype in (None, ExtractSettings().type) else {"dtype": str(dtype)}


def holds_more(earlier: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    """Whether results differ from those wanted in nothing but more pictures."""
    theirs, wanted = earlier.get("settings"), mine["settings"]
    if not isinstance(theirs, dict) or not isinstance(theirs.get("top"), int):
        return False
    if "top" not in wanted:
        return False
    alike = {**earlier, "settings": {**theirs, "top": wanted["top"]}} == mine
    return alike and theirs["top"] >= wanted["top"]

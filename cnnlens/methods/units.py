"""``cnnlens units``: what every unit responds to, from any photos."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import counted
from cnnlens.files import make_folder, mark
from cnnlens.methods.measurement import SUMMARY, Measurement
from cnnlens.methods.method import Results, StoredInputs, page_part
from cnnlens.progress import Step
from cnnlens.settings import ExtractSettings, UnitsSettings

if TYPE_CHECKING:
    from cnnlens.activations.sources import ModelSource, Source, StoreSource
    from cnnlens.data.dataset import ImageSet
    from cnnlens.measure.responses import Responses
    from cnnlens.model.layer import Layer
    from cnnlens.study.session import Study


class Units(Measurement):
    """What every unit responds to, from any photos.

    The images that excite a unit most and least, each with its place, examples over the whole
    range, how its values spread, dead units, which classes excite it where there are classes, and
    the units of all stored layers that respond most alike. Tables go to WORKSPACE/units, the page
    to WORKSPACE/report.html.
    """

    name, panel, asks = "units", "Measure units", StoredInputs
    uses, shares = (*Measurement.uses, "shard"), True
    settings_types, vectors = (UnitsSettings,), True
    sections = (("units", page_part("units.units")),)
    examples = (
        "cnnlens units model.pt -d photos/ -l conv5",
        "cnnlens units -l conv3 -l conv4 --top 16 --per-bin 6",
    )
    reader = "notebook.read_units"
    pictured = ""  # `top` counts what is listed, with pictures or without

    @cached_property
    def others(self) -> list[tuple[str, Path, list[str]]]:
        """Name further layers that are stored for the same data: file, place and type of each."""
        from cnnlens.activations.extract import stored_layers

        mine = {layer.place.key for layer in self.layers}
        known = self.study.workspace.document["layers"]
        names = {entry["place"]: str(entry["name"]) for entry in known}
        folder = self.study.workspace.stores(self.images)
        found = stored_layers(self.study.model, self.images, folder, self.study.voice.note)
        return [
            (names.get(key.place, path.stem), path, [key.place, key.dtype])
            for path, key in found
            if key.place not in mine
        ]

    @cached_property
    def types(self) -> dict[str, str]:
        """Say how each layer's activations are stored, or will be, by its name."""
        return {layer.name: self._type(layer) for layer in self.layers}

    def _type(self, layer: Layer) -> str:
        if self.stored is None:
            return ExtractSettings().type
        return self.study.stored_as(self.images, layer)

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name the images and their categories, the network, the settings, the layers compared."""
        mine = [[one.place.key, self.types[one.name]] for one in self.layers if one is not layer]
        return self.study.key(
            layer,
            self.images,
            labels=mark(self.images.image_categories),
            dtype=self.types[layer.name],
            among=sorted([*mine, *(others for _, _, others in self.others)]),
            settings=self.settings.as_dict(),
            sums="without rounding",
            pictures="by image" if self.page else False,
        )

    def serves(self, earlier: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
        """Whether earlier results differ in nothing but pictures that are not wanted now."""
        return not mine["pictures"] and {**earlier, "pictures": False} == mine

    def _measured(self) -> Iterator[Step]:
        """Fill the stores that are missing, then measure all layers in one sweep."""
        if self.todo:
            if self.stored is not None:
                yield from self.fill()
            yield from self.measure_stores()

    def measure_stores(self) -> Iterator[Step]:
        """Measure what is missing, all layers in one sweep; their stores are there."""
        from cnnlens.activations.in_turn import SourcesInTurn
        from cnnlens.activations.sources import StoreSource
        from cnnlens.activations.store import Store

        if not self.todo:
            return
        # one that is stored meanwhile is none of them: all processes look at the same
        self.others = self.study.share.from_first(lambda: self.others)
        others = [layer for layer in self.layers if layer not in self.todo]
        with ExitStack() as stack:
            rest = [self._source(stack, others, alike=False)] if others else []
            if self.others:  # these are there, whether others are kept or not
                further = [stack.enter_context(Store(path)) for _, path, _ in self.others]
                rest.append(StoreSource(further, alike=False))
            self._rest = self._shared(SourcesInTurn(rest)) if rest else None
            self._names = [layer.name for layer in (*self.todo, *others)]
            self._names += [name for name, _, _ in self.others]
            yield from self._measure(self._shared(self._source(stack, self.todo)), self.todo)

    def _source(
        self, stack: ExitStack, layers: list[Layer], alike: bool = True
    ) -> ModelSource | StoreSource:
        """Give layers' activations, from their stores or from the network."""
        from cnnlens.activations.sources import ModelSource, StoreSource

        study, images = self.study, self.images
        if self.stored is None:
            return ModelSource(study.model, images, layers, study.run)
        stores = [study.stored(images, one).open() for one in layers]
        return StoreSource([stack.enter_context(store) for store in stores], alike)

    def fill(self) -> Iterator[Step]:
        """Run the model for layers that have no store, or for all where they are made anew."""
        from cnnlens.model.classes import gives_scores

        study = self.study
        if not self.todo:
            return
        some = self.layers
        if not study.force:
            some = [one for one in some if study.stored(self.images, one).dtype is None]
            for one in self.layers:
                if one not in some:
                    study.stored(self.images, one).tidy()
        if some:
            scores = gives_scores(study.model)
            yield from study.fill(self.images, some, None, scores, study.force)

    def measure(self, source: Source, layers: list[Layer]) -> Generator[Step, None, Sequence[Any]]:
        """Look at all stores once."""
        from cnnlens.measure.units import units_steps

        folder = make_folder(self.study.folder(self.name))
        return units_steps(
            source, self.images, self.settings, self._names, self._rest,
            self.study.model.preprocess, folder,
        )  # fmt: skip

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say what a unit sees where."""
        from cnnlens.report.seen import View

        view = View(self.study.model.preprocess.size, layer.fields)
        return {"masked": view.whole, "seen": view.as_dict()}

    def write(self, folder: Path, layer: Layer, found: Responses) -> Iterator[int]:
        """Write the tables, and once every image that is listed."""
        from cnnlens.report.figures.units import write_seen
        from cnnlens.report.unit_files import listed_rows, write_pictured, write_tables

        if count := len(found.repeated):
            self.study.voice.note(
                f"{layer.name}: {counted(count, 'image')} equal to earlier ones, pixel by pixel: "
                "of equal ones only the first is listed"
            )
        write_tables(folder, found, self.images.paths)
        if not self.page:
            return
        files: dict[int, str] = {}
        place = self.study.workspace.path / "images"
        wanted = found.positions[listed_rows(found)].tolist()
        preprocess, workers = self.study.model.preprocess, self.study.run.workers
        for position, file in write_seen(place, self.images, wanted, preprocess, workers):
            files[position] = file
            yield found.units * len(files) // len(wanted)
        write_pictured(folder, found, files)

    def show(self, results: Results) -> None:
        """Show each layer's units of highest peak, then layers beside each other."""
        from cnnlens.measure.responses import LAYER_COLUMNS, layer_row, unit_table

        for layer in self.layers:
            found = self.read(self.folder(layer))
            results.table(*unit_table(found.best(10)), title=f"{layer.name}: units of highest peak")
        found = list(self.summaries.values())
        results.table(LAYER_COLUMNS, [layer_row(summary) for summary in found], title="summary")
        results.say(f"tables: {self.study.folder(self.name)}")


def measure_units(study: Study, images: ImageSet, layers: Sequence[Layer]) -> Iterator[Step]:
    """Measure the units of layers that are stored: anew with the settings of an earlier time.

    Those that were measured on other images stay as they are, which is said.
    """
    by_name = {layer.name: layer for layer in layers}
    groups = study.share.from_first(lambda: _earlier(study, images, layers))
    for settings, names in groups.items():
        method = Units(study, settings=settings, page=True)
        method.images, method.layers = images, [by_name[name] for name in names]
        yield from method.measure_stores()


def _earlier(
    study: Study, images: ImageSet, layers: Sequence[Layer]
) -> dict[UnitsSettings, list[str]]:
    """Name the layers that are to be measured on these images, by the settings of last time."""
    from cnnlens.report.contents import read_object

    groups: dict[UnitsSettings, list[str]] = {}
    for layer in layers:
        path = study.folder(Units.name, layer) / SUMMARY
        earlier = read_object(path, ("settings", "data")) if path.exists() else {}
        if earlier and not _is_of(earlier, study, images):
            whose, mine = str(earlier["data"]["name"]), images.name
            if whose == mine:
                whose, mine = f"other images called {whose}", f"those in {images.root}"
            study.voice.note(
                f"{layer.name}: its units stay those of {whose} "
                f"(`cnnlens units` measures them on {mine})"
            )
            continue
        groups.setdefault(UnitsSettings(**earlier.get("settings", {})), []).append(layer.name)
    return groups


def _is_of(earlier: Mapping[str, Any], study: Study, images: ImageSet) -> bool:
    """Whether earlier results are of these images, or of what was in their folder before."""
    made_from = earlier.get("made_from")
    if isinstance(made_from, dict) and made_from.get("data") == images.fingerprint:
        return True
    return earlier["data"]["name"] == images.name and not study.workspace.has_namesake(images)

"""``cnnlens evolve``: the same units over the checkpoints of a training."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError
from cnnlens.files.ledger import RAW, Item, as_read, without_places
from cnnlens.methods.method import Inputs, Results, page_part
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.progress import Step, staged
from cnnlens.settings.attribution import DeconvSettings
from cnnlens.settings.evolve import EvolveSettings
from cnnlens.settings.inputs import data_input, filters_input, raw_input
from cnnlens.settings.measure import DissectSettings
from cnnlens.settings.option import option

if TYPE_CHECKING:
    from cnnlens.activations.kept import KeptUnits
    from cnnlens.attribution.projections import Projections
    from cnnlens.measure.evolution import Moment
    from cnnlens.model.layer import Layer
    from cnnlens.model.model import Model
    from cnnlens.study.checkpoints import Checkpoint


@dataclass(frozen=True)
class EvolveInputs(Inputs):
    """Which checkpoints, which units, on which images."""

    checkpoints: tuple[str, ...] = option(
        (), "The other checkpoints of the same training.", metavar="CKPT", argument=True
    )
    filters: tuple[str, ...] = filters_input(
        "Units of a layer: conv5:12, conv5:0-15, layer4:3,7,9, conv5:all; repeatable."
    )
    data: Path | None = data_input(
        "Images, the same for all checkpoints; label maps also say what units detect. "
        "Default: the workspace's last one."
    )
    raw: bool = raw_input()


class Evolve(Pictured):
    """Follow units over the checkpoints of a training.

    For every checkpoint the image that excites a unit most, the patch of it that the unit sees,
    and its projection (DeconvNet); where that image jumps, how many units of the layer are dead,
    and how the unit's peaks on all images correlate with those at the last checkpoint. With label
    maps also what it detects. Checkpoints are ordered by the epoch in their files, where all have
    one, else as given; cnnlens finetune --keep-checkpoints leaves some. The workspace is then
    about the last one, unless it knew one of them.
    """

    name, panel = "evolve", "Look at units"
    asks, settings_types = EvolveInputs, (EvolveSettings,)
    sections = (("evolve", page_part("evolve_files.evolution")),)
    noun, names_models = "checkpoint", True
    probes = (("", "attribution.deconv.probe"),)
    examples = (
        "cnnlens evolve new-epochs/*.pt -f conv5:0-7 -d photos/",
        "cnnlens evolve epoch1.pt epoch9.pt -f conv1:all -f conv5:3,7 -d broden/ -w evolution",
    )
    parts: list[Part]

    def resolve(self) -> None:
        """Open every checkpoint once; find images and units, and what is to be made."""
        from cnnlens.attribution.deconv import check_projects
        from cnnlens.data.given import Photos
        from cnnlens.model.addresses import units_by_layer
        from cnnlens.report.contents import file_names
        from cnnlens.study.checkpoints import Checkpoints

        asked, study = self.asked, self.study
        if not asked.filters:
            raise UsageError(
                "no units were named", "name some with -f LAYER:UNITS, like -f conv5:0-15"
            )
        spec = getattr(study.spec, "spec", study.spec)
        specs = [*([spec] if spec else []), *asked.checkpoints]
        self.checkpoints = Checkpoints(study, specs)
        images = None if asked.data is None else study.images(asked.data)
        targets = units_by_layer(study.filters(asked.filters))
        for layer, some in targets:
            check_projects(layer)
            _check_units(layer, some)
        self.images = images or study.images(None)
        self.photos = Photos.of_set(self.images, study.model.preprocess)
        self.skipped: list[dict[str, str]] | None = None
        self.made: set[tuple[str, str]] = set()
        names = [one.name for one in self.checkpoints.all]
        stems = [str(Path(name).with_suffix("")) for name in names]
        files = file_names(stems if len(set(stems)) == len(stems) else names)
        for layer, some in targets:
            units = [unit for unit, _ in some]
            each = zip(files.values(), self.checkpoints.all, strict=True)
            items = [self._item(file, one, layer, units) for file, one in each]
            ledger = study.ledger("evolve", layer, "columns.json")
            self.add(ledger, items, layer)

    @property
    def _labelled(self) -> bool:
        return self.images.kind == "broden"

    def _item(self, file: str, one: Checkpoint, layer: Layer, units: list[int]) -> Item:
        made_from = self.study.key(layer, self.images, units=units, settings=self._settings())
        if not self._labelled:
            del made_from["labels"]  # a changed label then changes nothing
        made_from |= {"model": one.fingerprint}
        serves: Any = partial(_serves_without, made_from)
        if self.asked.raw:  # they join those of the peaks, which are there anyway
            made_from, serves = made_from | {RAW: True}, None
        return Item(f"{file}.webp", made_from, (f"{file}.npz",), (one, units), serves)

    def _settings(self) -> dict[str, Any]:
        """The settings that play a part on these images."""
        known: dict[str, Any] = self.settings.as_dict()
        return known if self._labelled else {"method": known["method"]}

    def plan(self) -> str:
        """Say how many checkpoints are to be looked at, on which images."""
        return f"{words}, on {self.photos.words}" if (words := self.to_make()) else ""

    # ---- making

    def work(self) -> Iterator[Step]:
        """Look at one checkpoint after the other, at all layers in one pass over the images."""
        todo: dict[Checkpoint, list[tuple[Part, Item]]] = {}
        for part in self.parts:
            for item in part.todo:
                todo.setdefault(item.subject[0], []).append((part, item))
        for number, (one, pairs) in enumerate(todo.items(), 1):
            stage = f"{one.name} ({number} of {len(todo)})"
            yield from staged(stage, self._look(self.checkpoints.open(one), pairs))

    def _look(
        self, model: Model, pairs: Sequence[tuple[Part, Item]]
    ) -> Generator[Step, None, None]:
        from cnnlens.activations.kept import KeptUnits
        from cnnlens.activations.sources import ModelSource
        from cnnlens.files import make_folder
        from cnnlens.measure.evolution import watch_steps

        run, layers = self.study.run, [part.layer for part, _ in pairs if part.layer is not None]
        units = [item.subject[1] for _, item in pairs]
        source = ModelSource(model, self.images, layers, run)
        folders = [make_folder(part.ledger.folder) for part, _ in pairs]
        kept: list[KeptUnits | None] = [
            KeptUnits(some, shape, folder) if self._labelled else None
            for some, shape, folder in zip(units, source.shapes, folders, strict=True)
        ]
        moments = yield from watch_steps(source, units, kept)
        self._say_skipped([{"image": path, "reason": why} for path, why in source.skipped])
        for (part, item), moment, maps in zip(pairs, moments, kept, strict=True):
            labels: list[dict[str, Any]] = [{} for _ in moment.units]
            if maps is not None:
                labels = yield from self._labels(maps)
            yield Step(0, len(moment.units), "projecting", unit="units")
            self._keep(part, item, moment, labels, model)

    def _labels(self, maps: KeptUnits) -> Generator[Step, None, list[dict[str, Any]]]:
        from cnnlens.data.broden import Broden
        from cnnlens.measure.dissect import dissect_steps
        from cnnlens.measure.evolution import labels_of

        s = self.settings
        assert isinstance(self.images, Broden)
        how = DissectSettings(quantile=s.quantile, min_iou=s.min_iou, chance=0, top=0)
        (found,) = yield from dissect_steps(maps, self.images, how, self.study.run.workers)
        return labels_of(found)

    def _say_skipped(self, skipped: list[dict[str, str]]) -> None:
        if self.skipped is None:
            self.skipped = skipped
            self.study.voice.skipped(self.skipped)

    def _keep(
        self, part: Part, item: Item, moment: Moment, labels: Sequence[dict[str, Any]], model: Model
    ) -> None:
        """Project each unit on its top image; write the column, and the peaks beside it."""
        from cnnlens.attribution.projections import Projections, stacked
        from cnnlens.files import write_npz
        from cnnlens.model.receptive_field import field_box
        from cnnlens.report.figures.evolve import save_column

        assert part.layer is not None
        fields, preprocess, names = part.layer.fields, model.preprocess, self.photos.names
        how = DeconvSettings(method=self.settings.method)
        projections = Projections(
            model, part.layer, self.photos.read, names.__getitem__, how, self.study.run.batch_size
        )
        seen = [
            None if top is None else projections.of(unit, [top], (at[0], at[1]))[0]
            for unit, top, at in _tops(moment)
        ]
        boxes = [
            None if one is None else list(field_box(fields, one.position, preprocess.size))
            for one in seen
        ]
        units = [
            {**peak, "box": box, **label}
            for peak, box, label in zip(_peaks(moment, names), boxes, labels, strict=True)
        ]
        part.ledger.begin(item)
        patches = [None if one is None else one.patch(fields, preprocess) for one in seen]
        save_column(part.ledger.folder / item.name, patches)
        arrays = {"units": moment.units, "images": moment.images, "peaks": moment.peaks}
        arrays |= {"at": moment.at, "highest": moment.highest}
        if self.asked.raw:
            arrays |= stacked(seen, preprocess)
        write_npz(part.ledger.folder / item.files[0], **arrays)
        entry = {"file": item.name, "dead_units": moment.dead_units, "units": units}
        entry["skipped"] = self.skipped or []  # the same images for all: another run says them, too
        part.ledger.keep(item, {**entry, "undefined": self._undefined(projections)})
        self.made.add((part.name, item.name))

    def _undefined(self, projections: Projections) -> list[str]:
        """Name what the method defines no rule for; say so once."""
        method = self.settings.method
        unruled = [] if method == "gradient" else projections.undefined
        if unruled and not self.made:
            self.study.voice.note(
                f"{method} defines no rule for {', '.join(unruled)}: the plain gradient "
                "passes there"
            )
        return unruled

    # ---- what is said

    def close(self) -> None:
        """List what was made; of checkpoints that are all there, write how units evolved."""
        from cnnlens.files import write_json
        from cnnlens.report.evolve_files import FILE, gathered, undefined
        from cnnlens.report.figures.evolve import save_sheets

        for part in self.parts:
            if not part.ledger.entries:
                continue
            part.ledger.close({"layer": part.name})
            file = part.ledger.folder / FILE
            made = [item for item in part.todo if (part.name, item.name) in self.made]
            if len(made) < len(part.todo):
                if made:  # what an earlier run wrote shows pictures that are others now
                    file.unlink(missing_ok=True)
                continue
            found = gathered(part.ledger.folder, self._about(part), self._told(part))
            self.summaries[part.name] = found
            save_sheets(part.ledger.folder, found)
            write_json(file, found)
            if said := undefined(found):
                self.study.voice.note(f"{part.name}: {said}")

    def _about(self, part: Part) -> dict[str, Any]:
        assert part.layer is not None
        if self.skipped is None:  # no checkpoint was looked at in this run
            entries = (part.ledger.entries[item.name] for item in part.items)
            self._say_skipped(next((e["skipped"] for e in entries if e.get("skipped")), []))
        return {
            "layer": part.name,
            "layer_units": part.layer.units,
            "order": self.checkpoints.order,
            "images": {"name": self.images.name, "count": len(self.images.paths)},
            "settings": self._settings(),
            "skipped": self.skipped or [],
        }

    def _told(self, part: Part) -> Iterator[Mapping[str, Any]]:
        for item in part.items:
            one, entry = item.subject[0], part.ledger.entries[item.name]
            rest = {k: v for k, v in entry.items() if k not in ("file", "made_from", "skipped")}
            yield {"file": one.name, "epoch": one.epoch, "picture": item.name, **rest}

    def show(self, results: Results) -> None:
        """Show each layer's checkpoints."""
        from cnnlens.report.evolve_files import table_of

        for name, found in self.summaries.items():
            results.table(*table_of(found), title=name)
        results.say(f"pictures: {self.study.folder(self.name)}")

    def result(self) -> Any:
        """Return how the units evolved; of several layers, by layer."""
        from cnnlens.report.evolve_files import Evolved

        found = {
            part.name: Evolved(part.name, part.ledger.folder, self.summaries[part.name])
            for part in self.parts
        }
        return next(iter(found.values())) if len(found) == 1 else found


def _tops(moment: Moment) -> Iterator[tuple[int, int | None, list[int]]]:
    """Give each unit, its top image, None where it is dead, and the place of its peak there."""
    columns = moment.units, moment.top.tolist(), moment.at.tolist(), moment.dead
    for unit, top, at, dead in zip(*columns, strict=True):
        yield unit, None if dead else top, at


def _peaks(moment: Moment, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for unit, top, at in _tops(moment):
        yield {
            "unit": unit,
            "peak": float(moment.highest[unit]),
            "top_image": None if top is None else names[top],
            "position": None if top is None else at,
        }


def _serves_without(wanted: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether a column was made from the same, and has its arrays besides."""
    rest = {key: value for key, value in earlier.items() if key != RAW}
    return without_places(rest) == without_places(as_read(wanted))


def _check_units(layer: Layer, targets: Sequence[tuple[int, Any]]) -> None:
    from cnnlens.report.figures.evolve import MOST

    for unit, at in targets:
        if at is not None:
            where = f"{layer.name}:{unit}@{at[0]},{at[1]}"
            raise UsageError(f"{where} is one position, and a unit's peak is what evolves",
                             f"write {layer.name}:{unit}")  # fmt: skip
    if len(targets) > MOST:
        raise UsageError(f"{len(targets)} units of {layer.name} do not fit on a sheet",
                         f"name up to {MOST}")  # fmt: skip

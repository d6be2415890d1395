"""``cnnlens deconv``: which pixels of which photos drove a unit."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import Photos
from cnnlens.errors import UsageError
from cnnlens.files.ledger import MADE_FROM, Item, Ledger
from cnnlens.methods.measurement import holds_more, rounded_as
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.model.addresses import units_by_layer
from cnnlens.progress import Step
from cnnlens.settings.attribution import DeconvSettings
from cnnlens.settings.inputs import data_input, filters_input, images_input, raw_input

if TYPE_CHECKING:
    from cnnlens.attribution.projections import UnitProjections
    from cnnlens.measure.ranked_targets import Ranked, Target


@dataclass(frozen=True)
class DeconvInputs(Inputs):
    """Which units, on which images."""

    filters: tuple[str, ...] = filters_input()
    image: tuple[Path, ...] = images_input()
    data: Path | None = data_input()
    raw: bool = raw_input()


class Deconv(Pictured):
    """Project units back to pixels: what of an image drove them.

    DeconvNet, on the images of a data set that excite a unit most (-d), or on given ones (-i).
    """

    name, panel = "deconv", "Look at units"
    asks, settings_types = DeconvInputs, (DeconvSettings,)
    uses = ("device", "batch_size", "workers")
    sections = (("deconv", page_part("sections.projections")),)
    probes = (("", "attribution.deconv.probe"),)
    noun, columns = "unit", ("layer", "picture", "activation", "highest on")
    examples = (
        "cnnlens deconv model.pt -f conv5:0-15 -d photos/",
        "cnnlens deconv -f conv5:12@6,6 -i dog.jpg --method guided",
    )

    def resolve(self) -> None:
        """Find images and units, and what is to be made."""
        from cnnlens.attribution.deconv import check_projects

        asked, study = self.asked, self.study
        if not asked.filters:
            raise UsageError(
                "no units were named", "name some with -f LAYER:UNITS, like -f conv5:0-15"
            )
        if asked.image and asked.data is not None:
            raise UsageError("-i and -d both name images", "give one of them")
        given = study.given(asked.image) if asked.image else None
        images = None if asked.data is None else study.images(asked.data)
        targets = units_by_layer(study.filters(asked.filters))
        for layer, _ in targets:
            check_projects(layer)
        preprocess = study.model.preprocess
        if given is not None:
            self.photos = Photos.of_given(given, preprocess)
            study.voice.skipped(self.photos.skipped or [])
        else:
            images = images or study.images(None)
            self.photos = Photos.of_set(images, preprocess)
        self.images = images
        # of the data, pictures alone count: a changed label changes no projection
        squash = images is not None and images.aligned
        for layer, some in targets:
            ledger = study.ledger("deconv", layer)
            key = study.key(layer, of=self.photos.about, squash=squash)
            if images is not None:  # what excites a unit most is looked up in a store, if any
                key |= rounded_as(study.stored(images, layer).dtype)
            self.add(ledger, [self._item(ledger, key, target) for target in some], layer)

    def _item(self, ledger: Ledger, key: Mapping[str, Any], target: Target) -> Item:
        """Describe a unit's picture; one of more images that is there already is meant instead."""
        unit, at = target
        name = f"{unit}@{at[0]},{at[1]}" if at else str(unit)
        earlier = ledger.entries.get(f"{name}.png", {}).get(MADE_FROM)
        made_from: Mapping[str, Any] = {**key, "settings": self.settings.as_dict()}
        if self.images is None:
            del made_from["settings"]["top"]  # plays no part on given images
        elif isinstance(earlier, dict) and not ledger.force and holds_more(earlier, made_from):
            made_from = earlier
        subject = target, made_from["settings"].get("top")
        return Item(f"{name}.png", made_from, subject=subject, raw=self.asked.raw)

    def plan(self) -> str:
        """Say how many units of what, on which images."""
        top = "" if self.images is None else f"the top {self.settings.top} of "
        return f"{words}, on {top}{self.photos.words}" if (words := self.to_make()) else ""

    # ---- making

    def work(self) -> Iterator[Step]:
        """Find the images of all units in one sweep; then project unit after unit."""
        from cnnlens.attribution.projections import Projections

        model, photos, size = self.study.model, self.photos, self.study.run.batch_size
        name = photos.names.__getitem__
        ranks = yield from self._rank()
        for part in self.parts:
            projections = Projections(model, part.layer, photos.read, name, self.settings, size)
            count, stage = len(part.todo), f"{part.name}: projecting"
            for number, item in enumerate(part.todo):
                yield Step(number, count, stage, unit="units")
                (unit, at), top = item.subject
                if ranked := ranks.get(part.name):
                    best = [image for image, _ in ranked.best(number)[:top]]
                    found = projections.unit(unit, best, at, ranked.dead(number))
                else:
                    found = projections.unit(unit, range(len(photos.names)), at)
                part.ledger.begin(item)
                part.ledger.keep(item, self._draw(part, item, found))
                if found.unruled:
                    self.study.voice.note(
                        f"{self.settings.method} defines no rule for {found.unruled}: "
                        "the plain gradient passes there"
                    )
                yield Step(number + 1, count, stage, unit="units")

    def _rank(self) -> Generator[Step, None, dict[str, Ranked]]:
        """Find the top images of every unit that is to be made, by layer."""
        from cnnlens.measure.ranked_targets import rank_steps

        todo = [part for part in self.parts if part.todo]
        if self.images is None or not todo:
            return {}
        top = max(item.subject[1] for part in todo for item in part.todo)
        kept = [part for part in todo if self._is_kept(part)]
        found: dict[str, Ranked] = {}
        skipped: list[tuple[str, str]] = []
        # apart: of layers of which one has no store, the network would be asked about all
        for parts in filter(None, (kept, [part for part in todo if part not in kept])):
            targets = [[item.subject[0] for item in part.todo] for part in parts]
            with self.study.source(self.images, [part.layer for part in parts]) as source:
                ranks = yield from rank_steps(source, targets, top)
                skipped += source.skipped
            found |= {part.name: ranked for part, ranked in zip(parts, ranks, strict=True)}
        named = [{"image": path, "reason": why} for path, why in dict.fromkeys(skipped)]
        self.photos.skipped = named
        self.study.voice.skipped(named)
        return found

    def _is_kept(self, part: Part) -> bool:
        """Whether a store has a layer's activations on the data."""
        assert self.images is not None and part.layer is not None
        return self.study.stored(self.images, part.layer).dtype is not None

    def _draw(self, part: Part, item: Item, found: UnitProjections) -> dict[str, Any]:
        """Draw one unit; return its entry in the JSON."""
        from cnnlens.files import write_npz
        from cnnlens.report.figures.attribution import save_unit

        assert part.layer is not None
        top = "" if self.images is None else f"top {len(found.seen)} of "
        of = top + self.photos.words
        boxes = save_unit(part.file(item), found, part.layer, self.study.model.preprocess, of)
        names = [self.photos.names[one.image] for one in found.seen]
        if self.asked.raw:
            write_npz(part.file(item, ".npz"), **found.arrays(), paths=names)
        return {"file": item.name, "layer": part.name, "of": of, **found.as_dict(names, boxes)}

    # ---- what is said

    def summary(self, part: Part) -> dict[str, Any]:
        """Say on which images, and which units are dead."""
        from cnnlens.attribution.projections import failures

        return {
            "layer": part.name,
            "settings": self.settings.as_dict(),
            "images": self.photos.about,
            "skipped": self._skipped(part),
            **failures(part.ledger.entries.values()),
        }

    def _skipped(self, part: Part) -> Any:
        """List damaged images: those met now, else those that an earlier run met."""
        if self.photos.skipped is not None:
            return self.photos.skipped
        return [] if part.todo else part.ledger.summary.get("skipped", [])

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the unit's highest activation, or why it is dead, and on which image that is."""
        peak = f"dead: {entry['dead']}" if entry["dead"] else round(entry["final"], 4)
        best = max(entry["images"], key=lambda one: one["activation"])
        yield entry["layer"], entry["file"], peak, best["image"]

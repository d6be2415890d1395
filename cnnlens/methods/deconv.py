"""``cnnlens deconv``: which pixels of which photos drove a unit."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import readable
from cnnlens.errors import UsageError
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured, counted
from cnnlens.progress import Step
from cnnlens.settings.attribution import DeconvSettings
from cnnlens.settings.option import data_input, filters_input, images_input, raw_input
from cnnlens.study.ledger import MADE_FROM, Item, Ledger

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.attribution.projections import Projected, Projections
    from cnnlens.measure.top import Ranked, Target
    from cnnlens.model.layers import Layer


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
    sections = (("deconv", page_part("sections.projections")),)
    noun, columns = "unit", ("layer", "picture", "activation", "first image")
    examples = (
        "cnnlens deconv model.pt -f conv5:0-15 -d photos/",
        "cnnlens deconv -f conv5:12@6,6 -i dog.jpg --method guided",
    )

    def resolve(self) -> None:
        """Find images and units, and what is to be made."""
        asked = self.asked
        if not asked.filters:
            raise UsageError(
                "no units were named", "name some with -f LAYER:UNITS, like -f conv5:0-15"
            )
        if asked.image and asked.data is not None:
            raise UsageError("-i and -d both name images", "give one of them")
        self.given = self.study.given(asked.image) if asked.image else None
        self.images = None if asked.data is None else self.study.images(asked.data)
        targets = self._targets()
        if self.images is None and self.given is None:
            self.images = self.study.images(None)
        self._read_given()
        for layer, some in targets:
            ledger = self.study.ledger("deconv", layer)
            # of the data, pictures alone count: a changed label changes no projection
            squash = self.images is not None and self.images.aligned
            key = self.study.key(layer, of=self.about, squash=squash)
            self.add(ledger, [self._item(ledger, key, target) for target in some], layer)

    def _targets(self) -> list[tuple[Layer, list[Target]]]:
        """List what was named, each place and each target once."""
        found: dict[object, tuple[Layer, dict[Target, None]]] = {}
        for layer, units, position in self.study.filters(self.asked.filters):
            if units is None:
                raise UsageError(
                    f"'{layer.name}' names no units", f"write {layer.name}:12 or {layer.name}:all"
                )
            _, targets = found.setdefault(layer.place, (layer, {}))
            targets.update(dict.fromkeys((unit, position) for unit in units))
        return [(layer, list(targets)) for layer, targets in found.values()]

    def _read_given(self) -> None:
        """Read the given images; say what the images are, in the JSON and for people."""
        self.skipped: list[dict[str, str]] | None = None  # not known before all were read
        self.about: dict[str, Any]
        if self.given is None:
            assert self.images is not None
            self.names = [str(path) for path in self.images.paths]
            self.about = {"name": self.images.name, "fingerprint": self.images.fingerprint}
            self.words = f"{len(self.names)} images in {self.images.name}"
            return
        read = list(self.given.read(self.study.model.preprocess))
        self.skipped = self.given.skipped
        self.study.voice.skipped(self.skipped)
        self.names = [image.shown for image, _ in read]
        self.pixels = [pixels for _, pixels in read]
        self.about = {"given": [image.mark for image, _ in read]}
        self.words = counted(len(read), "given image")

    def _item(self, ledger: Ledger, key: Mapping[str, Any], target: Target) -> Item:
        """Describe a unit's picture; one of more images that is there already is meant instead."""
        name, top = _stem(target), self.settings.top
        file, others = f"{name}.png", (f"{name}.npz",) if self.asked.raw else ()
        larger = _top_of(ledger.entries.get(file, {}))
        if larger > top and ledger.is_made(Item(file, self._made_from(key, larger))):
            top = larger
        return Item(file, self._made_from(key, top), others, (target, top))

    def _made_from(self, key: Mapping[str, Any], top: int) -> dict[str, Any]:
        settings = self.settings.as_dict() | {"top": top}
        if self.given:
            del settings["top"]  # plays no part on given images
        return {**key, "settings": settings}

    def plan(self) -> str:
        """Say how many units of what, on which images."""
        top = "" if self.given else f"the top {self.settings.top} of "
        return f"{words}, on {top}{self.words}" if (words := self.to_make()) else ""

    # ---- making

    def work(self) -> Iterator[Step]:
        """Find the images of all units in one sweep; then project unit after unit."""
        from cnnlens.attribution.projections import Projections

        model, size, name = self.study.model, self.study.run.batch_size, self.names.__getitem__
        ranks = yield from self._rank()
        for part in self.parts:
            projections = Projections(model, part.layer, self._pixels, name, self.settings, size)
            count, stage = len(part.todo), f"{part.name}: projecting"
            for number, item in enumerate(part.todo):
                yield Step(number, count, stage, unit="units")
                seen, dead = self._project(projections, item, number, ranks.get(part.name))
                part.ledger.keep(item, self._draw(part, item, seen, dead, projections.undefined))
                self._warn(projections.undefined)
                yield Step(number + 1, count, stage, unit="units")

    def _rank(self) -> Generator[Step, None, dict[str, Ranked]]:
        """Find the top images of every unit that is to be made, by layer."""
        from cnnlens.measure.top import rank_steps

        todo = [part for part in self.parts if part.todo]
        if self.images is None or not todo:
            return {}
        targets = [[item.subject[0] for item in part.todo] for part in todo]
        top = max(item.subject[1] for part in todo for item in part.todo)
        with self.study.source(self.images, [part.layer for part in todo]) as source:
            ranks = yield from rank_steps(source, targets, top)
            self.skipped = [{"image": path, "reason": reason} for path, reason in source.skipped]
        self.study.voice.skipped(self.skipped)
        return {part.name: ranked for part, ranked in zip(todo, ranks, strict=True)}

    def _pixels(self, number: int) -> np.ndarray:
        if self.images is None:
            return self.pixels[number]
        with readable():
            return self.images.pixels(number, self.study.model.preprocess)

    def _project(
        self, projections: Projections, item: Item, number: int, ranked: Ranked | None
    ) -> tuple[list[Projected], str]:
        """Project a unit on its top images, or on the given ones; say why it is dead, if it is."""
        from cnnlens.attribution.projections import why_dead

        (unit, at), top = item.subject
        if ranked is None:
            seen = projections.of(unit, range(len(self.pixels)), at)
            return seen, why_dead(seen)
        best = [image for image, _ in ranked.best(number)[:top]]
        return projections.of(unit, best, at), ranked.dead(number)

    def _draw(
        self, part: Part, item: Item, seen: list[Projected], dead: str, undefined: list[str]
    ) -> dict[str, Any]:
        """Draw one unit; return its entry in the JSON."""
        from cnnlens.attribution.projections import arrays_of
        from cnnlens.files import write_npz
        from cnnlens.report.figures.deconv import save_unit

        assert part.layer is not None
        (unit, at), _ = item.subject
        title = f"{part.name} unit {unit}" + (f" at {at[0]},{at[1]}" if at else "")
        boxes = save_unit(
            part.file(item),
            part.layer.fields,
            self.study.model.preprocess,
            [(p.pixels, p.projection, p.position) for p in seen],
            title + (" — dead" if dead else ""),
            [self._head(seen, dead), self._foot(undefined, at)],
        )
        names = [self.names[p.image] for p in seen]
        if self.asked.raw:
            write_npz(part.file(item, ".npz"), **arrays_of(seen), paths=names)
        peak = max(p.activation for p in seen)
        return {
            "file": item.name,
            "layer": part.name,
            "unit": unit,
            **({"position": list(at)} if at else {}),
            "method": self.settings.method,
            "initial": peak,
            "final": peak,
            "trace": [peak],
            "dead": dead or None,
            **({"undefined": undefined} if undefined else {}),
            "images": [
                one.as_dict(name, box) for one, name, box in zip(seen, names, boxes, strict=True)
            ],
        }

    def _head(self, seen: list[Projected], dead: str) -> str:
        if dead:
            return f"{dead}: there is nothing to project"
        reach = " to ".join(f"{p.activation:.3g}" for p in (seen[0], *seen[1:][-1:]))
        which = "" if self.given else f"top {len(seen)} of "
        return f"{which}{self.words}   activation {reach}"

    def _foot(self, undefined: list[str], at: tuple[int, int] | None) -> str:
        start = "that position" if at else "the peak"
        start = "the whole map" if self.settings.whole_map else start
        text = f"{self.settings.method} from {start}; grey is 0, each projection on its own scale"
        if undefined and self.settings.method != "gradient":
            text += f"; plain gradient through {', '.join(undefined)}"
        return text

    def _warn(self, undefined: list[str]) -> None:
        if undefined and self.settings.method != "gradient":
            self.study.voice.note(
                f"{self.settings.method} defines no rule for {', '.join(undefined)}: "
                "the plain gradient passes there"
            )

    # ---- what is said

    def summary(self, part: Part) -> dict[str, Any]:
        """Say on which images, and which units are dead."""
        entries = part.ledger.entries.values()
        return {
            "layer": part.name,
            "settings": self.settings.as_dict(),
            "images": self.about,
            "skipped": self._skipped(part),
            "undefined": sorted({name for entry in entries for name in entry.get("undefined", ())}),
            "dead_units": sorted(
                {e["unit"] for e in entries if e.get("dead") and "position" not in e}
            ),
        }

    def _skipped(self, part: Part) -> Any:
        """List damaged images: those met now, else those that an earlier run met."""
        from cnnlens.files import read_json

        if self.skipped is not None:
            return self.skipped
        path = part.ledger.path
        return read_json(path).get("skipped", []) if path.is_file() and not part.todo else []

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the unit's activation on its first image, or why it is dead."""
        peak = f"dead: {entry['dead']}" if entry["dead"] else round(entry["final"], 4)
        yield entry["layer"], entry["file"], peak, entry["images"][0]["image"]


def _stem(target: Target) -> str:
    unit, at = target
    return f"{unit}@{at[0]},{at[1]}" if at else str(unit)


def _top_of(entry: Mapping[str, Any]) -> int:
    """How many images a picture that is there was made for; 0 where that is not known."""
    try:
        return int(entry[MADE_FROM]["settings"]["top"])
    except (KeyError, TypeError, ValueError):
        return 0

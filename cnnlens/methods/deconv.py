"""``cnnlens deconv``: which pixels of which photos drove a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.method import (
    Inputs,
    Method,
    Results,
    data_input,
    filters_input,
    images_input,
    raw_input,
)
from cnnlens.progress import Step
from cnnlens.settings.attribution import DeconvSettings
from cnnlens.study.ledger import MADE_FROM, Item, Ledger

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.attribution.projections import Projected, Projections
    from cnnlens.measure.top import Ranked, Target
    from cnnlens.model.layers import Layer
    from cnnlens.report.blocks import Section
    from cnnlens.study.images import GivenImage

_ROWS = 40  # of the table


@dataclass(frozen=True)
class DeconvInputs(Inputs):
    """Which units, on which images."""

    filters: tuple[str, ...] = filters_input()
    image: tuple[Path, ...] = images_input()
    data: Path | None = data_input()
    raw: bool = raw_input()


def projections(workspace: Path) -> Section | None:
    """Gather the page's part about projections."""
    from cnnlens.report.sections import projections as gather

    return gather(workspace)


@dataclass
class _Units:
    """Units of one layer, made and to be made; a subject is (target, images)."""

    layer: Layer
    ledger: Ledger
    items: list[Item]
    todo: list[Item]
    ranked: Ranked | None = None

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Entries of what was asked for, in that order."""
        known = self.ledger.entries
        return [known[item.name] for item in self.items if item.name in known]


class Deconv(Method):
    """Project units back to pixels: what of an image drove them.

    DeconvNet, on the images of a data set that excite a unit most (-d), or on given ones (-i).
    """

    name, panel = "deconv", "Look at units"
    asks, settings_types = DeconvInputs, (DeconvSettings,)
    sections = (("deconv", projections),)
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
        self.units = [self._units(layer, some) for layer, some in targets]

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
        self.readable: list[tuple[GivenImage, np.ndarray]] = []
        self.about: dict[str, Any]
        if self.images is not None:
            self.about = {"name": self.images.name, "fingerprint": self.images.fingerprint}
            self.words = f"{len(self.images.paths)} images in {self.images.name}"
            return
        assert self.given is not None
        self.readable = list(self.given.read(self.study.model.preprocess))
        self.skipped = self.given.skipped
        self.study.voice.skipped(self.skipped)
        self.about = {"given": [image.mark for image, _ in self.readable]}
        count = len(self.readable)
        self.words = "1 given image" if count == 1 else f"{count} given images"

    def _units(self, layer: Layer, targets: Sequence[Target]) -> _Units:
        ledger = self.study.ledger("deconv", layer)
        # of the data, pictures alone count: a changed label changes no projection
        squash = self.images is not None and self.images.aligned
        key = self.study.key(layer, of=self.about, squash=squash)
        items = [self._item(ledger, key, target) for target in targets]
        todo = self.missing(ledger, items, "unit", layer.name)
        return _Units(layer, ledger, items, todo)

    def _item(self, ledger: Ledger, key: Mapping[str, Any], target: Target) -> Item:
        """Describe a unit's picture; one of more images that is there already is meant instead."""
        file, top = f"{_stem(target)}.png", self.settings.top
        larger = _top_of(ledger.entries.get(file, {}))
        if larger > top and ledger.is_made(Item(file, self._made_from(key, larger))):
            top = larger
        others = (f"{_stem(target)}.npz",) if self.asked.raw else ()
        return Item(file, self._made_from(key, top), others, (target, top))

    def _made_from(self, key: Mapping[str, Any], top: int) -> dict[str, Any]:
        settings = self.settings.as_dict() | {"top": top}
        if self.given:
            del settings["top"]  # plays no part on given images
        return {**key, "settings": settings}

    def plan(self) -> str:
        """Say how many units of what, on which images."""
        counts = [(len(one.todo), one.layer.name) for one in self.units if one.todo]
        units = [f"{n} unit{'' if n == 1 else 's'} of {name}" for n, name in counts]
        top = "" if self.given else f"the top {self.settings.top} of "
        return f"{', '.join(units)}, on {top}{self.words}" if units else ""

    # ---- making

    def work(self) -> Iterator[Step]:
        """Find the images of all units in one sweep; then project unit after unit."""
        from cnnlens.attribution.projections import Projections

        yield from self._rank()
        for one in self.units:
            projections = Projections(
                self.study.model,
                one.layer,
                self._pixels,
                self._name,
                self.settings,
                self.study.run.batch_size,
            )
            for number, item in enumerate(one.todo):
                stage = f"{one.layer.name}: projecting"
                yield Step(number, len(one.todo), stage, unit="units")
                one.ledger.keep(item, self._picture(one, number, projections))
                self._warn(projections)
                yield Step(number + 1, len(one.todo), stage, unit="units")

    def _rank(self) -> Iterator[Step]:
        """Find the top images of every unit that is to be made."""
        from cnnlens.measure.top import Ranked

        todo = [one for one in self.units if one.todo]
        if self.images is None or not todo:
            return
        ranks = []
        for one in todo:
            most = max(top for _, top in (item.subject for item in one.todo))
            one.ranked = Ranked([item.subject[0] for item in one.todo], most)
            ranks.append(one.ranked.update)
        with self.study.source(self.images, [one.layer for one in todo]) as source:
            for step in source.sweep(ranks):
                yield Step(step.done, step.total, "looking for top images", step.limit)
            self.skipped = [{"image": path, "reason": reason} for path, reason in source.skipped]
        self.study.voice.skipped(self.skipped)

    def _pixels(self, number: int) -> np.ndarray:
        """Read an image, (C, H, W) uint8."""
        from cnnlens.data.decode import DamagedImage

        if self.images is None:
            return self.readable[number][1]
        preprocess = self.study.model.preprocess
        try:
            image = self.images.load(number, "L" if preprocess.channels == 1 else "RGB")
        except DamagedImage as damage:
            raise CnnlensError(f"{damage.path} cannot be read: {damage.reason}") from damage
        pixels = preprocess.pixels(image, squash=self.images.aligned)  # (H, W, C)
        return pixels.transpose(2, 0, 1).copy()

    def _name(self, number: int) -> str:
        if self.images is None:
            return self.readable[number][0].shown
        return str(self.images.paths[number])

    def _warn(self, projections: Projections) -> None:
        if projections.undefined and self.settings.method != "gradient":
            self.study.voice.note(
                f"{self.settings.method} defines no rule for {', '.join(projections.undefined)}: "
                "the plain gradient passes there"
            )

    def _picture(self, one: _Units, number: int, projections: Projections) -> dict[str, Any]:
        """Draw one unit; return its entry in the JSON."""
        from cnnlens.report.figures.deconv import save_unit

        (unit, at), top = one.todo[number].subject
        if one.ranked is None:
            seen = projections.of(unit, range(len(self.readable)), at)
            dead = _why_dead(seen)
        else:
            best = one.ranked.best(number)[:top]
            seen, dead = projections.of(unit, [p for p, _ in best], at), one.ranked.dead(number)
        title = f"{one.layer.name} unit {unit}" + (f" at {at[0]},{at[1]}" if at else "")
        file = one.ledger.folder / one.todo[number].name
        boxes = save_unit(
            file,
            one.layer.fields,
            self.study.model.preprocess,
            [(p.pixels, p.projection, p.position) for p in seen],
            title + (" — dead" if dead else ""),
            [self._head(seen, dead), self._foot(projections.undefined, at)],
        )
        if self.asked.raw:
            _write_raw(file.with_suffix(".npz"), seen, [self._name(p.image) for p in seen])
        peak = max(p.activation for p in seen)
        return {
            "file": file.name,
            "layer": one.layer.name,
            "unit": unit,
            **({"position": list(at)} if at else {}),
            "method": self.settings.method,
            "initial": peak,
            "final": peak,
            "trace": [peak],
            "dead": dead or None,
            **({"undefined": projections.undefined} if projections.undefined else {}),
            "images": [
                {
                    "image": self._name(p.image),
                    "activation": p.activation,
                    "position": list(p.position),
                    "box": list(box),
                    "strength": float(abs(p.projection).max()),
                }
                for p, box in zip(seen, boxes, strict=True)
            ],
        }

    def _head(self, seen: list[Projected], dead: str) -> str:
        if dead:
            return f"{dead}: there is nothing to project"
        values = [p.activation for p in seen]
        reach = f"{values[0]:.3g}" if len(values) == 1 else f"{values[0]:.3g} to {values[-1]:.3g}"
        which = "" if self.given else f"top {len(seen)} of "
        return f"{which}{self.words}   activation {reach}"

    def _foot(self, undefined: list[str], at: tuple[int, int] | None) -> str:
        start = (
            "the whole map" if self.settings.whole_map else "that position" if at else "the peak"
        )
        text = f"{self.settings.method} from {start}; grey is 0, each projection on its own scale"
        if undefined and self.settings.method != "gradient":
            text += f"; plain gradient through {', '.join(undefined)}"
        return text

    # ---- what is said

    def close(self) -> None:
        """List each layer's pictures."""
        for one in self.units:
            if entries := list(one.ledger.entries.values()):
                undefined = {name for entry in entries for name in entry.get("undefined", ())}
                dead = {e["unit"] for e in entries if e.get("dead") and "position" not in e}
                summary = {
                    "layer": one.layer.name,
                    "settings": self.settings.as_dict(),
                    "images": self.about,
                    "skipped": self._skipped(one),
                    "undefined": sorted(undefined),
                    "dead_units": sorted(dead),
                }
                self.summaries[one.layer.name] = one.ledger.close(summary)

    def _skipped(self, one: _Units) -> Any:
        """List damaged images: those met now, else those that an earlier run met."""
        from cnnlens.files import read_json

        if self.skipped is not None:
            return self.skipped
        path = one.ledger.path
        return read_json(path).get("skipped", []) if path.is_file() and not one.todo else []

    def show(self, results: Results) -> None:
        """Show the units that were asked for."""
        rows = []
        for entry in (entry for one in self.units for entry in one.entries):
            first = entry["images"][0]["image"]
            peak = f"dead: {entry['dead']}" if entry["dead"] else round(entry["final"], 4)
            rows.append((entry["layer"], entry["file"], peak, first))
        results.table(["layer", "picture", "activation", "first image"], rows[:_ROWS])
        if len(rows) > _ROWS:
            results.say(f"… and {len(rows) - _ROWS} more in deconv.json")
        results.say(f"pictures: {self.study.folder('deconv')}")

    def result(self) -> Any:
        """Return the pictures that were asked for; of several layers, by layer."""
        from cnnlens.report.shown import PictureResults

        found = {u.layer.name: PictureResults(u.ledger.folder, u.entries) for u in self.units}
        return next(iter(found.values())) if len(found) == 1 else found


def _stem(target: Target) -> str:
    unit, at = target
    return f"{unit}@{at[0]},{at[1]}" if at else str(unit)


def _top_of(entry: Mapping[str, Any]) -> int:
    """How many images a picture that is there was made for; 0 where that is not known."""
    try:
        return int(entry[MADE_FROM]["settings"]["top"])
    except (KeyError, TypeError, ValueError):
        return 0


def _why_dead(seen: list[Projected]) -> str:
    if max(p.activation for p in seen) > 0:
        return ""
    return "never above 0 on " + ("the image" if len(seen) == 1 else f"the {len(seen)} images")


def _write_raw(path: Path, seen: list[Projected], names: list[str]) -> None:
    """Write what the picture was drawn from: the first image, and all of them where there are."""
    import numpy as np

    from cnnlens.files import write_npz

    # (N, 3, H, W)
    images = np.stack([np.broadcast_to(p.pixels, (3, *p.pixels.shape[1:])) for p in seen])
    images = images.astype(np.float32) / 255
    projections = np.stack([p.projection for p in seen])  # (N, C, H, W)
    write_npz(
        path,
        image=images[0],
        projection=projections[0],
        images=images,
        projections=projections,
        positions=np.array([p.position for p in seen]),
        activations=np.array([p.activation for p in seen], np.float32),
        paths=np.array(names),
    )

"""One run of deconv: which pictures are missing, making them, and the files they are kept in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.study.addresses import parse_filters
from cnnlens.cli.made import Made
from cnnlens.cli.pictured import of_data, of_files
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, open_images, open_model
from cnnlens.errors import UsageError
from cnnlens.settings import DeconvSettings, ExtractSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cli.project import Projected, Projections
    from cnnlens.data.dataset import ImageSet
    from cnnlens.measure.top import Ranked, Target
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model


@dataclass
class Wanted:
    """Units of one layer: what was asked for, and of that what is not there yet."""

    layer: Layer
    targets: list[Target] = field(default_factory=list)
    todo: list[Target] = field(default_factory=list)


class Work:
    """One run of deconv, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: DeconvSettings,
        run: RunSettings,
        raw: bool,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.raw, self.force = settings, run, raw, force
        self.names: dict[str, list[str]] = {}

    def run(
        self, filters: list[str], given: list[Path] | None, data: Path | None
    ) -> dict[str, Any]:
        """Make the pictures that are not there yet; return every layer's JSON."""
        from cnnlens.model.layers import find_layers

        self.model, opened_by = open_model(self.options, self.space, self.screen)
        wanted = self._wanted(filters, find_layers(self.model))
        kinds = ("images", "classes", "broden", "parts")
        images = None if given else open_images(data, self.space, kinds)
        self.pictured = of_data(self.model, images) if images else of_files(self.model, given or [])
        self.space.use_model(self.model, opened_by, self.force)
        if images:
            self.space.use_data(images)
        for one in wanted:
            one.layer = self.space.use_layer(one.layer)
            self.names[one.layer.name] = [f"{_stem(target)}.png" for target in one.targets]
        self.space.save(command_line())
        self.screen.skipped(self.pictured.skipped)
        made = [Made(self._folder(one) / "deconv.json", self.force) for one in wanted]
        for one, there in zip(wanted, made, strict=True):
            one.todo = [t for t in one.targets if not self._is_finished(one, t, there)]
        self._say_finished(wanted)
        ranked = self._rank(wanted, images)
        return {
            one.layer.name: self._make(one, rank, there)
            for one, rank, there in zip(wanted, ranked, made, strict=True)
        }

    def _wanted(self, texts: list[str], layers: Any) -> list[Wanted]:
        found: dict[object, Wanted] = {}
        for layer, units, position in parse_filters(texts, layers):
            if units is None:
                raise UsageError(
                    f"'{layer.name}' names no units", f"write {layer.name}:12 or {layer.name}:all"
                )
            one = found.setdefault(layer.place, Wanted(layer))
            one.targets += [t for u in units if (t := (u, position)) not in one.targets]
        return list(found.values())

    def _folder(self, one: Wanted) -> Path:
        return self.space.results("deconv", one.layer)

    def _made_from(self, one: Wanted) -> dict[str, Any]:
        preprocess = {k: v for k, v in self.model.preprocess.as_dict().items() if k != "source"}
        settings = self.settings.as_dict()
        if self.pictured.order is not None:
            del settings["top"]  # plays no part on given images
        return {
            "model": self.model.fingerprint,
            "preprocess": preprocess,
            "place": one.layer.place.key,
            "settings": settings,
            "images": self.pictured.mark,
        }

    def _is_finished(self, one: Wanted, target: Target, made: Made) -> bool:
        others = [f"{_stem(target)}.npz"] if self.raw else []
        return made.finished(f"{_stem(target)}.png", self._made_from(one), *others)

    def _say_finished(self, wanted: list[Wanted]) -> None:
        for one in wanted:
            if done := len(one.targets) - len(one.todo):
                units = "unit was" if done == 1 else "units were"
                self.screen.note(
                    f"{one.layer.name}: {done} {units} done before with these settings "
                    "(--force redoes them)"
                )

    # ---- which images

    def _rank(self, wanted: list[Wanted], images: ImageSet | None) -> list[Ranked | None]:
        """Find the top images of every target that is to be made; None where none is."""
        from cnnlens.measure.top import Ranked

        ranked = [
            Ranked(one.todo, self.settings.top) if one.todo and images is not None else None
            for one in wanted
        ]
        pairs = [(o.layer, r) for o, r in zip(wanted, ranked, strict=True) if r is not None]
        if pairs and images is not None:
            self._sweep(images, pairs)
        return ranked

    def _sweep(self, images: ImageSet, pairs: list[tuple[Layer, Ranked]]) -> None:
        from cnnlens.activations.sources import ModelSource

        rest = [pair for pair in pairs if not self._from_store(images, *pair)]
        if not rest:
            return
        source = ModelSource(self.model, images, [layer for layer, _ in rest], self.run_settings)
        with self.screen.progress() as bars:
            for step in source.sweep([rank.update for _, rank in rest]):
                bars.show("looking for top images", step.done, step.total)
        skipped = [{"image": path, "reason": reason} for path, reason in source.skipped]
        self.pictured.skipped.extend(skipped)
        self.screen.skipped(skipped)

    def _from_store(self, images: ImageSet, layer: Layer, rank: Ranked) -> bool:
        """Rank from the layer's store, where there is one of just these images."""
        from cnnlens.activations.extract import store_key, store_path
        from cnnlens.activations.store import Store

        path = store_path(self.space.stores(images), layer)
        if not path.exists():
            return False
        with Store(path) as store, self.screen.progress() as bars:
            key = store_key(self.model, images, layer, ExtractSettings())
            if replace(store.key, dtype=key.dtype) != key:
                return False
            for positions, maps in store.batches():
                rank.update(positions, maps)
                bars.show("looking for top images", rank.images, store.shape[0])
            found = [{"image": path, "reason": reason} for path, reason in store.skipped]
        self.pictured.skipped.extend(s for s in found if s not in self.pictured.skipped)
        return True

    # ---- the pictures

    def _make(self, one: Wanted, rank: Ranked | None, made: Made) -> dict[str, Any]:
        from cnnlens.cli.project import Projections

        seen = self.pictured
        projections = Projections(
            self.model,
            one.layer,
            seen.pixels,
            seen.name,
            self.settings,
            self.run_settings.batch_size,
        )
        summary = self._summary(one)
        with self.screen.progress() as bars:
            for number in range(len(one.todo)):
                bars.show(f"{one.layer.name}: projecting", number, len(one.todo))
                entry = self._picture(one, number, rank, projections)
                self._warn(projections)
                if projections.undefined:
                    summary["undefined"] = projections.undefined
                made.add(entry, {**summary, "dead_units": _dead(made, entry)})
                bars.show(f"{one.layer.name}: projecting", number + 1, len(one.todo))
        return made.write({**summary, "dead_units": _dead(made)})

    def _summary(self, one: Wanted) -> dict[str, Any]:
        return {
            "layer": one.layer.name,
            "settings": self.settings.as_dict(),
            "images": self.pictured.mark,
            "skipped": self.pictured.skipped,
            "undefined": [],
        }

    def _warn(self, projections: Projections) -> None:
        if projections.undefined and self.settings.method != "gradient":
            self.screen.note(
                f"{self.settings.method} defines no rule for {', '.join(projections.undefined)}: "
                "the plain gradient passes there"
            )

    def _picture(
        self, one: Wanted, number: int, rank: Ranked | None, projections: Projections
    ) -> dict[str, Any]:
        """Draw one unit; return its entry in the JSON."""
        from cnnlens.report.projections import save_unit

        unit, at = target = one.todo[number]
        order = self.pictured.order
        chosen = order if order is not None or rank is None else [p for p, _ in rank.best(number)]
        seen = projections.of(unit, chosen or (), at)
        dead = _why_dead(seen) if rank is None else rank.dead(number)
        title = f"{one.layer.name} unit {unit}" + (f" at {at[0]},{at[1]}" if at else "")
        file = self._folder(one) / f"{_stem(target)}.png"
        boxes = save_unit(
            file,
            one.layer.fields,
            self.model.preprocess,
            [(p.pixels, p.projection, p.position) for p in seen],
            title + (" — dead" if dead else ""),
            [self._words(seen, dead), self._foot(projections, at)],
        )
        if self.raw:
            _write_raw(file.with_suffix(".npz"), self.model, seen, self.pictured.name)
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
            "images": [
                {
                    "image": self.pictured.name(p.image),
                    "activation": p.activation,
                    "position": list(p.position),
                    "box": list(box),
                    "strength": float(abs(p.projection).max()),
                }
                for p, box in zip(seen, boxes, strict=True)
            ],
            "made_from": self._made_from(one),
        }

    def _words(self, seen: list[Projected], dead: str) -> str:
        if dead:
            return f"{dead}: there is nothing to project"
        values = [p.activation for p in seen]
        reach = f"{values[0]:.3g}" if len(values) == 1 else f"{values[0]:.3g} to {values[-1]:.3g}"
        which = f"top {len(seen)} of " if self.pictured.order is None else ""
        return f"{which}{self.pictured.words}   activation {reach}"

    def _foot(self, projections: Projections, at: tuple[int, int] | None) -> str:
        start = (
            "the whole map" if self.settings.whole_map else "that position" if at else "the peak"
        )
        text = f"{self.settings.method} from {start}; grey is 0, each projection on its own scale"
        if projections.undefined and self.settings.method != "gradient":
            text += f"; plain gradient through {', '.join(projections.undefined)}"
        return text


def _stem(target: Target) -> str:
    unit, at = target
    return f"{unit}@{at[0]},{at[1]}" if at else str(unit)


def _dead(made: Made, latest: dict[str, Any] | None = None) -> list[int]:
    entries = {e["file"]: e for e in [*made.entries, *([latest] if latest else [])]}
    return sorted({e["unit"] for e in entries.values() if e.get("dead") and "position" not in e})


def _why_dead(seen: list[Projected]) -> str:
    if max(p.activation for p in seen) > 0:
        return ""
    return "never above 0 on " + ("the image" if len(seen) == 1 else f"the {len(seen)} images")


def _write_raw(path: Path, model: Model, seen: list[Projected], name: Callable[[int], str]) -> None:
    """Write what the picture was drawn from: the first image, and all of them where there are."""
    import numpy as np

    from cnnlens.files import write_npz

    images = np.stack([_colours(p.pixels) for p in seen])  # (N, 3, H, W)
    projections = np.stack([p.projection for p in seen])  # (N, C, H, W)
    write_npz(
        path,
        image=images[0],
        projection=projections[0],
        images=images,
        projections=projections,
        positions=np.array([p.position for p in seen]),
        activations=np.array([p.activation for p in seen], np.float32),
        paths=np.array([name(p.image) for p in seen]),
    )


def _colours(pixels: np.ndarray) -> np.ndarray:
    import numpy as np

    rgb = pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)
    return rgb.astype(np.float32) / 255

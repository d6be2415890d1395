"""``cnnlens deconv``: which pixels of which photos drove a unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.filters import FiltersOption, parse_filters
from cnnlens.cli.given import ImagesOption, given_images
from cnnlens.cli.made import Made
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, open_images, open_model
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.settings import DeconvSettings, RunSettings
from cnnlens.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cli.project import Projected, Projections
    from cnnlens.data.dataset import ImageSet
    from cnnlens.measure.ranked import Ranked, Target
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model

D = DeconvSettings()


def deconv(
    model: o.ModelArgument = None,
    filters: FiltersOption = None,
    image: ImagesOption = None,
    data: o.DataOption = None,
    top: Annotated[
        int, typer.Option(min=1, help="Images per unit, by activation, of those in -d.")
    ] = D.top,
    method: Annotated[
        str,
        typer.Option(
            metavar="deconvnet|guided|gradient",
            help="What a rectifier does to the signal on its way back.",
        ),
    ] = D.method,
    whole_map: Annotated[
        bool,
        typer.Option(
            "--whole-map/--peak", help="Project the unit's whole map, or its peak position alone."
        ),
    ] = D.whole_map,
    raw: o.RawOption = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page.")] = True,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    workers: o.WorkersOption = o.RUN.workers,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Project units back to pixels (DeconvNet): on their top images, or on given ones."""
    settings = DeconvSettings(method, top, whole_map)
    if not filters:
        raise UsageError("no units were named", "name some with -f LAYER:UNITS, like -f conv5:0-15")
    if image and data is not None:
        raise UsageError("-i and -d both name images", "give one of them")
    screen, space = Screen(json, quiet), Workspace(workspace, force)
    work = Work(
        screen,
        space,
        ModelOptions(model, arch, allow_pickle, image_size, mean, std, device),
        settings,
        RunSettings(device, batch_size, workers),
        raw,
        force,
    )
    summaries = work.run(filters, image, data)
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, work.names, summaries, page)


@dataclass
class Wanted:
    """Units of one layer: what was asked for, and of that what is not there yet."""

    layer: Layer
    targets: list[Target] = field(default_factory=list)
    todo: list[Target] = field(default_factory=list)


@dataclass(frozen=True)
class Pictured:
    """The images that units are projected on, whether given or a data set's.

    Attributes
    ----------
    pixels : callable
        From an image's number to (C, H, W) uint8.
    name : callable
        From an image's number to its path, as the JSON names it.
    order : tuple of int or None
        All of them in the order given; None: a unit's top images are looked for.
    mark : dict
        What they are: equal marks, equal pictures.
    words : str
        What they are, for people.
    skipped : list of dict
        Damaged ones.
    """

    pixels: Callable[[int], np.ndarray]
    name: Callable[[int], str]
    order: tuple[int, ...] | None
    mark: dict[str, Any]
    words: str
    skipped: list[dict[str, str]]


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
        self.pictured = _of_data(self.model, images) if images else _given(self.model, given or [])
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
        from cnnlens.measure.ranked import Ranked

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
        from dataclasses import replace

        from cnnlens.activations.extract import store_key, store_path
        from cnnlens.activations.store import Store
        from cnnlens.settings import ExtractSettings

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


def _of_data(model: Model, images: ImageSet) -> Pictured:
    from cnnlens.data.images import DamagedImage, load_image

    def pixels(number: int) -> np.ndarray:
        mode = "L" if model.preprocess.channels == 1 else "RGB"
        try:
            image = load_image(images.root / images.paths[number], mode)
        except DamagedImage as damage:
            raise CnnlensError(f"{damage.path} cannot be read: {damage.reason}") from damage
        array = model.preprocess.pixels(image, squash=images.aligned)  # (H, W, C)
        return array.transpose(2, 0, 1).copy()

    mark = {"name": images.name, "fingerprint": images.fingerprint}
    words = f"{len(images.paths)} images in {images.name}"
    return Pictured(pixels, lambda number: images.paths[number], None, mark, words, [])


def _given(model: Model, paths: list[Path]) -> Pictured:
    from cnnlens.data.images import DamagedImage

    arrays, names, skipped, marks = [], [], [], []
    for image in given_images(paths):
        try:
            arrays.append(image.pixels(model.preprocess))
        except DamagedImage as damage:
            skipped.append({"image": str(image.path), "reason": damage.reason})
            continue
        names.append(str(image.path))
        marks.append(image.mark)
    if not arrays:
        bad = skipped[0]
        raise CnnlensError(
            f"{bad['image']} cannot be read: {bad['reason']}", "name another with -i"
        )
    order = tuple(range(len(arrays)))
    words = "1 given image" if len(arrays) == 1 else f"{len(arrays)} given images"
    return Pictured(arrays.__getitem__, names.__getitem__, order, {"given": marks}, words, skipped)


def _write_raw(path: Path, model: Model, seen: list[Projected], name: Callable[[int], str]) -> None:
    """Write what the picture was drawn from: the first image, and all of them where there are."""
    import numpy as np

    from cnnlens.files import atomic

    images = np.stack([_colours(p.pixels) for p in seen])  # (N, 3, H, W)
    projections = np.stack([p.projection for p in seen])  # (N, C, H, W)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
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


def _show(
    screen: Screen,
    space: Workspace,
    names: dict[str, list[str]],
    summaries: dict[str, Any],
    page: bool,
) -> None:
    rows = []
    for name, summary in summaries.items():
        for entry in (e for e in summary["pictures"] if e["file"] in names[name]):
            first = entry["images"][0]
            peak = "dead: " + entry["dead"] if entry["dead"] else round(entry["final"], 4)
            rows.append((name, entry["file"], peak, first["image"]))
    screen.table(["layer", "picture", "activation", "first image"], rows[:40])
    if len(rows) > 40:
        screen.say(f"… and {len(rows) - 40} more in deconv.json")
    screen.say(f"pictures: {space.path / 'deconv'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")

"""``cnnlens visualize``: what excites a unit, a class or a layer most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.method import Inputs, Method, Results, filters_input, raw_input
from cnnlens.progress import Step
from cnnlens.settings.option import option
from cnnlens.settings.synthesize import VisualizeSettings
from cnnlens.study.images import GivenImage, given_images
from cnnlens.study.ledger import Item, Ledger
from cnnlens.study.unfinished import Unfinished

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.model.layers import Layer
    from cnnlens.report.besides import Besides
    from cnnlens.report.blocks import Section
    from cnnlens.synthesize.goals import Goal
    from cnnlens.synthesize.visualize import Picture

LOGITS = "logits"  # the folder of pictures of classes
KEPT_EVERY = 32  # steps after which the state of an ascent is kept
_SHOWN = ("initial", "final", "times_best", "label")  # of an entry of the JSON, in the table


@dataclass(frozen=True)
class VisualizeInputs(Inputs):
    """Which units and classes."""

    filters: tuple[str, ...] = filters_input()
    logit: tuple[str, ...] = option(
        (), "A class, by name or number; repeatable.", metavar="CLASS", panel="What"
    )
    method: str = option("pixels", "What is optimized.", choices=("pixels",))
    raw: bool = raw_input()


def visualizations(workspace: Path) -> Section | None:
    """Gather the page's part about optimized images."""
    from cnnlens.report.sections import visualizations as gather

    return gather(workspace)


@dataclass
class _Folder:
    """One layer's pictures (the classes', where `layer` is None), made and to be made."""

    name: str
    layer: Layer | None
    ledger: Ledger
    items: list[Item]
    todo: list[Item]
    unreachable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unfinished = Unfinished(self.ledger)
        self.begun, self.state = self.unfinished.read(self.todo)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Entries of what was asked for, in that order."""
        known = self.ledger.entries
        return [known[item.name] for item in self.items if item.name in known]

    def batches(self, size: int) -> Iterator[tuple[list[Item], dict[str, Any] | None]]:
        """Yield what is optimized together: first what was begun, from where it was."""
        from cnnlens.synthesize.visualize import rows_of

        begun = {item.name for item in self.begun}
        rest = [item for item in self.todo if item.name not in begun]
        for start in range(0, len(self.begun), size):
            rows = slice(start, start + size)
            yield self.begun[rows], rows_of(self.state, rows) if self.state else None
        for start in range(0, len(rest), size):
            yield rest[start : start + size], None


class Visualize(Method):
    """Draw the input that excites a unit, class or layer most.

    Activation maximization: an image is optimized until it excites a unit, a class (--logit) or a
    whole layer (-f LAYER) as much as it can. --preset gives a paper's settings.
    """

    name, panel = "visualize", "Look at units"
    asks, settings_types, uses = VisualizeInputs, (VisualizeSettings,), ("device", "batch_size")
    sections = (("visualize", visualizations),)
    examples = (
        "cnnlens visualize model.pt -f conv5:0-15",
        "cnnlens visualize --logit tiger --preset mahendran",
        "cnnlens visualize -f layer4.1:7@3,3 --init dog.jpg --steps 64",
    )

    def resolve(self) -> None:
        """Find the image to start from, units and classes, and what is to be made."""
        if not self.asked.filters and not self.asked.logit:
            raise UsageError(
                "nothing was named to look at",
                "name units with -f LAYER:UNITS (conv5:0-15), or a class with --logit CLASS",
            )
        start = _named(self.settings.init)
        self.photo = self._pixels(start) if start else None
        self.shown = self.settings.as_dict() | ({"init": start.shown} if start else {})
        self.mark = start.mark if start else ""
        self.folders = [self._folder(layer, goals) for layer, goals in self._goals()]

    def _goals(self) -> list[tuple[Layer | None, list[Goal]]]:
        """List what was named, each place and each picture once; None stands for the classes."""
        from cnnlens.synthesize.goals import class_goals, unit_goals

        found: dict[object, tuple[Layer | None, dict[str, Goal]]] = {}
        for named, units, position in self.study.filters(self.asked.filters, vectors=True):
            layer, goals = found.setdefault(named.place, (named, {}))
            for goal in unit_goals(layer or named, units, position, self.settings.target):
                goals.setdefault(goal.name, goal)
        if self.asked.logit:
            of_classes = class_goals(self.study.model, self.asked.logit)
            found[LOGITS] = (None, {goal.name: goal for goal in of_classes})
        return [(layer, list(goals.values())) for layer, goals in found.values()]

    def _folder(self, layer: Layer | None, goals: list[Goal]) -> _Folder:
        name = layer.name if layer else LOGITS
        command = "visualize" if layer else f"visualize/{LOGITS}"
        ledger = self.study.ledger(command, layer, "visualize.json")
        items = [self._item(layer, goal) for goal in goals]
        return _Folder(name, layer, ledger, items, self.missing(ledger, items, where=name))

    def _item(self, layer: Layer | None, goal: Goal) -> Item:
        made_from = self.study.key(
            layer,
            objective=goal.objective.name,
            **{"class": goal.about.get("class_index")},
            settings=self.shown,
            init=self.mark,
        )
        others = (f"{goal.name}.npz",) if self.asked.raw else ()
        return Item(f"{goal.name}.png", made_from, others, goal)

    def _pixels(self, image: GivenImage) -> np.ndarray:
        from cnnlens.data.decode import DamagedImage

        try:
            return image.pixels(self.study.model.preprocess)
        except DamagedImage as damage:
            raise CnnlensError(
                f"{image.shown} cannot be read: {damage.reason}", "start from another image"
            ) from damage

    def plan(self) -> str:
        """Say how many pictures of what, in how many steps."""
        counts = [(len(folder.todo), folder.name) for folder in self.folders if folder.todo]
        if not counts:
            return ""
        pictures = [f"{n} picture{'' if n == 1 else 's'} of {name}" for n, name in counts]
        text = f"{', '.join(pictures)}: {self.settings.steps} steps each"
        begun = [(len(f.begun), f.state["step"]) for f in self.folders if f.state]
        return "; ".join([text, *(f"{n} of them from step {step} on" for n, step in begun)])

    # ---- making

    def work(self) -> Iterator[Step]:
        """Optimize layer after layer, since a pass ends at its layer; then set beside, and lay out.

        One bar for the whole request counts the steps of all pictures.
        """
        count = sum(len(folder.todo) for folder in self.folders)
        steps, done = self.settings.steps, 0
        yield Step(0, count * steps, "optimizing", unit="steps")
        for folder in self.folders:
            for batch, state in folder.batches(self.study.run.batch_size):
                which = _which(done, len(batch), count)
                for number, value in self._ascend(folder, batch, state):
                    now, note = done * steps + number * len(batch), f"{which}activation {value:.3g}"
                    yield Step(now, count * steps, "optimizing", note=note, unit="steps")
                done += len(batch)
        self._check_reached()
        for folder in self.folders:
            self._label(folder)
            yield from self._set_beside(folder)
            self._lay_out(folder)

    def _ascend(
        self, folder: _Folder, batch: list[Item], state: dict[str, Any] | None
    ) -> Iterator[tuple[int, float]]:
        """Optimize some pictures together; yield steps done and the mean objective."""
        from cnnlens.synthesize.visualize import visualize

        goals: list[Goal] = [item.subject for item in batch]
        steps = visualize(
            self.study.model,
            [goal.objective for goal in goals],
            self.settings,
            self.study.run,
            self.photo,
            [goal.activation for goal in goals],
            state,
        )
        with closing(steps):
            for step in steps:
                if step.state is not None and step.number % KEPT_EVERY == 0:
                    folder.unfinished.keep(batch, step.state())
                for item, picture in zip(batch, step.pictures, strict=False):  # only at the end
                    self._keep(folder, item, picture)
                yield step.number, step.value
        folder.unfinished.remove()

    def _keep(self, folder: _Folder, item: Item, picture: Picture) -> None:
        """Write a finished picture and list it; a unit that nothing reaches has none."""
        import numpy as np

        from cnnlens.files import write_npz
        from cnnlens.report.figures.visualize import as_picture
        from cnnlens.report.sheet import save_png

        goal: Goal = item.subject
        if not picture.alive:
            folder.unreachable.append(goal.name)
            return
        file = folder.ledger.folder / item.name
        save_png(file, as_picture(picture.image))
        if self.asked.raw:
            write_npz(file.with_suffix(".npz"), image=picture.image.astype(np.float32))
        entry = {
            "file": item.name,
            "layer": folder.name,
            **goal.about,
            "objective": goal.objective.name,
            "initial": picture.initial,
            "final": picture.final,
            "trace": [float(f"{value:.6g}") for value in picture.trace],
        }
        folder.ledger.keep(item, entry)

    def _check_reached(self) -> None:
        for folder in self.folders:
            silent = [Path(e["file"]).stem for e in folder.entries if e["final"] == 0]
            if silent and folder.layer:
                self.study.voice.note(
                    f"{folder.name}:{','.join(silent)} stays at 0 on its picture: dead, or too few "
                    "steps"
                )
        lost = [f"{folder.name}:{name}" for folder in self.folders for name in folder.unreachable]
        for name in lost:
            self.study.voice.note(f"{name} does not depend on the input: no picture")
        if lost and len(lost) == sum(len(folder.items) for folder in self.folders):
            raise CnnlensError(
                f"{', '.join(lost[:5])} cannot be reached from the input: no gradient comes back",
                "its activation is the same on every image; look at other units",
            )

    # ---- what stands beside the pictures

    def _label(self, folder: _Folder) -> None:
        """Bring the labels of all pictures of a layer to what the dissection says now."""
        from cnnlens.report.dissect_files import labels

        if folder.layer is None:
            return
        try:
            known = labels(self.study.workspace.path, folder.name)
        except CnnlensError as error:
            self.study.voice.note(f"no labels beside the pictures: {error.message}")
            return
        for entry in folder.ledger.entries.values():
            if entry["unit"] in known:
                entry["label"] = known[entry["unit"]][0]
            else:
                entry.pop("label", None)

    def _set_beside(self, folder: _Folder) -> Iterator[Step]:
        """Draw a row per unit: its picture, its weights, the data's top images, the peaks."""
        entries = [entry for entry in folder.entries if entry["unit"] is not None]
        if folder.layer is None or not entries:
            return
        besides = self._besides(folder.layer, [entry["unit"] for entry in entries])
        for number, entry in enumerate(entries):
            yield Step(number, len(entries), "setting beside", unit="pictures")
            label = f" · {entry['label']}" if entry.get("label") else ""
            title = f"{folder.name} {_words(entry)}{label}"
            entry.update(besides.write(folder.ledger.folder, entry, title))

    def _besides(self, layer: Layer, units: list[int]) -> Besides:
        """Read the store of the data that was used last, of those that have one."""
        from cnnlens.data.open import open_data
        from cnnlens.report.besides import Besides

        space = self.study.workspace
        found = Besides(self.study.model, layer, units)
        stores = [
            (
                space.path / "activations" / entry["name"] / f"{layer.folder}.h5",
                lambda path=entry["path"]: space.in_memory(path) or open_data(Path(path)),
            )
            for entry in reversed(space.document["data"])
        ]
        try:
            found.read_stores(stores)
        except CnnlensError as error:
            self.study.voice.note(f"no top images beside the pictures: {error.message}")
        return found

    def _lay_out(self, folder: _Folder) -> None:
        from cnnlens.report.figures.visualize import SheetCell, sheet
        from cnnlens.report.sheet import save_png

        entries = sorted(
            folder.ledger.entries.values(),
            key=lambda e: (e["unit"] is None, e["unit"] or 0, e["file"]),
        )
        place = folder.ledger.folder
        cells = [SheetCell(place / e["file"], _words(e), e.get("label", "")) for e in entries]
        if cells:
            save_png(place / "sheet.png", sheet(cells, f"{folder.name} · {self.study.model.arch}"))

    # ---- what is said

    def close(self) -> None:
        """List each layer's pictures."""
        for folder in self.folders:
            if folder.ledger.entries:
                summary = {
                    "layer": folder.name,
                    "settings": self.shown,
                    "unreachable": folder.unreachable,
                }
                self.summaries[folder.name] = folder.ledger.close(summary)

    def show(self, results: Results) -> None:
        """Show every picture of the layers that were asked for."""
        rows = [
            (folder.name, Path(entry["file"]).stem, *map(entry.get, _SHOWN))
            for folder in self.folders
            for entry in folder.ledger.entries.values()
        ]
        columns = ["layer", "picture", "at first", "in the end", "× best image", "label"]
        results.table(columns, rows)
        results.say(f"pictures: {self.study.folder('visualize')}")

    def result(self) -> Any:
        """Return the pictures that were asked for; of several layers, by layer."""
        from cnnlens.report.shown import PictureResults

        found = {f.name: PictureResults(f.ledger.folder, f.entries) for f in self.folders}
        return next(iter(found.values())) if len(found) == 1 else found


def _named(init: str) -> GivenImage | None:
    """Find the image that ``--init`` names; None where it names none."""
    if init in ("noise", "mean"):
        return None
    if Path(init).is_dir():
        raise UsageError(f"--init {init} is a folder", "name one image, noise or mean")
    (image,) = given_images([Path(init)])
    return image


def _which(before: int, count: int, total: int) -> str:
    """Say which of the pictures are optimized; empty where all are."""
    if count == total:
        return ""
    last = before + count
    names = f"picture {last}" if count == 1 else f"pictures {before + 1} to {last}"
    return f"{names} of {total}, "


def _words(entry: dict[str, Any]) -> str:
    """Name what a picture shows, for people."""
    if entry.get("class") is not None:
        return str(entry["class"])
    if entry["unit"] is None:
        return "the whole layer"
    at = entry.get("position")
    return f"unit {entry['unit']}" + (f" at {at[0]},{at[1]}" if at else "")

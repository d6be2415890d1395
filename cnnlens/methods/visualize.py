"""``cnnlens visualize``: what excites a unit, a class or a layer most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage, given_images, readable
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files.ledger import Item, Unfinished
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.pictured import Part, Pictured
from cnnlens.progress import Step
from cnnlens.settings.option import filters_input, option, raw_input
from cnnlens.settings.synthesize import VisualizeSettings

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.synthesize.goals import Goal
    from cnnlens.synthesize.visualize import Picture, PictureStep

LOGITS = "logits"  # the folder of pictures of classes
KEPT_EVERY = 32  # steps after which the state of an ascent is kept


@dataclass(frozen=True)
class VisualizeInputs(Inputs):
    """Which units and classes."""

    filters: tuple[str, ...] = filters_input()
    logit: tuple[str, ...] = option(
        (), "A class, by name or number; repeatable.", metavar="CLASS", panel="What"
    )
    method: str = option("pixels", "What is optimized.", choices=("pixels",))
    raw: bool = raw_input()


@dataclass
class _Ascents(Part):
    """Pictures of one layer (of classes, where there is none), and how far they have come."""

    unreachable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unfinished = Unfinished(self.ledger, self.todo)


class Visualize(Pictured):
    """Draw the input that excites a unit, class or layer most.

    Activation maximization: an image is optimized until it excites a unit, a class (--logit) or a
    whole layer (-f LAYER) as much as it can. --preset gives a paper's settings.
    """

    name, panel = "visualize", "Look at units"
    asks, settings_types, uses = VisualizeInputs, (VisualizeSettings,), ("device", "batch_size")
    sections = (("visualize", page_part("sections.visualizations")),)
    columns = ("layer", "picture", "at first", "in the end", "× best image", "label")
    part_type = _Ascents
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
        start, self.photo = _named(self.settings.init), None
        if start:
            with readable("start from another image"):
                self.photo = start.pixels(self.study.model.preprocess)
        self.shown = self.settings.as_dict() | ({"init": start.shown} if start else {})
        self.mark = start.mark if start else ""
        for layer, goals in self._goals():
            command, name = ("visualize", "") if layer else (f"visualize/{LOGITS}", LOGITS)
            ledger = self.study.ledger(command, layer, "visualize.json")
            self.add(ledger, [self._item(layer, goal) for goal in goals], layer, name)

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

    def plan(self) -> str:
        """Say how many pictures of what, in how many steps."""
        words = [f"{made}: {self.settings.steps} steps each"] if (made := self.to_make()) else []
        begun = [part.unfinished for part in self.parts if part.unfinished.begun]
        words += [f"{len(one.begun)} of them from step {one.step} on" for one in begun]
        return "; ".join(words)

    # ---- making

    def work(self) -> Iterator[Step]:
        """Optimize layer after layer, since a pass ends at its layer; then set beside, lay out."""
        from cnnlens.report.figures.visualize import write_sheet

        yield from self._optimize()
        self._check_reached()
        for part in self.parts:
            if part.layer:
                self._label(part)
                yield from self._set_beside(part, part.layer)
            title = f"{part.name} · {self.study.model.arch}"
            write_sheet(part.ledger.folder, part.ledger.entries.values(), title)

    def _optimize(self) -> Iterator[Step]:
        """Make the pictures; one bar for the whole request counts the steps of all."""
        steps, count, done = self.settings.steps, sum(len(part.todo) for part in self.parts), 0
        yield Step(0, count * steps, "optimizing", unit="steps")
        for part in self.parts:
            for batch, state in part.unfinished.batches(self.study.run.batch_size):
                which = _which(done, len(batch), count)
                for step in self._ascend(part, batch, state):
                    now, note = done * steps + step.done, f"{which}activation {step.value:.3g}"
                    yield Step(now, count * steps, "optimizing", note=note, unit="steps")
                done += len(batch)

    def _ascend(
        self, part: _Ascents, batch: list[Item], state: dict[str, Any] | None
    ) -> Iterator[PictureStep]:
        """Optimize some pictures together; keep where they are, and each that is finished."""
        from cnnlens.synthesize.visualize import visualize

        goals: list[Goal] = [item.subject for item in batch]
        objectives = [goal.objective for goal in goals]
        activations = [goal.activation for goal in goals]
        model, run = self.study.model, self.study.run
        steps = visualize(model, objectives, self.settings, run, self.photo, activations, state)
        with closing(steps):
            for step in steps:
                if step.state is not None and step.number % KEPT_EVERY == 0:
                    part.unfinished.keep(batch, step.state())
                for item, picture in zip(batch, step.pictures, strict=False):  # only at the end
                    self._keep(part, item, picture)
                yield step
        part.unfinished.remove()

    def _keep(self, part: _Ascents, item: Item, picture: Picture) -> None:
        """Write a finished picture and list it; a unit that nothing reaches has none."""
        import numpy as np

        from cnnlens.files import write_npz
        from cnnlens.report.figures.visualize import as_picture
        from cnnlens.report.sheet import save_png

        goal: Goal = item.subject
        if not picture.alive:
            part.unreachable.append(goal.name)
            return
        save_png(part.file(item), as_picture(picture.image))
        if self.asked.raw:
            write_npz(part.file(item, ".npz"), image=picture.image.astype(np.float32))
        about = {"file": item.name, "layer": part.name, **goal.about}
        part.ledger.keep(item, about | picture.as_dict())

    def _check_reached(self) -> None:
        for part in self.parts:
            silent = [Path(e["file"]).stem for e in part.entries if e["final"] == 0]
            if silent and part.layer:
                units = f"{part.name}:{','.join(silent)}"
                self.study.voice.note(f"{units} stays at 0 on its picture: dead, or too few steps")
        lost = [f"{part.name}:{name}" for part in self.parts for name in part.unreachable]
        for name in lost:
            self.study.voice.note(f"{name} does not depend on the input: no picture")
        if lost and len(lost) == sum(len(part.items) for part in self.parts):
            raise CnnlensError(
                f"{', '.join(lost[:5])} cannot be reached from the input: no gradient comes back",
                "its activation is the same on every image; look at other units",
            )

    # ---- what stands beside the pictures

    def _label(self, part: _Ascents) -> None:
        """Bring the labels of all pictures of a layer to what the dissection says now."""
        from cnnlens.report.dissect_files import labels

        try:
            known = labels(self.study.workspace.path, part.name)
        except CnnlensError as error:
            self.study.voice.note(f"no labels beside the pictures: {error.message}")
            return
        for entry in part.ledger.entries.values():
            if entry["unit"] in known:
                entry["label"] = known[entry["unit"]][0]
            else:
                entry.pop("label", None)

    def _set_beside(self, part: _Ascents, layer: Layer) -> Iterator[Step]:
        """Draw a row per unit: its picture, its weights, the data's top images, the peaks."""
        from cnnlens.report.figures.visualize import Besides, title_of

        entries = [entry for entry in part.entries if entry["unit"] is not None]
        besides = Besides(self.study.model, layer, [entry["unit"] for entry in entries])
        try:
            besides.read_stores(self._stores(layer) if entries else ())
        except CnnlensError as error:
            self.study.voice.note(f"no top images beside the pictures: {error.message}")
        for number, entry in enumerate(entries):
            yield Step(number, len(entries), "setting beside", unit="pictures")
            label = f" · {entry['label']}" if entry.get("label") else ""
            title = f"{part.name} {title_of(entry)}{label}"
            entry.update(besides.write(part.ledger.folder, entry, title))

    def _stores(self, layer: Layer) -> Iterator[tuple[Path, Callable[[], ImageSet]]]:
        """Say where stores of the layer may be, of the data that was used last first."""
        space = self.study.workspace
        for data in reversed(space.document["data"]):
            store = space.path / "activations" / data["name"] / f"{layer.folder}.h5"
            yield store, partial(self.study.images, data["path"], remember=False)

    # ---- what is said

    def summary(self, part: _Ascents) -> dict[str, Any]:
        """Say how pictures are made now, and what has none."""
        return {"layer": part.name, "settings": self.shown, "unreachable": part.unreachable}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the activation at first and in the end, and how it compares with the data's."""
        numbers = entry["initial"], entry["final"], entry.get("times_best")
        yield entry["layer"], Path(entry["file"]).stem, *numbers, entry.get("label")


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

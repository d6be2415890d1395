"""``cnnlens visualize``: what excites a unit, a class or a layer most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImage, readable
from cnnlens.data.member_path import located
from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.files import mark
from cnnlens.files.ledger import Item
from cnnlens.methods.ascents import Ascents
from cnnlens.methods.climbing import Climbing
from cnnlens.methods.generated import OfGenerator
from cnnlens.methods.method import Inputs, page_part
from cnnlens.methods.priors import Nothing, PhotosSpectrum, photos_named
from cnnlens.progress import Step
from cnnlens.settings.generator import GeneratorSettings
from cnnlens.settings.inputs import data_input, filters_input, raw_input
from cnnlens.settings.option import option
from cnnlens.settings.synthesize import VisualizeSettings

if TYPE_CHECKING:
    from cnnlens.model.layer import Layer
    from cnnlens.study.session import Study
    from cnnlens.synthesize.goals import Goal

_GRADIENT = "attribution.deconv.probe_gradient"
LOGITS = "logits"  # the folder of pictures of classes


@dataclass(frozen=True)
class VisualizeInputs(Inputs):
    """Which units and classes."""

    filters: tuple[str, ...] = filters_input(
        "Units of a layer: conv5:12, conv5:0-15, layer4:3,7,9, conv5:all; at one position: "
        "conv5:12@6,6 (row, column); the layer as a whole: conv5; a concept that net2vec has "
        "learned: conv5:[part:hair]; repeatable."
    )
    logit: tuple[str, ...] = option(
        (), "A class, by name or number; repeatable.", metavar="CLASS", panel="What"
    )
    several: int = option(
        1,
        "Images of each, made different on purpose.",
        least=1,
        most=64,
        metavar="N",
        panel="What",
    )
    data: Path | None = data_input(
        "Photos that a generator learns from, or whose spectrum maco takes. "
        "Default: the workspace's last ones."
    )
    raw: bool = raw_input()


class Visualize(Climbing):
    """Draw the input that excites a unit, class or layer most.

    Activation maximization: an image is optimized until it excites a unit, a class (--logit) or a
    whole layer (-f LAYER) as much as it can. --preset gives a paper's settings.
    """

    name, panel = "visualize", "Look at units"
    asks, settings_types = VisualizeInputs, (VisualizeSettings, GeneratorSettings)
    uses, vectors = ("device", "batch_size", "workers"), True
    sections = (("visualize", page_part("sections.visualizations")),)
    columns = ("layer", "picture", "at first", "in the end", "× best image", "of", "label")
    probes = (
        ("", _GRADIENT),
        ("--logit", "model.classes.probe_scores", _GRADIENT, "model.classes.probe_names"),
    )
    examples = (
        "cnnlens visualize model.pt -f conv5:0-15",
        "cnnlens visualize --logit tiger --method generator -d photos",
        "cnnlens visualize -f conv5:[part:hair]",
        "cnnlens visualize -f layer4.1:7@3,3 --init dog.jpg --steps 64",
    )

    def resolve(self) -> None:
        """Find the image to start from, units and classes, and what is to be made."""
        if not self.asked.filters and not self.asked.logit:
            raise UsageError(
                "nothing was named to look at",
                "name units with -f LAYER:UNITS (conv5:0-15), a class with --logit CLASS, or all "
                "of a layer with -f LAYER",
            )
        start, self.photo = _named(self.study, self.settings.init), None
        if start:
            with readable("start from another image"):
                self.photo = start.pixels(self.study.model.preprocess)
        self.shown = self.settings.as_dict() | ({"init": start.shown} if start else {})
        self.mark = start.mark if start else ""
        self.prior = self._prior()
        self.shown |= self.prior.shown
        self.directions: dict[str, str] = {}  # marks of concepts' weights, by the picture's name
        for layer, goals in self._goals():
            command, name = ("visualize", "") if layer else (f"visualize/{LOGITS}", LOGITS)
            ledger = self.study.ledger(command, layer, "visualize.json")
            variants = [one for goal in goals for one in goal.variants(self.asked.several)]
            self.add(ledger, [self._item(layer, goal) for goal in variants], layer, name)

    def _prior(self) -> Nothing:
        """Find what pictures take from photos, as their method says."""
        data = photos_named(self.study, self.asked.data)
        own: GeneratorSettings = self.all_settings[1]
        if self.settings.method == "generator":
            return OfGenerator(self.study, self.settings, data, own)
        if own != GeneratorSettings():
            raise UsageError(
                f"--method {self.settings.method} has no generator", "add --method generator"
            )
        kind = PhotosSpectrum if self.settings.method == "maco" else Nothing
        return kind(self.study, self.settings, data)

    def _goals(self) -> list[tuple[Layer | None, list[Goal]]]:
        """List what was named, each place and each picture once; None stands for the classes."""
        from cnnlens.model.addresses import concept_in
        from cnnlens.report.net2vec_files import read_direction
        from cnnlens.synthesize.goals import class_goals, concept_goal, shares_said, unit_goals

        found: dict[object, tuple[Layer | None, dict[str, Goal]]] = {}
        target, asked = self.settings.target, self.asked.filters
        of_units = [text for text in asked if concept_in(text) is None]
        for named, units, position in self.study.filters(of_units, self.vectors):
            layer, goals = found.setdefault(named.place, (named, {}))
            for goal in unit_goals(layer or named, units, position, target):
                goals.setdefault(goal.name, goal)
        for named, concept in self.study.concepts(asked, self.vectors):
            layer, goals = found.setdefault(named.place, (named, {}))
            space, model = self.study.workspace.path, self.study.model.fingerprint
            direction = read_direction(space, named.folder, concept, model)
            goal = concept_goal(layer or named, *direction, target)
            self.directions[goal.name] = mark(direction.vector.tolist())
            goals.setdefault(goal.name, goal)
        if self.asked.logit:
            self.study.name_classes()
            of_classes = class_goals(self.study.model, self.asked.logit, self.settings.rivalry)
            if said := shares_said(self.study.model, of_classes):
                self.study.voice.note(said)
            found[LOGITS] = (None, {goal.name: goal for goal in of_classes})
        return [(layer, list(goals.values())) for layer, goals in found.values()]

    def _item(self, layer: Layer | None, goal: Goal) -> Item:
        made_from = self.study.key(
            layer,
            objective=goal.objective.name + ("" if goal.variant == 1 else f"~{goal.variant}"),
            **{"class": goal.about.get("class_index")},
            **(self.study.head if layer is None else {}),
            **self._direction(goal),
            **goal.scores_at,
            settings=self._used(goal),
            init=self.mark,
            **self._floats,
        )
        return Item(f"{goal.name}.png", made_from, subject=goal, raw=self.asked.raw)

    @property
    def _floats(self) -> dict[str, Any]:
        """What a picture's key names of an image to start from that is of floats or bands: earlier
        versions took them for bytes, nearly black.
        """
        photo = self.photo
        return {} if photo is None or photo.dtype == "uint8" else {"init_of": str(photo.dtype)}

    def _direction(self, goal: Goal) -> dict[str, Any]:
        """What a concept's picture depends on besides: its weights."""
        if "concept" not in goal.about:
            return {}
        return {"direction": self.directions[goal.name.partition("~")[0]]}

    def _used(self, goal: Goal) -> dict[str, Any]:
        """Settings that a picture is made with: what they leave open is filled in."""
        from cnnlens.synthesize.usual import made_with

        used = made_with(self.study.model, self.settings, goal.objective)
        init = {"init": self.shown["init"]} if "init" in self.shown else {}
        return used | init | self.prior.shown

    def plan(self) -> str:
        """Say how many pictures of what, in how many steps."""
        made = self.to_make()
        words = [one for one in (self.prior.plan(),) if made and one]
        words += [f"{made}: {counted(self.settings.climb, 'step')} each"] if made else []
        begun = [one for part in self.parts for one in part.rounds if one.begun]
        words += [f"{len(one.begun)} of them from step {one.step} on" for one in begun]
        return "; ".join(words)

    # ---- making

    def work(self) -> Iterator[Step]:
        """Optimize layer after layer, since a pass ends at its layer; then set beside."""
        if any(part.todo for part in self.parts):
            yield from self.prior.work()
        for part in self.parts:
            part.read_stores(self.study)
        yield from self.optimize()
        self.check_reached()
        for part in self.parts:
            if part.layer:
                try:
                    part.label(self.study.workspace.path)
                except CnnlensError as error:
                    self.study.voice.note(f"no labels beside the pictures: {error.message}")
                yield from part.set_beside()
            self.prior.compare(part)

    def close(self) -> None:
        """List the pictures, then lay out all that are listed: another process lists its own."""
        from cnnlens.report.figures.visualize import write_sheet

        super().close()
        for part in self.parts:
            if not part.ledger.entries:
                continue
            with part.ledger.held() as entries:
                write_sheet(part.ledger.folder, entries, f"{part.name} · {self.study.model.arch}")

    # ---- what is said

    def shows(self, entry: Mapping[str, Any]) -> str:
        """Say which class is shown, whatever it is called now; of units, which picture."""
        if (number := entry.get("class_index")) is None:
            return super().shows(entry)
        return repr((number, entry.get("variant", 1)))

    def summary(self, part: Ascents) -> dict[str, Any]:
        """Say how pictures are made now, and what has none."""
        return {
            "layer": part.name,
            "settings": self.shown,
            "unreachable": part.unreachable,
            "failed": part.failed,
        }

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        """Give the activation at first and in the end, and how it compares with the data's."""
        best = entry.get("times_best"), (entry.get("best_of") or {}).get("name")
        found = entry["initial"], entry["final"], *best
        yield entry["layer"], Path(entry["file"]).stem, *found, entry.get("label")


def _named(study: Study, init: str) -> GivenImage | None:
    """Find the image that ``--init`` names; None where it names none."""
    if init in ("noise", "mean"):
        return None
    if located(init).is_dir():
        raise UsageError(f"--init {init} is a folder", "name one image, noise or mean")
    (image,) = study.given([Path(init)]).images
    return image

"""``cnnlens ablate``: what the classes lose without units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import UsageError, counted
from cnnlens.files import mark
from cnnlens.methods.measurement import EACH_ONCE, Measurement
from cnnlens.methods.method import Inputs, Results, page_part
from cnnlens.methods.steer import COLUMNS as STEERED
from cnnlens.methods.steer import Steering
from cnnlens.progress import Step, relayed
from cnnlens.settings.ablate import AblateSettings
from cnnlens.settings.inputs import data_input, filters_input, images_input
from cnnlens.settings.option import option

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.measure.ablation import LayerAblation
    from cnnlens.model.layer import Layer

FEW = 10  # images of a class held out: with less that is said
_WIDENED = {"intervals": "Student"}  # those of earlier versions were too narrow for few images
_MANY = 60  # images of every class from which they differ by less than a sixteenth
COLUMNS = ("unit", "label", "hurts most", "accuracy", "score")


@dataclass(frozen=True)
class AblateInputs(Inputs):
    """Which images, which units."""

    data: Path | None = data_input()
    filters: tuple[str, ...] = filters_input(
        "Units of a layer: conv5:12, conv5:0-15, layer4:all; a layer alone means all; a concept "
        "that net2vec has learned is projected out: conv5:[part:hair]; repeatable."
    )
    steer: float | None = option(
        None,
        "Show an image's class scores with each unit's map times FACTOR, instead of measuring "
        "classes.",
        metavar="FACTOR",
        panel="What",
    )
    image: tuple[Path, ...] = images_input()


class Ablate(Measurement):
    """Take units out, and measure what the classes lose.

    A unit's map is replaced by its mean over the data. Half of each class's images say which units
    matter to it; on the other half stand what every unit's removal changes, with intervals, and
    how well a class is still told from the others without its best 1, 2, 5, 10, 20 units, beside
    random ones.
    """

    name, panel = "ablate", "Measure units"
    asks, settings_types = AblateInputs, (AblateSettings,)
    uses = ("device", "batch_size", "workers")
    kinds, vectors, pictured = ("classes", "parts"), True, ""
    sections = (("ablate", page_part("ablate_files.ablations")),)
    probes = (("", "model.classes.probe_scores", "activations.sources.probe"),)
    examples = (
        "cnnlens ablate model.pt -d photos/ -f layer4:all",
        "cnnlens ablate -f layer4:12,40 --to zero",
        "cnnlens ablate -f layer4:[part:hair]",
        "cnnlens ablate -f layer4:12 --steer 3 -i dog.jpg",
    )
    reader = "ablate_files.read_ablation"
    steering: Steering | None = None

    def resolve(self) -> None:
        """Find images, units and directions."""
        if not self.asked.filters:
            raise UsageError("no units were named", "name them with -f LAYER:UNITS (layer4:all)")
        if self.asked.steer is not None or self.asked.image:
            self._name_units()
            self.steering = Steering(self)
            return
        self._open_classes()

    def _open_classes(self) -> None:
        """Find data with classes that are enough to hold some out, and units."""
        from cnnlens.measure.halves import halves
        from cnnlens.report.trained import seen_in_training
        from cnnlens.synthesize.answers import Answers

        study = self.study
        self.images = study.images(self.asked.data, self.kinds)
        if self.images.image_categories is None:
            raise UsageError(f"{self.images.name} has no classes", "name class folders with -d DIR")
        part = halves(self.images.paths, self.images.image_categories, 0)  # raises of too few
        held = Counter(self.images.image_categories[row] for row in part.held)
        name, few = held.most_common()[-1]
        if few < FEW:
            step = f"its accuracy moves in steps of {0.5 / few:.2g}"
            study.voice.note(f"{counted(few, 'image')} of {name} held out: {step}")
        self.classes_read = study.read_classes(self.images)
        if said := seen_in_training(study.model.spec, self.images):
            study.voice.note(said)
            self.classes_read["trained_on"] = said
        self._name_units()
        self._scores_at = Answers(study.model).place
        if study.model.has_random_weights:
            study.voice.note("the weights are random: what they lose says little of any network")

    def _name_units(self) -> None:
        from cnnlens.model.addresses import concept_in
        from cnnlens.report.net2vec_files import read_direction

        study = self.study
        found: dict[object, tuple[Layer, dict[int, None]]] = {}
        concepts = [text for text in self.asked.filters if concept_in(text) is not None]
        of_units = [text for text in self.asked.filters if text not in concepts]
        self.directions: dict[object, dict[str, np.ndarray]] = {}
        for layer, units, position in study.filters(of_units, self.vectors):
            if position is not None:
                raise UsageError(
                    f"{layer.name} is named at a position, and units are taken out as a whole",
                    "leave out @y,x",
                )
            _, known = found.setdefault(layer.place, (layer, {}))
            known.update(dict.fromkeys(range(layer.units) if units is None else units))
        for layer, concept in study.concepts(concepts, self.vectors):
            found.setdefault(layer.place, (layer, {}))
            space, model = study.workspace.path, study.model.fingerprint
            direction = read_direction(space, layer.folder, concept, model)
            self.directions.setdefault(layer.place, {})[direction.name] = direction.vector
        self.layers = [layer for layer, _ in found.values()]
        self.units = {place: sorted(units) for place, (_, units) in found.items()}

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name network, images and their classes, units, directions, settings."""
        directions = self.directions.get(layer.place, {})
        fewest = min(Counter(self.images.image_categories or ()).values(), default=0)
        return self.study.key(
            layer,
            self.images,
            units=mark(self.units[layer.place]),
            directions=mark({name: vector.tolist() for name, vector in directions.items()}),
            names=mark(self.study.model.classes),
            settings=self.settings.as_dict(),
            **EACH_ONCE,
            **(_WIDENED if fewest < _MANY else {}),
            **self.study.head,
        )

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say what stands in for a map."""
        return {"to": self.settings.to, "random": self.settings.random}

    def work(self) -> Iterator[Step]:
        """Measure what is missing, layer by layer."""
        from cnnlens.measure.ablation import ablate_steps

        if self.steering:
            yield from self.steering.work()
            return
        study = self.study
        for layer in self.todo:
            units, directions = self.units[layer.place], self.directions.get(layer.place, {})
            steps = ablate_steps(
                study.model, self.images, layer, units, directions, self.settings, study.run,
                self._scores_at, study.voice.note,
            )  # fmt: skip
            found = yield from relayed(steps, _at(layer.name))
            found.about.update(self.classes_read)
            self.say_copies(layer, self.images, found.about["repeated_images"])
            if silent := found.about["silent_units"]:
                which = f"{counted(len(silent), 'unit')} of {layer.name} of one value on all images"
                study.voice.note(f"{which}: {'it is' if len(silent) == 1 else 'they are'} no loss")
            yield from self._keep(layer, found, [*found.skipped])

    def write(self, folder: Path, layer: Layer, found: LayerAblation) -> Iterator[int]:
        """Write the tables and the curves."""
        from cnnlens.report.ablate_files import write_ablation

        write_ablation(folder, found)
        yield from ()

    def plan(self) -> str:
        """Say what is to be done."""
        if self.steering is None:
            todo = [self._counted(layer) for layer in self.todo] if super().plan() else []
            return f"{', '.join(todo)}, on {len(self.images.paths)} images" if todo else ""
        return counted(len(self.steering.todo), "picture") if self.steering.todo else ""

    def _counted(self, layer: Layer) -> str:
        units, concepts = self.units[layer.place], self.directions.get(layer.place, {})
        words = [
            counted(len(some), noun)
            for some, noun in ((units, "unit"), (concepts, "concept"))
            if some
        ]
        return f"{' and '.join(words)} of {layer.name}"

    def close(self) -> None:
        """List what was made."""
        if self.steering is None:
            super().close()
        elif self.steering.ledger.entries:
            self.summaries = {"steer": self.steering.close()}

    def show(self, results: Results) -> None:
        """Show the units that matter most, then the curves."""
        from cnnlens.report.ablate_files import curve_table, unit_row

        if self.steering:
            results.table(STEERED, [*self.steering.rows()])
            results.say(f"pictures: {self.steering.ledger.folder}")
            return
        for layer in self.layers:
            found = self.read(self.folder(layer))
            rows = [unit_row(one) for one in found.best(10)]
            if rows:
                results.table(COLUMNS, rows, title=f"{layer.name}: whose removal hurts most")
            if found.concepts:
                rows = [unit_row(one) for one in found.concepts]
                results.table(("concept", *COLUMNS[1:]), rows, title=f"{layer.name}: projected out")
            if found.curves:
                heads, rows = curve_table(found)
                title = f"{layer.name}: a class told from all others without its k best units"
                results.table(heads, rows, title=title)
        results.say(f"tables: {self.study.folder(self.name)}")

    def result(self) -> Any:
        """Return one layer's results, or several by layer; of steering, its pictures."""
        if self.steering:
            from cnnlens.report.shown import PictureResults

            return PictureResults(self.steering.ledger.folder, self.steering.entries)
        found = {layer.name: self.read(self.folder(layer)) for layer in self.layers}
        return found if len(found) > 1 else next(iter(found.values()))


def _at(layer: str) -> Any:
    from dataclasses import replace

    return lambda step: replace(step, stage=f"{layer}: {step.stage}")

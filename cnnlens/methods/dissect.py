"""``cnnlens dissect``: which unit detects which concept."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.measurement import Measurement
from cnnlens.methods.method import Inputs, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings import DissectSettings, ExtractSettings
from cnnlens.settings.inputs import data_input, layers_input, store_option
from cnnlens.settings.measure import FORMULA
from cnnlens.settings.option import option

if TYPE_CHECKING:
    from cnnlens.activations.sources import Source
    from cnnlens.measure.dissection import Dissection
    from cnnlens.model.layer import Layer


POOLING = 3  # counts changes of what p-values are taken from: those of an earlier version are stale


@dataclass(frozen=True)
class DissectInputs(Inputs):
    """Which label maps, which layers."""

    broden: bool = option(
        False, "Use the downloaded Broden (cnnlens data download broden).", panel="What", off="-"
    )
    data: Path | None = data_input()
    layer: tuple[str, ...] = layers_input()
    store: bool = store_option()


class Dissect(Measurement):
    """Network Dissection: label units by concept.

    Thresholds every unit's activations, scores its masks against the label maps by IoU, and
    labels it with its best concept, beside what shuffled label maps give by chance; with --formula
    also with its best formula, "(car OR bus) AND NOT road". Tables go to WORKSPACE/dissect, the
    page to WORKSPACE/report.html.
    """

    name, panel = "dissect", "Measure units"
    uses, shares = (*Measurement.uses, "shard"), True
    asks, settings_types = DissectInputs, (DissectSettings, ExtractSettings)
    sections = (
        ("dissect", page_part("dissection.dissection")),
        ("groups", page_part("groups.concept_groups")),
    )
    examples = (
        "cnnlens dissect model.pt --broden -l conv5",
        "cnnlens dissect -d labelled/ -l layer3 -l layer4 --chance 100",
        "cnnlens dissect --broden -l conv5 --formula 3",
    )
    reader = "dissect_files.read_dissection"

    def resolve(self) -> None:
        """Find label maps and layers."""
        data: Any = self.asked.data
        if self.asked.broden:
            from cnnlens.data.open import find_broden

            if data is not None:
                raise UsageError("--broden and -d both name data", "give one of them")
            data = find_broden(max(self.study.model.preprocess.size))
        self.images = self.study.images(data, ("broden",))
        self.layers = self.study.layers(self.asked.layer)
        if self.stored is not None:
            self.stored = self.all_settings[1]
        most = len(self.images.concept_space().concepts) if self.settings.formula else 0
        if self.settings.formula > most:
            self.study.voice.note(
                f"--formula {self.settings.formula}: the labels have {most} concepts, "
                f"so no formula has more"
            )

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name the labels and their images, the network, the settings."""
        key = self.study.key(
            layer, self.images, dtype=self.stored_as(layer), settings=self.settings.as_dict()
        )
        return {**key, "pooling": POOLING} if self.settings.chance else key

    def serves(self, earlier: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
        """Also with formulas, where none are asked for."""
        theirs = earlier.get("settings")
        if not self.settings.formula and isinstance(theirs, dict):
            plain = {name: value for name, value in theirs.items() if name not in FORMULA}
            earlier = {**earlier, "settings": plain}
        return super().serves(earlier, mine)

    def measure(self, source: Source, layers: list[Layer]) -> Generator[Step, None, Sequence[Any]]:
        """Hold masks against label maps, in two sweeps."""
        from cnnlens.files import make_folder
        from cnnlens.measure.dissect import dissect_steps

        folder = make_folder(self.study.workspace.path)  # label maps, while it runs
        workers = self.study.run.workers
        return dissect_steps(source, self.images, self.settings, workers, folder)

    def write(self, folder: Path, layer: Layer, found: Dissection) -> Iterator[int]:
        """Write the tables, a strip of top images per unit, the sheet of detectors."""
        from cnnlens.report.dissect_files import write_pictured, write_tables
        from cnnlens.report.figures.dissect import write_detectors, write_strips
        from cnnlens.report.figures.units import write_seen

        write_tables(folder, found, self.images.paths)
        if found.top is not None:
            preprocess, workers = self.study.model.preprocess, self.study.run.workers
            shown = sorted({*found.top.positions.ravel().tolist()} - {-1})
            place = self.study.workspace.path / "images"
            files = dict(write_seen(place, self.images, shown, preprocess, workers))
            write_pictured(folder, found, files)
            yield from write_strips(
                folder / "pictures", self.images, found.top, found.thresholds, preprocess, workers
            )
            write_detectors(folder, distinct=True)

    def described(self, layer: Layer) -> dict[str, Any]:
        """Say what a unit sees where."""
        from cnnlens.report.seen import View

        return {"seen": View(self.study.model.preprocess.size, layer.fields).as_dict()}

    def work(self) -> Iterator[Step]:
        """Dissect what is missing; draw the figures over all layers, damaged neighbours aside."""
        from cnnlens.report.figures.dissect import write_summary_bars
        from cnnlens.report.groups import write_groups

        yield from super().work()
        try:
            for write in (write_summary_bars, write_groups) if self.page else ():
                write(self.study.workspace.path)
        except CnnlensError as error:
            self.study.voice.note(f"no figures over all layers: {error.message}")

    def show(self, results: Results) -> None:
        """Show each layer's best units, then layers beside each other."""
        from cnnlens.measure.dissected_units import formulas_said, unit_table
        from cnnlens.measure.dissection import LAYER_COLUMNS, by_category, layer_row

        for layer in self.layers:
            best = self.read(self.folder(layer)).best(10)
            results.table(*unit_table(best), title=f"{layer.name}: best units")
        found = list(self.summaries.values())
        results.table(LAYER_COLUMNS, [layer_row(summary) for summary in found], title="summary")
        if len(found) > 1:
            kinds, rows = by_category(self.summaries)
            title = "unique detectors (detectors) per category"
            results.table(["layer", *kinds], rows, title=title)
        for summary in found:
            if said := formulas_said(summary):
                results.say(f"{summary['layer']}: {said}")
        results.say(f"tables: {self.study.folder('dissect')}")

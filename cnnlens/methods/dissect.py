"""``cnnlens dissect``: which unit detects which concept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.measurement import Measurement
from cnnlens.methods.method import Inputs, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings import DissectSettings, ExtractSettings
from cnnlens.settings.option import data_input, layers_input, option

if TYPE_CHECKING:
    from cnnlens.data.broden import Broden
    from cnnlens.measure.dissection import Dissection
    from cnnlens.model.layers import Layer
    from cnnlens.report.dissect_files import DissectResult


@dataclass(frozen=True)
class DissectInputs(Inputs):
    """Which label maps, which layers."""

    broden: bool = option(
        False,
        "Use the downloaded Broden (cnnlens data download broden).",
        panel="What",
        off="-",
    )
    data: Path | None = data_input()
    layer: tuple[str, ...] = layers_input()
    store: bool = option(True, "Cache activations, or run the model twice instead.", panel="Output")


class Dissect(Measurement):
    """Network Dissection: label units by concept.

    Thresholds every unit's activations, scores its masks against the label maps by IoU, and
    labels it with its best concept, beside what shuffled label maps give by chance. Tables go to
    WORKSPACE/dissect, the page to WORKSPACE/report.html.
    """

    name, panel = "dissect", "Measure units"
    asks, settings_types = DissectInputs, (DissectSettings, ExtractSettings)
    sections = (
        ("dissect", page_part("dissection.dissection")),
        ("groups", page_part("groups.concept_groups")),
    )
    examples = (
        "cnnlens dissect model.pt --broden -l conv5",
        "cnnlens dissect -d labelled/ -l layer3 -l layer4 --chance 100",
    )
    images: Broden

    def resolve(self) -> None:
        """Find label maps and layers."""
        if self.asked.broden and self.asked.data is not None:
            raise UsageError("--broden and -d both name data", "give one of them")
        self.images = self._images()
        self.layers = self.study.layers(self.asked.layer)

    def _images(self) -> Any:
        data = self.asked.data
        if self.asked.broden:
            from cnnlens.data.open import find_broden

            data = find_broden(max(self.study.model.preprocess.size))
        return self.study.images(data, ("broden",))

    @property
    def stored(self) -> ExtractSettings:
        """How activations are kept; without a store, as they come."""
        return self.all_settings[1] if self.asked.store else ExtractSettings()

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name the labels and their images, the network, the settings."""
        settings = self.settings.as_dict()
        return self.study.key(layer, self.images, dtype=self.stored.dtype, settings=settings)

    def read(self, folder: Path) -> DissectResult:
        """Read a layer's results."""
        from cnnlens.report.dissect_files import read_dissection

        return read_dissection(folder)

    def work(self) -> Iterator[Step]:
        """Dissect what is missing, layer by layer where there are stores, else all at once."""
        from cnnlens.activations.sources import ModelSource, StoreSource

        study = self.study
        if self.todo and self.asked.store:
            yield from study.fill(self.images, self.todo, self.stored, force=study.force)
            for layer in self.todo:
                with study.store(self.images, layer) as store:
                    yield from self._measure([layer], StoreSource([store]))
        elif self.todo:
            source = ModelSource(study.model, self.images, self.todo, study.run)
            yield from self._measure(self.todo, source)
        if self.page:
            self._draw_overview()

    def _measure(self, layers: list[Layer], source: Any) -> Iterator[Step]:
        from cnnlens.measure.dissect import dissect_steps

        names = ", ".join(layer.name for layer in layers)
        steps = dissect_steps(source, self.images, self.settings, self.study.run.workers)
        results = yield from self.named(names, steps)
        for layer, result in zip(layers, results, strict=True):
            yield from self._write(layer, result, source.skipped)

    def _write(
        self, layer: Layer, result: Dissection, skipped: list[tuple[str, str]]
    ) -> Iterator[Step]:
        from cnnlens.files import atomic_folder
        from cnnlens.report.dissect_files import summarize, write_tables
        from cnnlens.report.figures.dissect import write_detectors, write_strips

        summary = summarize(
            result,
            layer.name,
            skipped=[{"image": p, "reason": r} for p, r in [*skipped, *result.skipped]],
            data={"name": self.images.name},
            made_from=self.made_from(layer),
        )
        self.study.voice.skipped(summary["skipped"])
        with atomic_folder(self.folder(layer)) as folder:
            write_tables(folder, result, summary, list(self.images.paths))
            if result.top is not None:
                drawn = write_strips(
                    folder / "pictures", self.images, result.top, result.thresholds,
                    self.study.model.preprocess, self.study.run.workers,
                )  # fmt: skip
                for done in drawn:
                    yield Step(done, result.units, f"{layer.name}: pictures", unit="units")
                write_detectors(folder, distinct=True)
        self.written.append(layer)

    def _draw_overview(self) -> None:
        """Draw the figures over all dissected layers; a damaged neighbour costs only these."""
        from cnnlens.report.figures.dissect import write_summary_bars
        from cnnlens.report.groups import write_groups

        workspace = self.study.workspace.path
        try:
            write_summary_bars(workspace)
            write_groups(workspace)
        except CnnlensError as error:
            self.study.voice.note(f"no figures over all layers: {error.message}")

    def show(self, results: Results) -> None:
        """Show each layer's best units, then layers beside each other."""
        for layer in self.layers:
            best = self.read(self.folder(layer)).best(10)
            sure = best[0].p_value is not None
            results.table(
                ["unit", "label", "category", "IoU", *(["p"] if sure else [])],
                [
                    (u.unit, u.label, u.category, round(u.iou, 4)) + ((u.p_value,) if sure else ())
                    for u in best
                ],
                title=f"{layer.name}: best units",
            )
        counted = ("detectors", "unique detectors", "mean IoU")
        columns = ["layer", "units", *(c for name in counted for c in (name, "by chance"))]
        rows = [_summary_row(summary) for summary in self.summaries.values()]
        results.table(columns, rows, title="summary")
        if len(self.summaries) > 1:
            _show_categories(results, self.summaries)
        results.say(f"tables: {self.study.folder('dissect')}")


def _summary_row(summary: dict[str, Any]) -> list[object]:
    chance = summary.get("chance") or {}
    keys = ("detectors", "unique_detectors", "mean_iou")
    pairs = [(summary[k], chance.get(k)) for k in keys]
    return [summary["layer"], summary["units"], *(v for pair in pairs for v in pair)]


def _show_categories(results: Results, summaries: dict[str, Any]) -> None:
    categories = list(dict.fromkeys(c for s in summaries.values() for c in s["per_category"]))
    counts = "{unique_detectors} ({detectors})"
    rows = [
        [name, *(counts.format(**s["per_category"][c]) for c in categories)]
        for name, s in summaries.items()
    ]
    results.table(["layer", *categories], rows, title="unique detectors (detectors) per category")

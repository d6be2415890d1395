"""``cnnlens stability``: do a layer's units follow an object's parts?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.methods.measurement import SUMMARY, Measurement
from cnnlens.methods.method import Inputs, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings import StabilitySettings
from cnnlens.settings.option import data_input, layers_input, option

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.data.parts import PartSet
    from cnnlens.measure.stability import Stability as Found
    from cnnlens.model.layers import Layer
    from cnnlens.report.stability_files import StabilityResult


@dataclass(frozen=True)
class StabilityInputs(Inputs):
    """Which objects, parts and layers."""

    data: Path | None = data_input()
    layer: tuple[str, ...] = layers_input()
    parts: tuple[str, ...] = option(
        (), "Only these parts; repeatable. Default: all.", metavar="NAME", panel="What"
    )
    merge_categories: str | None = option(
        None, "Take all objects for one category.", metavar="NAME", panel="What"
    )
    negatives: Path | None = option(
        None, "Images of no category, for the selectivity.", metavar="DIR", panel="What"
    )


class Stability(Measurement):
    """Whether units follow an object's parts, with chance.

    Location instability and part interpretability of every unit, on objects with parts. Beside
    them stand what shuffled, random and central places give, dead units, how far peaks lie from
    the centre, and how well a unit tells its category from others. Tables go to
    WORKSPACE/stability.
    """

    name, panel = "stability", "Measure units"
    asks, settings_types = StabilityInputs, (StabilitySettings,)
    sections = (("stability", page_part("sections.parts")),)
    examples = (
        "cnnlens stability model.pt -d CUB_200_2011 -l conv5",
        "cnnlens stability -d animals/ --negatives animals/negatives --parts head",
    )
    images: PartSet

    def resolve(self) -> None:
        """Find objects, the parts that count, negatives, and layers."""
        asked, study = self.asked, self.study
        objects: Any = study.images(asked.data, ("parts",))
        self.images = objects.choose(asked.parts, asked.merge_categories)
        self.negatives: ImageSet | None = None
        if asked.negatives is not None:
            self.negatives = study.images(asked.negatives, remember=False)
        self.layers = study.layers(asked.layer)

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name objects, parts and their masks, negatives, the network, the settings."""
        return self.study.key(
            layer,
            self.images,
            negatives=None if self.negatives is None else self.negatives.fingerprint,
            settings=self.settings.as_dict(),
        )

    def read(self, folder: Path) -> StabilityResult:
        """Read a layer's results."""
        from cnnlens.report.stability_files import read_stability

        return read_stability(folder)

    def work(self) -> Iterator[Step]:
        """Measure what is missing, layer by layer."""
        from cnnlens.activations.sources import ModelSource, StoreSource
        from cnnlens.measure.stability import stability_steps

        study = self.study
        faults = [{"image": fault.where, "reason": fault.what} for fault in self.images.faults]
        study.voice.skipped(faults)
        if not self.todo:
            return
        yield from study.fill(self.images, self.todo, force=study.force)
        for layer in self.todo:
            others = None
            if self.negatives is not None:
                others = ModelSource(study.model, self.negatives, [layer], study.run)
            with study.store(self.images, layer) as store:
                steps = stability_steps(
                    StoreSource([store]), self.images, [layer.fields],
                    study.model.preprocess.size, self.settings, others,
                )  # fmt: skip
                (found,) = yield from self.named(layer.name, steps)
                skipped = [{"image": p, "reason": r} for p, r in store.skipped]
            yield from self._write(layer, found, skipped)

    def _write(self, layer: Layer, found: Found, skipped: list[dict[str, str]]) -> Iterator[Step]:
        from cnnlens.files import atomic_folder, write_json
        from cnnlens.measure.instability import FEWEST
        from cnnlens.report.figures.stability import where_units_look, write_peaks
        from cnnlens.report.stability_files import summarize, write_units

        voice, preprocess = self.study.voice, self.study.model.preprocess
        voice.skipped(skipped)
        for name in found.unmeasured:
            voice.note(f"{name}: no part is shown on {FEWEST} of its images: no unit's own")
        with atomic_folder(self.folder(layer)) as folder:
            write_units(folder / "units.csv", found)
            if self.settings.top:
                drawn = write_peaks(
                    folder / "pictures", self.images, found, layer.fields, preprocess,
                    self.settings.top, self.study.run.workers,
                )  # fmt: skip
                for done in drawn:
                    yield Step(done, found.units, f"{layer.name}: pictures", unit="units")
            figure = where_units_look(self.images, found, layer.shape[1:], preprocess)
            figure.savefig(folder / "where.png", dpi=150)
            summary = summarize(
                found,
                layer.name,
                settings=self.settings.as_dict(),
                left_out=[asdict(fault) for fault in self.images.faults],
                skipped=skipped,
                data={"name": self.images.name},
                made_from=self.made_from(layer),
            )
            write_json(folder / SUMMARY, summary)
        self.written.append(layer)

    def show(self, results: Results) -> None:
        """Show the layers beside each other, and beside chance."""
        columns = ["layer", "instability", "shuffled", "uniform", "centre"]
        results.table(
            [*columns, "selectivity", "centre distance", "dead", "units"],
            [_row(summary) for summary in self.summaries.values()],
        )
        masks = ("quantile", "part_interpretability", "chance", "bound")
        rows = [
            [summary["layer"], *(_round(one[key]) for key in masks)]
            for summary in self.summaries.values()
            for one in summary["interpretability"]
        ]
        if rows:
            columns = ["layer", "quantile", "part interpretability", "by chance", "at most"]
            results.table(columns, rows)
        results.say(f"tables: {self.study.folder('stability')}")


def _row(summary: dict[str, Any]) -> list[object]:
    base = summary["baselines"]
    return [
        summary["layer"],
        _round(summary["location_instability"]),
        *(_round(base[name]) for name in ("shuffled", "uniform", "centre")),
        _round(summary["selectivity"], 3),
        _round(summary["centre_distance"]),
        summary["dead_units"],
        summary["units"],
    ]


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)

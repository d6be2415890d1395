"""One run of stability: which layers are missing, measuring them, and keeping what was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.extract import fill_stores
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import CnnlensError
from cnnlens.settings import ExtractSettings, RunSettings, StabilitySettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.measure.stability import Stability
    from cnnlens.model.layers import Layer


@dataclass(frozen=True)
class Chosen:
    """What of a parts data set counts.

    Attributes
    ----------
    parts : tuple of str
        Names; none: all.
    merged : str or None
        One category for all objects.
    negatives : pathlib.Path or None
        Images of no category.
    """

    parts: tuple[str, ...] = ()
    merged: str | None = None
    negatives: Path | None = None


class Work:
    """One run of stability, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: StabilitySettings,
        chosen: Chosen,
        run: RunSettings,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.chosen, self.run_settings = settings, chosen, run

    def run(
        self, data: Path | None, names: list[str] | None, page: bool, force: bool
    ) -> dict[str, Any]:
        """Measure what is not there yet; return every layer's summary."""
        from cnnlens.data.parts import PartSet
        from cnnlens.files import read_json

        self.model, given = open_model(self.options, self.space, self.screen)
        images = open_images(data, self.space, ("parts",))
        assert isinstance(images, PartSet)
        self.images = images
        self.counted = images.choose(self.chosen.parts, self.chosen.merged)
        layers = find_layers(self.model, names, self.space)
        self.space.use_model(self.model, given, force)
        self.space.use_data(images, named=data is not None)
        layers = [self.space.use_layer(one) for one in layers]
        self.space.save()
        self.screen.skipped([{"image": f.where, "reason": f.what} for f in images.faults])
        finished = [] if force else [one for one in layers if self._is_finished(one)]
        if finished:
            done = ", ".join(one.name for one in finished)
            self.screen.note(f"{done}: done before with these settings (--force redoes it)")
        if todo := [one for one in layers if one not in finished]:
            self._make(todo, force)
            self.space.save(command_line())
        if page:
            from cnnlens.report.page import write_report

            write_report(self.space.path)
        return {one.name: read_json(self._folder(one) / "summary.json") for one in layers}

    def _folder(self, layer: Layer) -> Path:
        return self.space.results("stability", layer)

    def _made_from(self, layer: Layer) -> dict[str, Any]:
        """Everything the numbers depend on: equal, and the results need not be made again."""
        from cnnlens.activations.extract import store_key

        key = store_key(self.model, self.images, layer, ExtractSettings())
        negatives = self.chosen.negatives
        return {
            **asdict(key),
            "labels": self.counted.labels_fingerprint,
            "negatives": str(negatives.resolve()) if negatives else None,
            "settings": self.settings.as_dict(),
        }

    def _is_finished(self, layer: Layer) -> bool:
        from cnnlens.files import read_json

        file = self._folder(layer) / "summary.json"
        if not file.exists():
            return False
        found = read_json(file)
        if not isinstance(found, dict):
            raise CnnlensError(f"{file} is damaged: not a JSON object", "--force makes it anew")
        return bool(found.get("made_from") == self._made_from(layer))

    def _make(self, layers: list[Layer], force: bool) -> None:
        from cnnlens.activations.extract import store_path
        from cnnlens.activations.sources import ModelSource, StoreSource
        from cnnlens.activations.store import Store
        from cnnlens.data.open import open_data

        negatives = open_data(self.chosen.negatives) if self.chosen.negatives else None
        folder = fill_stores(
            self.screen,
            self.space,
            self.model,
            self.images,
            layers,
            ExtractSettings(),
            self.run_settings,
            logits=False,
            force=force,
        )
        for layer in layers:
            others = negatives and ModelSource(self.model, negatives, [layer], self.run_settings)
            with Store(store_path(folder, layer)) as store:
                skipped = [{"image": p, "reason": r} for p, r in store.skipped]
                found = self._measure(layer, StoreSource([store]), others)
            self._write(layer, found, skipped)

    def _measure(self, layer: Layer, source: Any, others: Any) -> Stability:
        from cnnlens.measure.stability import stability

        with self.screen.progress() as bars:
            (found,) = stability(
                source,
                self.counted,
                [layer.fields],
                self.model.preprocess.size,
                self.settings,
                others,
                lambda step: bars.show(f"{layer.name}: {step.stage}", step.done, step.total),
            )
        return found

    def _write(self, layer: Layer, found: Stability, skipped: list[dict[str, str]]) -> None:
        from cnnlens.files import atomic_folder, write_json
        from cnnlens.measure.instability import FEWEST
        from cnnlens.report.stability_figures import where_units_look, write_peaks
        from cnnlens.report.stability_files import summarize, write_units

        self.screen.skipped(skipped)
        for name in found.unmeasured:
            self.screen.note(f"{name}: no part is shown on {FEWEST} of its images: no unit's own")
        preprocess = self.model.preprocess
        with atomic_folder(self._folder(layer)) as folder, self.screen.progress() as bars:
            write_units(folder / "units.csv", found)
            if self.settings.top:
                drawn = write_peaks(
                    folder / "pictures",
                    self.counted,
                    found,
                    layer.fields,
                    preprocess,
                    self.settings.top,
                    self.run_settings.workers,
                )
                for done in drawn:
                    bars.show(f"{layer.name}: pictures", done, found.units)
            figure = where_units_look(self.counted, found, layer.shape[1:], preprocess)
            figure.savefig(folder / "where.png", dpi=150)
            summary = summarize(
                found,
                layer.name,
                settings=self.settings.as_dict(),
                left_out=[asdict(fault) for fault in self.images.faults],
                skipped=skipped,
                data={"name": self.images.name, "path": str(self.images.root.resolve())},
                made_from=self._made_from(layer),
            )
            write_json(folder / "summary.json", summary)

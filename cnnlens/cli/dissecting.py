"""One run of dissect: which layers are missing, measuring them, and the files they are kept in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.extract import fill_stores
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.settings import DissectSettings, ExtractSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.data.broden import Broden
    from cnnlens.measure.dissection import Dissection
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model


class Work:
    """One run of dissect, from what was named to the files in the workspace.

    Parameters
    ----------
    screen : Screen
        Where progress goes.
    space : Workspace
        Where results go.
    options : ModelOptions
        The model.
    settings : DissectSettings
        The method.
    stored : ExtractSettings or None
        How activations are cached; None: they are not.
    run_settings : RunSettings
        Batch size, workers.
    """

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: DissectSettings,
        stored: ExtractSettings | None,
        run_settings: RunSettings,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.stored, self.run_settings = settings, stored, run_settings

    def run(
        self, broden: bool, data: Path | None, names: list[str] | None, page: bool, force: bool
    ) -> dict[str, Any]:
        """Dissect what is not there yet; return every layer's summary."""
        from cnnlens.files import read_json

        self.model, given = open_model(self.options, self.space, self.screen)
        self.images = _find_data(broden, data, self.space, self.model)
        layers = find_layers(self.model, names, self.space)
        self.space.use_model(self.model, given, force)
        self.space.use_data(self.images, named=broden or data is not None)
        layers = [self.space.use_layer(one) for one in layers]
        self.space.save()
        finished = [] if force else [one for one in layers if self._is_finished(one)]
        if finished:
            done = ", ".join(one.name for one in finished)
            self.screen.note(f"{done}: done before with these settings (--force redoes it)")
        if todo := [one for one in layers if one not in finished]:
            self._make(todo, force)
            self.space.save(command_line())
        if page:
            _write_page(self.screen, self.space)
        return {one.name: read_json(self._folder(one) / "summary.json") for one in layers}

    def _folder(self, layer: Layer) -> Path:
        return self.space.results("dissect", layer)

    def _made_from(self, layer: Layer) -> dict[str, Any]:
        """Everything the numbers depend on: equal, and the results need not be made again."""
        from cnnlens.activations.extract import store_key

        key = store_key(self.model, self.images, layer, self.stored or ExtractSettings())
        labels = self.images.labels_fingerprint
        return {**asdict(key), "labels": labels, "settings": self.settings.as_dict()}

    def _is_finished(self, layer: Layer) -> bool:
        """Whether these results are there already; damaged ones are reported and left."""
        from cnnlens.report.dissect_files import read_dissection

        folder = self._folder(layer)
        if not (folder / "summary.json").exists():
            return False
        found = read_dissection(folder).summary.get("made_from")
        mine = self._made_from(layer)
        if self.settings.top == 0 and isinstance(found, dict):  # pictures do not stand in the way
            settings = found.get("settings")
            found = {**found, "settings": {**settings, "top": 0}} if settings else found
        return bool(found == mine)

    def _make(self, layers: list[Layer], force: bool) -> None:
        from cnnlens.activations.extract import store_path
        from cnnlens.activations.sources import ModelSource, StoreSource
        from cnnlens.activations.store import Store

        if self.stored is None:
            source = ModelSource(self.model, self.images, layers, self.run_settings)
            self._measure(layers, source)
            return
        folder = fill_stores(
            self.screen,
            self.space,
            self.model,
            self.images,
            layers,
            self.stored,
            self.run_settings,
            logits=False,
            force=force,
        )
        for layer in layers:
            with Store(store_path(folder, layer)) as store:
                self._measure([layer], StoreSource([store]))

    def _measure(self, layers: list[Layer], source: Any) -> None:
        from cnnlens.measure.dissect import dissect as dissect_

        names = ", ".join(layer.name for layer in layers)
        with self.screen.progress() as bars:
            results = dissect_(
                source,
                self.images,
                self.settings,
                self.run_settings.workers,
                lambda step: bars.show(f"{names}: {step.stage}", step.done, step.total),
            )
            for layer, result in zip(layers, results, strict=True):
                self._write(layer, result, source, bars)

    def _write(self, layer: Layer, result: Dissection, source: Any, bars: Any) -> None:
        from cnnlens.files import atomic_folder
        from cnnlens.report.strips import write_strips
        from cnnlens.report.dissect_files import summarize, write_tables

        summary = summarize(
            result,
            layer.name,
            skipped=[{"image": p, "reason": r} for p, r in [*source.skipped, *result.skipped]],
            data={"name": self.images.name, "path": str(self.images.root.resolve())},
            made_from=self._made_from(layer),
        )
        self.screen.skipped(summary["skipped"])
        with atomic_folder(self._folder(layer)) as folder:
            write_tables(folder, result, summary, list(self.images.paths))
            if result.top is not None:
                drawn = write_strips(
                    folder / "pictures",
                    self.images,
                    result.top,
                    result.thresholds,
                    self.model.preprocess,
                    self.run_settings.workers,
                )
                for done in drawn:
                    bars.show(f"{layer.name}: pictures", done, result.units)


def _find_data(broden: bool, path: Path | None, space: Workspace, model: Model) -> Broden:
    from cnnlens.data.broden import Broden
    from cnnlens.data.open import find_broden

    if broden:
        return find_broden(max(model.preprocess.size))
    images = open_images(path, space, ("broden",))
    assert isinstance(images, Broden)
    return images


def _write_page(screen: Screen, space: Workspace) -> None:
    from cnnlens.report.groups import write_groups
    from cnnlens.report.page import write_report
    from cnnlens.report.contents import finished
    from cnnlens.report.sheets import write_detectors, write_summary_bars

    with screen.progress() as bars:
        bars.show("page", 0, 1)
        for folder in finished(space.path, "dissect"):
            if not (folder / "detectors.png").exists():
                write_detectors(folder, distinct=True)
        write_summary_bars(space.path)
        write_groups(space.path)
        write_report(space.path)

"""``cnnlens dissect``: which unit detects which concept."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.extract import DtypeOption, fill_stores
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import UsageError
from cnnlens.settings import DissectSettings, ExtractSettings, RunSettings
from cnnlens.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.data.broden import Broden
    from cnnlens.measure.dissection import Dissection
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model

D = DissectSettings()


def dissect(
    model: o.ModelArgument = None,
    broden: Annotated[
        bool,
        typer.Option("--broden", help="Use the downloaded Broden (cnnlens data download broden)."),
    ] = False,
    data: o.DataOption = None,
    layer: o.LayersOption = None,
    quantile: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of a unit's activations above its threshold."),
    ] = D.quantile,
    min_iou: Annotated[
        float, typer.Option(metavar="IOU", help="Best IoU from which a unit is a detector.")
    ] = D.min_iou,
    chance: Annotated[
        int,
        typer.Option(metavar="N", help="Shuffles for the chance level and p-values; 0 for none."),
    ] = D.chance,
    compat: Annotated[
        str,
        typer.Option(metavar="ndlite", help="Count as NetDissect-Lite did.", show_default=False),
    ] = D.compat,
    top: Annotated[int, typer.Option(metavar="N", help="Top images shown per unit.")] = D.top,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Draw pictures, write the page.")
    ] = True,
    store: Annotated[
        bool,
        typer.Option(
            "--store/--no-store", help="Cache activations, or run the model twice instead."
        ),
    ] = True,
    dtype: DtypeOption = ExtractSettings.dtype,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    workers: o.WorkersOption = o.RUN.workers,
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Network Dissection: label units by concept.

    Thresholds every unit's activations, scores its masks against the label maps by IoU, and
    labels it with its best concept, beside what shuffled label maps give by chance. Tables go to
    WORKSPACE/dissect, the page to WORKSPACE/report.html.
    """
    settings = DissectSettings(quantile, min_iou, chance, compat, top if page else 0, seed)
    stored = ExtractSettings(dtype)
    if broden and data is not None:
        raise UsageError("--broden and -d both name data", "give one of them")
    screen, space = Screen(json, quiet), Workspace(workspace, force)
    work = Work(
        screen,
        space,
        ModelOptions(model, arch, allow_pickle, image_size, mean, std, device),
        settings,
        stored if store else None,
        RunSettings(device, batch_size, workers, seed),
    )
    summaries = work.run(broden, data, layer, page, force)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, summaries, page)


def _find_data(broden: bool, path: Path | None, space: Workspace, model: Model) -> Broden:
    from cnnlens.data.broden import Broden
    from cnnlens.data.open import find_broden

    if broden:
        return find_broden(max(model.preprocess.size))
    images = open_images(path, space, ("broden",))
    assert isinstance(images, Broden)
    return images


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
        from cnnlens.report.results import read_layer

        folder = self._folder(layer)
        if not (folder / "summary.json").exists():
            return False
        found = read_layer(folder).summary.get("made_from")
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
        from cnnlens.report.tables import summarize, write_tables

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


def _write_page(screen: Screen, space: Workspace) -> None:
    from cnnlens.report.groups import write_groups
    from cnnlens.report.page import write_report
    from cnnlens.report.results import dissected
    from cnnlens.report.sheets import write_detectors, write_summary_bars

    with screen.progress() as bars:
        bars.show("page", 0, 1)
        for folder in dissected(space.path):
            if not (folder / "detectors.png").exists():
                write_detectors(folder, distinct=True)
        write_summary_bars(space.path)
        write_groups(space.path)
        write_report(space.path)


def _show(screen: Screen, space: Workspace, summaries: dict[str, Any], page: bool) -> None:
    from cnnlens.files import read_csv
    from cnnlens.model.layers import file_name

    for name in summaries:
        rows = read_csv(space.path / "dissect" / file_name(name) / "units.csv")
        best = sorted(rows, key=lambda row: -float(row["iou"]))[:10]
        screen.table(
            ["unit", "label", "category", "IoU", *(["p"] if "p_value" in best[0] else [])],
            [
                (int(r["unit"]), r["label"], r["category"], round(float(r["iou"]), 4))
                + ((float(r["p_value"]),) if "p_value" in r else ())
                for r in best
            ],
            title=f"{name}: best units",
        )
    screen.table(
        [
            "layer",
            "units",
            "detectors",
            "by chance",
            "unique detectors",
            "by chance",
            "mean IoU",
            "by chance",
        ],
        [_summary_row(summary) for summary in summaries.values()],
        title="summary",
    )
    _show_categories(screen, summaries)
    screen.say(f"tables: {space.path / 'dissect'}")
    if page:
        screen.say(f"page:   {space.path / 'report.html'}")


def _summary_row(summary: dict[str, Any]) -> list[object]:
    chance = summary.get("chance") or {}
    keys = ("detectors", "unique_detectors", "mean_iou")
    pairs = [(summary[k], chance.get(k)) for k in keys]
    return [summary["layer"], summary["units"], *(v for pair in pairs for v in pair)]


def _show_categories(screen: Screen, summaries: dict[str, Any]) -> None:
    if len(summaries) < 2:
        return
    categories = list(dict.fromkeys(c for s in summaries.values() for c in s["per_category"]))
    rows = [
        [
            name,
            *(
                "{unique_detectors} ({detectors})".format(**s["per_category"][c])
                for c in categories
            ),
        ]
        for name, s in summaries.items()
    ]
    screen.table(["layer", *categories], rows, title="unique detectors (detectors) per category")

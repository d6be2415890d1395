"""``cnnlens dissect``: which unit detects which concept."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.dissecting import Work
from cnnlens.cli.extract import DtypeOption
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions
from cnnlens.errors import UsageError
from cnnlens.settings import DissectSettings, ExtractSettings, RunSettings
from cnnlens.study.workspace import Workspace

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
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
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


def _show(screen: Screen, space: Workspace, summaries: dict[str, Any], page: bool) -> None:
    from cnnlens.model.layers import file_name
    from cnnlens.report.dissect_files import read_dissection

    for name in summaries:
        best = read_dissection(space.path / "dissect" / file_name(name)).best(10)
        sure = best[0].p_value is not None
        screen.table(
            ["unit", "label", "category", "IoU", *(["p"] if sure else [])],
            [
                (u.unit, u.label, u.category, round(u.iou, 4)) + ((u.p_value,) if sure else ())
                for u in best
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

"""``cnnlens stability``: do a layer's units follow an object's parts?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions
from cnnlens.cli.stabilizing import Chosen, Work
from cnnlens.settings import RunSettings, StabilitySettings
from cnnlens.study.workspace import Workspace

S = StabilitySettings()


def stability(
    model: o.ModelArgument = None,
    data: o.DataOption = None,
    layer: o.LayersOption = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only these parts; repeatable. Default: all.", show_default=False
        ),
    ] = None,
    merge_categories: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Take all objects for one category.", show_default=False),
    ] = None,
    negatives: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Images of no category, for the selectivity.", show_default=False
        ),
    ] = None,
    category_by: Annotated[
        str,
        typer.Option(
            metavar="mean|minimum",
            help="A unit's category: of its largest mean activation, or its smallest instability.",
        ),
    ] = S.category,
    quantile: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of a unit's activations above its threshold."),
    ] = S.quantile,
    wide: Annotated[
        float,
        typer.Option(metavar="SHARE", help="A second such share; 0: that of a mean part."),
    ] = S.wide,
    chance: Annotated[
        int,
        typer.Option(metavar="N", help="Shuffles for the chance level and p-values; 0 for none."),
    ] = S.chance,
    top: Annotated[int, typer.Option(metavar="N", help="Top images shown per unit.")] = S.top,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Draw pictures, write the page.")
    ] = True,
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
    """Location instability and part interpretability of every unit, on objects with parts.

    Beside them stand what shuffled, random and central places give, dead units, how far peaks lie
    from the centre, and how well a unit tells its category from others. Tables go to
    WORKSPACE/stability.
    """
    settings = StabilitySettings(quantile, wide, chance, category_by, top if page else 0, seed)
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    work = Work(
        screen,
        space,
        ModelOptions(model, arch, allow_pickle, image_size, mean, std, device),
        settings,
        Chosen(tuple(parts or ()), merge_categories, negatives),
        RunSettings(device, batch_size, workers, seed),
    )
    summaries = work.run(data, layer, page, force)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, summaries, page)


def _show(screen: Screen, space: Workspace, summaries: dict[str, Any], page: bool) -> None:
    rows = []
    for summary in summaries.values():
        base = summary["baselines"]
        rows.append(
            [
                summary["layer"],
                _round(summary["location_instability"]),
                _round(base["shuffled"]),
                _round(base["uniform"]),
                _round(base["centre"]),
                _round(summary["selectivity"], 3),
                _round(summary["centre_distance"]),
                summary["dead_units"],
                summary["units"],
            ]
        )
    columns = ["layer", "instability", "shuffled", "uniform", "centre"]
    screen.table([*columns, "selectivity", "centre distance", "dead", "units"], rows)
    _show_interpretability(screen, summaries)
    screen.say(f"tables: {space.path / 'stability'}")
    if page:
        screen.say(f"page:   {space.path / 'report.html'}")


def _show_interpretability(screen: Screen, summaries: dict[str, Any]) -> None:
    rows = [
        [
            summary["layer"],
            _round(one["quantile"]),
            _round(one["part_interpretability"]),
            _round(one["chance"]),
            _round(one["bound"]),
        ]
        for summary in summaries.values()
        for one in summary["interpretability"]
    ]
    if rows:
        columns = ["layer", "quantile", "part interpretability", "by chance", "at most"]
        screen.table(columns, rows)


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)

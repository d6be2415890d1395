"""``cnnlens deconv``: which pixels of which photos drove a unit."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.options import FiltersOption
from cnnlens.cli.options import ImagesOption
from cnnlens.cli.projecting import Work
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions
from cnnlens.errors import UsageError
from cnnlens.settings import DeconvSettings, RunSettings
from cnnlens.study.workspace import Workspace

D = DeconvSettings()


def deconv(
    model: o.ModelArgument = None,
    filters: FiltersOption = None,
    image: ImagesOption = None,
    data: o.DataOption = None,
    top: Annotated[
        int, typer.Option(min=1, help="Images per unit, by activation, of those in -d.")
    ] = D.top,
    method: Annotated[
        str,
        typer.Option(
            metavar="deconvnet|guided|gradient",
            help="What a rectifier does to the signal on its way back.",
        ),
    ] = D.method,
    whole_map: Annotated[
        bool,
        typer.Option(
            "--whole-map/--peak", help="Project the unit's whole map, or its peak position alone."
        ),
    ] = D.whole_map,
    raw: o.RawOption = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page.")] = True,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    workers: o.WorkersOption = o.RUN.workers,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Project units back to pixels (DeconvNet): on their top images, or on given ones."""
    settings = DeconvSettings(method, top, whole_map)
    if not filters:
        raise UsageError("no units were named", "name some with -f LAYER:UNITS, like -f conv5:0-15")
    if image and data is not None:
        raise UsageError("-i and -d both name images", "give one of them")
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    work = Work(
        screen,
        space,
        ModelOptions(model, arch, allow_pickle, image_size, mean, std, device),
        settings,
        RunSettings(device, batch_size, workers),
        raw,
        force,
    )
    summaries = work.run(filters, image, data)
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, work.names, summaries, page)


def _show(
    screen: Screen,
    space: Workspace,
    names: dict[str, list[str]],
    summaries: dict[str, Any],
    page: bool,
) -> None:
    rows = []
    for name, summary in summaries.items():
        for entry in (e for e in summary["pictures"] if e["file"] in names[name]):
            first = entry["images"][0]
            peak = "dead: " + entry["dead"] if entry["dead"] else round(entry["final"], 4)
            rows.append((name, entry["file"], peak, first["image"]))
    screen.table(["layer", "picture", "activation", "first image"], rows[:40])
    if len(rows) > 40:
        screen.say(f"… and {len(rows) - 40} more in deconv.json")
    screen.say(f"pictures: {space.path / 'deconv'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")

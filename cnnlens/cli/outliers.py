"""``cnnlens outliers``: what images are taken for that belong to none of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.outlying import Work
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions
from cnnlens.errors import UsageError
from cnnlens.settings import OutlierSettings, RunSettings
from cnnlens.study.workspace import Workspace

D = OutlierSettings()


def outliers(
    model: o.ModelArgument = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DIR",
            help="Images that belong to none of the classes, flat or in class subfolders. "
            "Left out: noise alone.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="LAYER",
            help="Where regions and clusters are measured. Default: the workspace's last one, "
            "else last.",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        int, typer.Option(min=0, metavar="N", help="Random images of each kind; 0 for none.")
    ] = D.noise,
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
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """What out-of-sample images and noise are taken for.

    Which class does noise fall to, against the class's bias and its region's radius? Do clusters
    of the workspace's class folders match their categories?
    """
    if data is None and not noise:
        raise UsageError("neither images nor noise were asked for", "name images with -d DIR")
    settings = OutlierSettings(noise, seed)
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    run = RunSettings(device, batch_size, workers, seed)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    document = Work(screen, space, options, settings, run, force).run(data, layer)
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    screen.document(document)
    _show(screen, space, document, page)


def _show(screen: Screen, space: Workspace, document: dict[str, Any], page: bool) -> None:
    rows = [
        (
            one["source"],
            one["images"],
            ", ".join(f"{t['name']} {t['share']:.0%}" for t in one["taken_for"][:3]),
            round(one["confidence"], 3),
        )
        for one in document["sources"]
    ]
    screen.table(["images of", "how many", "taken for", "confidence"], rows)
    if noise := document["noise"]:
        screen.say(
            f"noise falls to {noise['name']} ({noise['share']:.0%}): rank of its bias "
            f"{noise['bias']['rank'] or 'unknown'}, of its radius "
            f"{noise['radius']['rank'] or 'unknown'}, of {noise['classes']}"
        )
    if document["regions"] and (clusters := document["regions"]["clusters"]):
        screen.say(
            f"clusters: purity {clusters['purity']:.0%}; both ways of naming agree on "
            f"{clusters['agreement']:.0%}, right for {clusters['optimal_accuracy']:.0%} (optimal) "
            f"and {clusters['stable_accuracy']:.0%} (stable) of the images"
        )
    screen.say(f"pictures: {space.path / 'outliers'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")

"""``cnnlens invert``: what layers still know of a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.options import ImagesOption
from cnnlens.cli.inverting import Work
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions
from cnnlens.errors import UsageError
from cnnlens.settings import InvertSettings
from cnnlens.study.workspace import Workspace

I = InvertSettings()  # noqa: E741


def invert(
    model: o.ModelArgument = None,
    layer: o.LayersOption = None,
    image: ImagesOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DIR",
            help="Images whose mean distance errors are held against. "
            "Default: the workspace's data, else the given images.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="regularized", help="How the picture is found.")
    ] = I.method,
    perturb: Annotated[
        str,
        typer.Option(
            metavar="none|binarize|dropout|drop-least",
            help="Also invert the layer's answer with signs alone kept, half its values dropped "
            "at random, or half its maps, the least important ones.",
        ),
    ] = I.perturb,
    steps: Annotated[int, typer.Option(help="Passes through the network.")] = I.steps,
    lr: Annotated[float, typer.Option(help="Length of the first step; others follow.")] = I.lr,
    tv: Annotated[
        float, typer.Option(help="Factor on the automatic weight of total variation.")
    ] = I.tv,
    alpha: Annotated[
        float, typer.Option(help="Factor on the automatic weight of the α-norm.")
    ] = I.alpha,
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
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Invert layers: search for the picture that a layer answers as it answered a photo."""
    settings = InvertSettings(method, perturb, steps, lr, tv, alpha, seed)
    if not image:
        raise UsageError("no images were named", "name some with -i IMAGE")
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    work = Work(screen, space, options, settings, batch_size, raw, force)
    try:
        summaries = work.run(layer, image, data)
    except BaseException:
        if work.new:  # what was finished is shown together, also after an interrupt
            work.finish(page)
        raise
    work.finish(page)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, summaries, page)
    if work.failed:
        raise work.failed[0]


def _show(screen: Screen, space: Workspace, summaries: dict[str, Any], page: bool) -> None:
    rows = [
        (
            name,
            entry["name"],
            entry["perturb"],
            *(v if v is None else round(v, 4) for v in entry["errors"].values()),
        )
        for name, summary in summaries.items()
        for entry in summary["pictures"]
    ]
    screen.table(
        ["layer", "image", "perturbed", "feature error", "of mean distance", "pixel RMSE"],
        rows[:40],
        title="inversions",
    )
    if len(rows) > 40:
        screen.say(f"… and {len(rows) - 40} more in invert.json")
    screen.say(f"pictures: {space.path / 'invert'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")

"""``cnnlens demo``: everything once, on a synthetic set, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.pair import compare, finetune, stability
from cnnlens.cli.screen import Screen
from cnnlens.cli.stations import (
    LAYERS,
    MIN_IOU,
    Tour,
    cam,
    cluster,
    deconv,
    dissect,
    draw,
    explain,
    invert,
    train,
    visualize,
)

# in the order of the page
STATIONS = (
    *(draw, train, dissect),
    *(visualize, deconv, cam, invert),
    *(cluster, explain),
    *(finetune, stability, compare),
)


def demo(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder of the demo: data, models, results."),
    ] = Path("cnnlens-demo"),
    images: Annotated[int, typer.Option(min=90, metavar="N", help="Images to dissect on.")] = 600,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Epochs of training.")] = 4,
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.OverwriteOption = False,
) -> None:
    """Show all of it on a synthetic set.

    Draws the set, trains a small CNN on it, dissects it beside its untrained twin, and looks
    closer at its best units, its classes and two pictures; ends with an ordinary and an
    interpretable network side by side. No download, under three minutes on two cores.
    """
    from cnnlens.report.page import write_report

    tour = Tour(Screen(json=json, quiet=quiet), out, images, epochs, seed, force)
    for station in STATIONS:
        station(tour)
    page = write_report(out / "trained")
    tour.screen.document({"page": str(page), **tour.summaries})
    _show(tour.screen, tour.summaries)
    tour.screen.say(f"page: {page}")


def _show(screen: Screen, summaries: dict[str, Any]) -> None:
    rows = [
        (
            layer,
            name,
            s["units"],
            s["detectors"],
            s["chance"]["detectors"],
            s["unique_detectors"],
            s["mean_iou"],
        )
        for layer in LAYERS
        for name, s in ((name, found[layer]) for name, found in summaries.items())
    ]
    columns = [
        "layer",
        "network",
        "units",
        "detectors",
        "by chance",
        "unique detectors",
        "mean IoU",
    ]
    screen.table(columns, rows, title=f"units whose best IoU reaches {MIN_IOU}")

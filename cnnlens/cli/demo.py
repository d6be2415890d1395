"""``cnnlens demo``: everything once, on a synthetic set, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.dissect import Work
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions
from cnnlens.settings import DissectSettings, ExtractSettings, RunSettings
from cnnlens.workspace import Workspace

LAYERS = ("conv1", "conv2", "conv3")
# at the usual 0.04 even untrained filters detect a red figure on white; from here on few do
MIN_IOU = 0.15
_ARCH = "zoo:demo_net"


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

    Draws the set, trains a small CNN on it, and dissects it beside its untrained twin: no
    download, under three minutes on two cores.
    """
    screen = Screen(json, quiet)
    data = _data(screen, out / "shapes", images, seed, force)
    summaries: dict[str, Any] = {}
    for name in ("untrained", "trained"):
        model = _model(screen, out / f"{name}.pt", epochs if name == "trained" else 0, seed, force)
        summaries[name] = _dissected(screen, out / name, model, data, seed, force)
    page = _page(out / "trained", summaries)
    screen.document({"page": str(page), **summaries})
    _show(screen, summaries)
    screen.say(f"page: {page}")


def _data(screen: Screen, folder: Path, images: int, seed: int, force: bool) -> Path:
    from cnnlens.data.synthetic import make_shapes

    if (folder / "index.csv").exists() and not force:
        return folder
    with screen.progress() as bars:
        make_shapes(
            folder,
            images,
            seed=seed + 1,
            progress=lambda done, total: bars.show("drawing shapes", done, total),
            force=force,
        )
    screen.note(f"shapes: {images} images in {folder}")
    return folder


def _model(screen: Screen, path: Path, epochs: int, seed: int, force: bool) -> Path:
    """Build the network, train it (or not), and save it as a checkpoint."""
    if path.exists() and not force:
        return path
    import torch

    from cnnlens import demo as lesson
    from cnnlens.model.checkpoint import save_checkpoint
    from cnnlens.model.zoo import ZOO

    torch.manual_seed(seed)
    entry = ZOO["demo_net"]
    net = entry.make(len(lesson.CLASSES))
    if epochs:
        with screen.progress() as bars:
            for step in lesson.train(net, entry.preprocess, epochs=epochs, seed=seed):
                bars.show("training", step.done, step.total)
    right = lesson.accuracy(net, entry.preprocess)
    screen.note(f"{path.stem}: {right:.1%} of its answers are right")
    save_checkpoint(
        path, net, _ARCH, entry.preprocess, lesson.CLASSES, training={"accuracy": right}
    )
    return path


def _dissected(
    screen: Screen, workspace: Path, model: Path, data: Path, seed: int, force: bool
) -> dict[str, Any]:
    work = Work(
        screen,
        Workspace(workspace, force),
        ModelOptions(str(model)),
        DissectSettings(min_iou=MIN_IOU, seed=seed),
        ExtractSettings(),
        RunSettings(),
    )
    return work.run(False, data, list(LAYERS), page=True, force=force)


def _page(workspace: Path, summaries: dict[str, Any]) -> Path:
    """Put the twin's figures beside the trained network's, and write its page."""
    from cnnlens.files import write_json
    from cnnlens.report.page import write_report

    for layer in LAYERS:
        twin = summaries["untrained"][layer]
        keys = ("detectors", "unique_detectors", "mean_iou")
        summary = {
            **summaries["trained"][layer],
            "twin": {"name": "untrained twin", **{k: twin[k] for k in keys}},
        }
        write_json(workspace / "dissect" / layer / "summary.json", summary)
    return write_report(workspace)


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

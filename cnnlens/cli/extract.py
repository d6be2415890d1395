"""``cnnlens extract``: run the model once, keep what its layers answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.settings import ExtractSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model

DtypeOption = Annotated[
    str,
    typer.Option("--dtype", metavar="float32|float16", help="Type of the stored activations."),
]


def extract(
    model: o.ModelArgument = None,
    data: o.DataOption = None,
    layer: o.LayersOption = None,
    logits: Annotated[
        bool,
        typer.Option(
            "--logits/--no-logits", help="Keep the class scores too, where the model has classes."
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
    """Run the model once; fill activation stores.

    Each layer gets one HDF5 file in WORKSPACE/activations. An interrupted run is resumed by the
    same command.
    """
    from cnnlens.model.classes import gives_scores

    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    settings = ExtractSettings(dtype)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    opened, given = open_model(options, space, screen)
    images = open_images(data, space, ("images", "classes", "broden", "parts"))
    wanted = find_layers(opened, layer, space)
    space.use_model(opened, given, force)
    space.use_data(images, named=data is not None)
    wanted = [space.use_layer(one) for one in wanted]
    space.save()
    run = RunSettings(device, batch_size, workers, seed)
    kept = logits and gives_scores(opened)
    folder = fill_stores(screen, space, opened, images, wanted, settings, run, kept, force)
    space.save(command_line())
    _show(screen, folder, wanted)


def fill_stores(
    screen: Screen,
    space: Workspace,
    model: Model,
    images: ImageSet,
    layers: list[Layer],
    settings: ExtractSettings,
    run: RunSettings,
    logits: bool,
    force: bool,
) -> Path:
    """Make the missing stores, with a progress bar; return their folder."""
    from cnnlens.activations.extract import extract as extract_

    folder = space.stores(images)
    limit = 0
    with screen.progress() as bars:
        steps = extract_(
            model, images, layers, folder, settings=settings, run=run, logits=logits, force=force
        )
        for step in steps:
            bars.show("extracting", step.done, step.total)
            if limit and step.limit < limit:
                screen.note(f"memory ran out: batches of {step.limit} from here on")
            limit = step.limit
    return folder


def _show(screen: Screen, folder: Path, layers: list[Layer]) -> None:
    from cnnlens.activations.extract import store_path
    from cnnlens.activations.store import Store

    found: dict[str, dict[str, Any]] = {}
    for layer in layers:
        path = store_path(folder, layer)
        with Store(path) as store:
            count, units, height, width = store.shape
            found[layer.name] = {
                "layer": layer.name,
                "store": str(path),
                "shape": [count, units, height, width],
                "dtype": store.key.dtype,
                "bytes": path.stat().st_size,
                "raw_float32_bytes": count * units * height * width * 4,
                "skipped": [{"image": p, "reason": r} for p, r in store.skipped],
            }
    for summary in found.values():
        screen.skipped(summary["skipped"])
    screen.document(found[layers[0].name] if len(layers) == 1 else {"layers": found})
    rows = [
        (s["layer"], "×".join(map(str, s["shape"])), f"{s['bytes'] / 1e6:.1f} MB", s["store"])
        for s in found.values()
    ]
    screen.table(["layer", "images × units × height × width", "on disk", "store"], rows)

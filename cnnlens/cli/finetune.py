"""``cnnlens finetune``: train a network further, with or without a method that makes it speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, open_images, open_model
from cnnlens.errors import UsageError
from cnnlens.settings.cgl import CglSettings
from cnnlens.settings.finetune import (
    ICNN_PRESETS,
    TRAINING_PRESETS,
    FinetuneSettings,
    IcnnSettings,
)
from cnnlens.settings.run import preset as of_preset
from cnnlens.study.workspace import Workspace

F, C, G = FinetuneSettings(), IcnnSettings(), CglSettings()
METHODS = ("icnn", "cgl", "none")


def _option(metavar: str, text: str, default: float | str) -> Any:
    """Build an option whose default is the preset's."""
    help_ = f"{text} Default: {default}, or the preset's."
    return typer.Option(metavar=metavar, help=help_, show_default=False)


def finetune(
    model: o.ModelArgument = None,
    data: o.DataOption = None,
    method: Annotated[
        str, typer.Option(metavar="icnn|cgl|none", help="What to train for besides the task.")
    ] = "icnn",
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The checkpoint; FILE.json and FILE.png beside it.")
    ] = Path("new.pt"),
    layer: o.LayersOption = None,
    insert: Annotated[
        bool | None,
        typer.Option(
            "--insert/--no-insert",
            help="Another convolution above the layer. Default: for icnn.",
            show_default=False,
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Tell this category alone from all other images."),
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images that show none of the categories.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="default|paper|shapes",
            help="Weights and rates: ours, the papers', or cgl's synthetic experiment's.",
        ),
    ] = "default",
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the images.")] = F.epochs,
    lr: Annotated[float | None, _option("X", "Highest rate of new layers.", F.lr)] = None,
    trunk: Annotated[
        float | None,
        _option("X", "Factor on it for other layers; 0 freezes them.", F.trunk),
    ] = None,
    optimizer: Annotated[
        str | None,
        _option("adamw|sgd", "The rule of steps.", F.optimizer),
    ] = None,
    schedule: Annotated[
        str, typer.Option(metavar="onecycle|constant|steps", help="Of the rate.")
    ] = F.schedule,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="softmax|logistic",
            help="Of the task. Default: softmax; logistic for one category or with negatives.",
            show_default=False,
        ),
    ] = None,
    weight_decay: Annotated[float | None, _option("X", "Of weights.", F.weight_decay)] = None,
    validation: Annotated[float, typer.Option(metavar="SHARE", help="Images held out.")] = (
        F.validation
    ),
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="Show images mirrored half of the time.")
    ] = F.mirror,
    patience: Annotated[
        int, typer.Option(metavar="N", help="Stop after N epochs without progress; 0: never.")
    ] = F.patience,
    amp: Annotated[bool, typer.Option("--amp", help="Mixed precision.")] = F.amp,
    position: Annotated[
        str, typer.Option(metavar="argmax|centroid", help="icnn: where a map's part is.")
    ] = C.position,
    beta: Annotated[float, typer.Option(metavar="X", help="icnn: fall-off of masks.")] = C.beta,
    learn_beta: Annotated[
        bool, typer.Option("--learn-beta", help="icnn: learn one per filter.")
    ] = C.learn_beta,
    filter_loss: Annotated[
        str | None,
        _option("filter|mi", "icnn: the loss; mi needs no labels.", C.filter_loss),
    ] = None,
    lambda_filter: Annotated[
        float | None,
        _option("X", "icnn: weight of the filter loss, per 64 filters.", C.filter_weight),
    ] = None,
    groups: Annotated[int, typer.Option(metavar="N", help="cgl: groups per layer.")] = G.groups,
    lambda_group: Annotated[
        float | None,
        _option("X", "cgl: weight of the group loss.", G.group_weight),
    ] = None,
    lambda_spatial: Annotated[
        float | None,
        _option("X", "cgl: weight of the spatial loss.", G.spatial_weight),
    ] = None,
    lambda_block: Annotated[
        float | None,
        _option("X", "cgl: weight of the block norm.", G.block_weight),
    ] = None,
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
    force: o.OverwriteOption = False,
) -> None:
    """Train a network further, so that its filters stand for parts or concepts.

    icnn masks a layer's maps and pulls each filter to one part; cgl makes groups of filters look
    at one place; none is the same training without a method, the fair baseline (none --insert for
    icnn). Every other command opens the result. An interrupted run is resumed by the same command;
    torchrun runs it on several processes.
    """
    if method not in METHODS:
        raise UsageError(f"--method {method} is not known", f"choose {', '.join(METHODS)}")
    one = category is not None or negatives is not None
    settings = FinetuneSettings.chosen(
        of_preset(TRAINING_PRESETS, preset),
        epochs=epochs, batch_size=batch_size, lr=lr, trunk=trunk, optimizer=optimizer,
        schedule=schedule, loss=loss or ("logistic" if one else "softmax"),
        weight_decay=weight_decay, validation=validation, mirror=mirror, patience=patience,
        amp=amp, seed=seed,
    )  # fmt: skip
    if one and settings.loss == "softmax":
        raise UsageError("--loss softmax has no place for negatives", "leave it out")
    icnn = IcnnSettings.chosen(
        ICNN_PRESETS.get(preset, {}),
        position=position, beta=beta, learn_beta=learn_beta, filter_weight=lambda_filter,
        filter_loss=filter_loss,
    )  # fmt: skip
    cgl = CglSettings.preset(
        preset,
        groups=groups,
        group_weight=lambda_group,
        spatial_weight=lambda_spatial,
        block_weight=lambda_block,
    )

    rank = _join()
    screen, space = Screen(json=json and not rank, quiet=quiet or rank > 0), Workspace(workspace)
    opened, _ = open_model(
        ModelOptions(model, arch, allow_pickle, image_size, mean, std, device), space, screen
    )
    images = open_images(data, space, ("classes", "parts"))
    others = None if negatives is None else _folder(negatives)
    with screen.progress() as bars:
        from cnnlens.data.labelled import read_labelled

        labelled = read_labelled(
            images, opened.preprocess, negatives=others, category=category,
            batch_size=batch_size, workers=workers,
            progress=lambda done, total: bars.show("reading images", done, total),
        )  # fmt: skip
    screen.skipped([{"image": p, "reason": r} for p, r in labelled.skipped])

    from cnnlens.cli.finetuning import carry_out
    from cnnlens.interpretable.finetune import finetune as prepared

    run = prepared(
        opened, labelled, method, layer or (), insert=insert, settings=settings, icnn=icnn, cgl=cgl
    )
    for line in run.notes:
        screen.note(line)
    document = carry_out(run, out, screen, rank == 0, force)
    screen.document(document)
    _show(screen, document, out)


def _folder(path: Path) -> Any:
    from cnnlens.data.dataset import open_folder

    return open_folder(path)


def _join() -> int:
    """Join the other processes where torchrun started several; return this one's rank."""
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return 0
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("nccl" if cuda else "gloo")
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return dist.get_rank()


def _show(screen: Screen, document: dict[str, Any], out: Path) -> None:
    terms = [k for k in document["history"][-1] if k != "epoch"]
    rows = [[entry["epoch"], *(entry.get(k) for k in terms)] for entry in document["history"]]
    screen.table(["epoch", *terms], rows)
    before, after = (document["accuracy"][k] for k in ("before", "after"))
    was = "" if before is None else f" (before: {before:.3f})"
    screen.say(f"accuracy on images held out: {after:.3f}{was}; {out} opens in every command")

"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnlens.settings import RunSettings

RUN = RunSettings()

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="What to open: a checkpoint (.pt .pth .ckpt .safetensors .pt2), "
        "torchvision:NAME[@WEIGHTS], "
        "timm:NAME, zoo:NAME, file.py:factory or package.module:factory. "
        "Left out: the workspace's model.",
        show_default=False,
    ),
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        help="Folder of this investigation. Default: $CNNLENS_WORKSPACE, else ./cnnlens-out.",
        show_default=False,
    ),
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC", help="Architecture of a bare state dict, where it cannot be inferred."
    ),
]
PickleOption = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Unpickle the file. That can run any code: only for files you trust."
    ),
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="LAYER",
        help="A module path (features.10) or alias (conv5, last); repeatable. "
        "Default: the workspace's last one, else last.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        metavar="DIR",
        help="Images: a flat folder, class subfolders, a Broden-layout folder or a parts dataset; "
        "recognised by what is in it. Default: the workspace's last one that fits.",
        show_default=False,
    ),
]
ImageSizeOption = Annotated[
    str | None,
    typer.Option(
        "--image-size", metavar="H[xW]", help="Input size in pixels, instead of the model's."
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option("--mean", metavar="R,G,B", help="Mean of the pixels, scaled to [0, 1]."),
]
StdOption = Annotated[
    str | None, typer.Option("--std", metavar="R,G,B", help="Standard deviation of the pixels.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda[:N]|mps", help="Where to run.")
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        metavar="N",
        help="Images at once, rounded down to 1, 2, 4 … 32, 64, 96 …; halves itself when "
        "memory runs out.",
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=0, metavar="N", help="Threads that read images.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random.")
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print exactly one JSON document on standard output and nothing else."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress or tables.")]
RawOption = Annotated[
    bool, typer.Option("--raw", help="Also write the arrays behind each picture, as .npz.")
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Redo or overwrite; clear the workspace's results of another model.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--force", help="Redo or overwrite.")]

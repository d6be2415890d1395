"""What the command line takes beside a method's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option


@dataclass(frozen=True)
class CommandSettings(Settings):
    """What the command line takes beside a method's own: each written once."""

    model: str | None = option(
        None,
        "What to open: a checkpoint (.pt .pth .ckpt .tar .th .safetensors .pt2), a folder of "
        "timm's or transformers' hub or of weights in several files, torchvision:NAME[@WEIGHTS], "
        "timm:NAME, zoo:NAME, file.py:factory or package.module:factory. Left out: the "
        "workspace's model.",
        metavar="MODEL",
        argument=True,
    )
    preset: str = option("default", "A paper's settings.", metavar="NAME")
    page: bool = option(True, "Write the page.", panel="Output")
    workspace: Path | None = option(  # noqa: RUF009
        None,
        "Folder of this investigation. Default: $CNNLENS_WORKSPACE, else ./cnnlens-out.",
        short="w",
        metavar="DIR",
        panel="Output",
    )
    json: bool = option(
        False,
        "Print exactly one JSON document on standard output and nothing else.",
        off="-",
        panel="Output",
    )
    quiet: bool = option(False, "No progress or tables.", short="q", off="-", panel="Output")
    force: bool = option(False, "Redo or overwrite.", off="-", panel="Output")

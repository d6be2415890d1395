"""What several methods ask for beside their settings: images, units, layers, data; each option is
written once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.settings.option import option


def images_input() -> Any:
    """``-i``: images named one by one."""
    return option(
        (),
        "An image, or a folder of images; repeatable.",
        name="image",
        short="i",
        metavar="IMAGE",
        panel="What",
    )


def filters_input(help: str = "", shown: str = "") -> Any:
    """``-f``: addresses of units."""
    return option(
        (),
        help
        or "Units of a layer: conv5:12, conv5:0-15, layer4:3,7,9, conv5:all; "
        "at one position: conv5:12@6,6 (row, column); repeatable.",
        name="filter",
        short="f",
        metavar="LAYER:UNITS",
        panel="What",
        shown=shown,
    )


def layers_input(help: str = "", shown: str = "") -> Any:
    """``-l``: any number of layers."""
    return option(
        (),
        help
        or "A module path (features.10) or alias (conv5, last); repeatable. "
        "Default: the workspace's last one, else those that finetune made mean something, else "
        "last.",
        name="layer",
        short="l",
        metavar="LAYER",
        panel="What",
        shown=shown,
    )


def layer_input(help: str) -> Any:
    """``-l``: one layer."""
    return option(None, help, short="l", metavar="LAYER", panel="What")


def data_input(help: str = "") -> Any:
    """``-d``: a data folder."""
    return option(
        None,
        help
        or "Images: a flat folder, class subfolders, a Broden-layout folder or a parts dataset; "
        "recognised by what is in it; also inside a .zip or .tar, WebDataset "
        "shards ('shards-{000..099}.tar'), or at an fsspec address (extra remote). Default: the "
        "workspace's last one that fits.",
        short="d",
        metavar="DIR",
        panel="What",
    )


def negatives_input(help: str) -> Any:
    """``--negatives``: a folder of images of no category."""
    return option(None, help, metavar="DIR", panel="What")


def store_option() -> Any:
    """``--store/--no-store``: whether a method keeps the activations that it looks at."""
    return option(
        True,
        "Keep activations in the workspace, or run the network anew whenever they are looked at: "
        "then nothing is written but results.",
        panel="Output",
    )


def out_input(default: str, help: str, metavar: str = "DIR") -> Any:
    """``--out``: where results go, where that is no workspace."""
    return option(Path(default), help, metavar=metavar, panel="Output")


def raw_input() -> Any:
    """``--raw``: arrays beside pictures."""
    return option(
        False, "Also write the arrays behind each picture, as .npz.", off="-", panel="Output"
    )

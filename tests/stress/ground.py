"""What every case begins with: a network in six kinds of file, images of three kinds, results."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnnlens.data.synthetic import make_kinds, make_shapes
from cnnlens.model.zoo import ZOO
from tests.cli.conftest import SIDE, save_net

from .trial import Running, Words

IMAGES = 12
NET = ("--arch", "zoo:demo_net", "--image-size", SIDE)
QUICK = ("--no-page",)

# what fills the workspace that cases spoil, one command after the other
RESULTS: tuple[Words, ...] = (
    ("dissect", "net.pt", "-d", "shapes", "-l", "conv2", "--chance", 1, *QUICK),
    ("units", "-d", "kinds", "-l", "conv2", *QUICK),
    ("cluster", "-d", "kinds", "-l", "conv2", "--only", "categories", "--bootstrap", 1, *QUICK),
    ("cluster", "-d", "kinds", "-l", "conv2", "--only", "filters", *QUICK),
    ("label", "-d", "kinds", "-l", "conv2", "--chance", 1, *QUICK),
    ("visualize", "-f", "conv1:0,1", "--steps", 2, *QUICK),
    ("deconv", "-f", "conv1:0", "-d", "shapes", "--top", 2, *QUICK),
    ("invert", "-i", "photos/0.png", "-l", "conv1", "--steps", 2, *QUICK),
    ("cam", "-i", "photos/0.png", "--method", "gradcam", *QUICK),
    ("fool", "-i", "photos/0.png", "--target", 1, "--steps", 2, *QUICK),
    ("report",),
)


def write_ground(root: Path) -> Path:
    """Write it all."""
    root.mkdir(parents=True)
    _write_models(root)
    make_shapes(root / "shapes", IMAGES, SIDE)
    make_kinds(root / "kinds", 4, SIDE)
    _write_photos(root / "photos")
    for words in RESULTS:
        done = Running(root, (*words, "-w", "ws")).outcome(limit=600)  # the first one compiles
        assert done.code == 0, (words, done.err)
    return root


def copy_ground(root: Path, place: Path) -> Path:
    """Give a case its own; the workspace there speaks of its own data and network."""
    shutil.copytree(root, place)
    document = place / "ws" / "workspace.json"
    document.write_text(document.read_text().replace(str(root), str(place)))
    return place


def _write_models(root: Path) -> None:
    from safetensors.torch import save_file

    net = save_net(root / "net.pt", 0)
    state = torch.load(net, weights_only=True)["state_dict"]
    torch.save(state, root / "state.pt")
    torch.save({"model": state, "epoch": 3}, root / "training.ckpt")
    torch.save(state, root / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, root / "net.safetensors")
    network = ZOO["demo_net"].make(3).eval()
    network.load_state_dict(state)
    torch.export.save(
        torch.export.export(network, (torch.zeros(1, 3, SIDE, SIDE),)), root / "net.pt2"
    )


def _write_photos(folder: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, end in enumerate(("png", "jpg", "webp", "bmp", "tif", "gif", "png", "jpg")):
        coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((40, 36), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.{end}")

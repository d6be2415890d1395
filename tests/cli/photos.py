"""Photos and small networks for the tests of commands that draw on photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NETS = """
import torch
from torch import nn

def _make(channels, act=nn.ReLU, spoil=None):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 6, 5, 2), act(), nn.Conv2d(6, 4, 5, 2), act(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net[2].bias.data[3] = -1e3  # a dead unit
    if spoil:
        net[2].weight.data[1, 0, 0, 0] = spoil
    return net

def grey(): return _make(1)
def rgb(): return _make(3)
def six(): return _make(6)
def smooth(): return _make(3, nn.SiLU)
def broken(): return _make(3, spoil=float("nan"))
"""


def write_nets(folder: Path) -> Path:
    path = folder / "nets.py"
    path.write_text(NETS)
    return path


def write_photos(folder: Path, damaged: bool = True) -> Path:
    """Photos in two folders; ``a/cat`` and ``b/cat`` share a stem; one is cut short."""
    names = ["a/cat.png", "b/cat.png", *(f"b/{n:02}.png" for n in range(20))]
    for seed, name in enumerate(names):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(folder / name)
    if damaged:
        (folder / "b" / "bad.png").write_bytes((folder / "b" / "00.png").read_bytes()[:200])
    return folder


def write_world(folder: Path) -> Path:
    """Both: the networks and, in ``photos``, the photos."""
    write_nets(folder)
    write_photos(folder / "photos")
    return folder

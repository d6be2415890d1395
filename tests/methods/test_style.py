"""``cnnlens style`` as a user meets it."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.cli.conftest import save_net
from tests.cli.runner import cnnlens


@pytest.fixture
def pictures(tmp_path):
    draw = {"cat.png": (200, 90, 30), "monet.png": (20, 90, 200), "klee.png": (240, 200, 20)}
    for name, colour in draw.items():
        image = Image.new("RGB", (40, 30), colour)
        image.paste((0, 0, 0), (5, 5, 15, 15))
        image.save(tmp_path / name)
    return tmp_path


@pytest.fixture
def run(pictures):
    model = save_net(pictures / "net.pt", 0)

    def call(*more, style="monet.png"):
        return cnnlens(
            "style", model, "--content", pictures / "cat.png", "--style", pictures / style,
            "--steps", 4, "-w", pictures / "ws", *more,
        )  # fmt: skip

    return call


def test_it_writes_pictures_losses_and_its_part_of_the_page(run, pictures):
    answer = run("--json")
    assert answer.code == 0, answer.err
    (entry,) = answer.json["pictures"]
    assert entry["file"] == "cat--monet.png"
    assert entry["style_loss"][1] < entry["style_loss"][0]
    assert entry["content_loss"][0] < 1e-3  # it starts from the content
    folder = pictures / "ws/style"
    assert json.loads((folder / "style.json").read_text()) == answer.json
    with Image.open(folder / "cat--monet.png") as made:
        assert made.size[0] * 30 == pytest.approx(made.size[1] * 40, rel=0.05)
        assert min(made.size) == 24  # the network's input
    page = (pictures / "ws/report.html").read_text()
    assert "Style transfer" in page
    assert str(pictures) not in page
    assert str(pictures) not in (folder / "style.json").read_text()
    assert "evenly spaced" in answer.err


CHANGES = {
    "another style": lambda run, folder: run(style="klee.png"),
    "weights": lambda run, folder: run("--style-weight", 2),
    "steps": lambda run, folder: run("--steps", 5),
    "layers": lambda run, folder: run("--style-layer", "conv1"),
    "size": lambda run, folder: run("--size", 20),
    "the content's pixels": lambda run, folder: (
        Image.new("RGB", (40, 30), "white").save(folder / "cat.png"),
        run(),
    )[1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_made_anew(change, run, pictures):
    assert run().code == 0
    assert "made before" in run().err
    answer = CHANGES[change](run, pictures)
    assert answer.code == 0, answer.err
    assert "made before" not in answer.err


def test_what_is_missing_is_named(run, pictures):
    assert "no style image" in cnnlens("style", "--content", pictures / "cat.png").error
    assert "no content image" in cnnlens("style", "--style", pictures / "cat.png").error
    assert "is a folder" in cnnlens("style", "--content", pictures, "--style", "x.png").error
    (pictures / "cat.png").write_bytes(b"no picture")
    assert "cannot be read" in run().error
    assert "conv9" in run("--style-layer", "conv9").error


def test_layers_that_nobody_named_are_not_the_workspaces(run, pictures):
    ws = pictures / "ws"
    first = cnnlens("units", pictures / "net.pt", "-d", pictures, "-l", "conv1", "-w", ws)
    assert first.code == 0, first.err
    assert run().code == 0
    known = json.loads((ws / "workspace.json").read_text())["layers"]
    assert [entry["name"] for entry in known] == ["conv1"]
    assert run("--style-layer", "conv2").code == 0
    known = json.loads((ws / "workspace.json").read_text())["layers"]
    assert [entry["name"] for entry in known] == ["conv1", "conv2"]


@pytest.mark.parametrize("what", ["content", "style"])
def test_a_picture_of_a_size_that_the_network_does_not_take_is_named(what, pictures):
    (pictures / "nets.py").write_text(FIXED)
    Image.new("RGB", (18, 12), (90, 20, 10)).save(pictures / "wide.png")
    Image.new("RGB", (12, 12), (90, 200, 10)).save(pictures / "square.png")
    given = {"content": "square.png", "style": "square.png", what: "wide.png"}
    words = [word for name, file in given.items() for word in (f"--{name}", pictures / file)]
    net = f"{pictures / 'nets.py'}:make"
    answer = cnnlens("style", net, "--image-size", 12, *words, "-w", pictures / "ws")
    assert answer.code == 1
    assert f"the network does not run on the {what} image at 18×12: " in answer.error
    assert "images of its proportions" in answer.err


FIXED = """
import torch
from torch import nn

class Place(nn.Module):
    def forward(self, x): return x + torch.zeros(1, 4, 12, 12)

def make():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), Place(), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""

"""A transformer, and a network of two heads, from one command to the next."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest
from PIL import Image

from .runner import cnnlens

CODE = """
import torch
from torch import nn
from timm.models.vision_transformer import VisionTransformer

def vit():
    torch.manual_seed(0)
    return VisionTransformer(24, 8, embed_dim=12, depth=2, num_heads=2, reg_tokens=1, num_classes=3)

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 5, 3), nn.Linear(5, 4), nn.Linear(5, 3)
    def forward(self, x):
        x = self.conv(x).relu().mean((2, 3))
        return {"one": self.one(x), "two": self.two(x)}

def two():
    torch.manual_seed(0)
    return Two()

def alike():
    net = two()
    net.one = nn.Linear(5, 3)
    return net
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(CODE)
    return path


def test_a_transformer_goes_through_the_commands(code: Path, shapes: Path, tmp_path: Path) -> None:
    photo = next(shapes.rglob("*.jpg"), None) or next(shapes.rglob("*.png"))
    at = ("-w", tmp_path / "ws", "--device", "cpu")
    listed = cnnlens("layers", f"{code}:vit", "--json", *at)
    assert listed.code == 0, listed.err
    rows = {row["alias"]: row for row in json.loads(listed.out) if row["alias"]}
    assert rows["block2"]["size"] == [3, 3] and rows["block2"]["receptive_field"] is None
    names = {row["name"]: row["vector"] for row in json.loads(listed.out)}
    assert names["block1:cls"] and not names["blocks.0"] and "no receptive field" in listed.err
    layers = ("-l", "last", "-l", "mlp1", "-l", "block1:cls")
    for words in (
        ("extract", "-d", shapes, *layers),
        ("dissect", "-d", shapes, "-l", "last", "--chance", 0),
        ("visualize", "-f", "last:3", "-f", "block1:cls:0", "--steps", 64),
        ("invert", "-l", "block1", "-i", photo, "--steps", 2),
        ("cam", "-i", photo, "--method", "gradcam"),
    ):
        answer = cnnlens(*words, *at)
        assert answer.code == 0, (words, answer.err)
    stores = tmp_path / "ws" / "activations" / "shapes"
    for name, shape in (("last", (12, 3, 3)), ("mlp1", (48, 3, 3)), ("block1_cls", (12, 1, 1))):
        with h5py.File(stores / f"{name}.h5") as file:
            assert file["activations"].shape[1:] == shape
    seen = json.loads((tmp_path / "ws" / "cam" / "cam.json").read_text())
    assert seen["pictures"][0]["layer"] == "block1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("deconv", "-f", "last:1"), "no projection of last: attention"),
        (("cam", "--method", "cam"), "its classes are read from tokens"),
        (("cam", "--method", "gradcam", "-l", "last"), "read nothing of last but its class token"),
    ],
)
def test_what_is_not_defined_says_why(words, said, code, shapes, tmp_path) -> None:
    photo = next(shapes.rglob("*.jpg"), None) or next(shapes.rglob("*.png"))
    command, *rest = words
    answer = cnnlens(command, f"{code}:vit", *rest, "-i", photo, "-w", tmp_path / "ws")
    assert answer.code == 2 and said in answer.err


def test_another_head_is_another_result(code: Path, shapes: Path, tmp_path: Path) -> None:
    """Said, recorded, kept for later commands, and part of what results depend on."""
    photo = next(shapes.rglob("*.jpg"), None) or next(shapes.rglob("*.png"))
    place = tmp_path / "ws"
    cam = ("cam", "-i", photo, "--method", "gradcam", "--top", 9, "-w", place)
    first = cnnlens(*cam[:1], f"{code}:two", *cam[1:])
    assert first.code == 0 and "one is the classes' (--head NAME chooses)" in first.err

    def classes() -> int:
        return len(json.loads((place / "cam" / "cam.json").read_text())["pictures"][0]["classes"])

    assert classes() == 4
    again = cnnlens(*cam, "--head", "two")
    assert again.code == 0, again.err
    assert classes() == 3
    options = json.loads((place / "workspace.json").read_text())["model"]["options"]
    assert options["head"] == "two"
    assert cnnlens(*cam).code == 0 and classes() == 3
    wrong = cnnlens(*cam, "--head", "tow")
    assert wrong.code == 2 and "no output 'tow'" in wrong.err and "two" in wrong.err


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number, name in enumerate(["ant", "bee", "cat"] * 3):
        place = tmp_path / "photos" / name / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((24, 24), 40 + 9 * number).convert("RGB").save(place)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (("outliers", "--noise", 2), "outliers/outliers.json"),
        (("visualize", "--logit", "1", "--steps", 2), "visualize/logits/visualize.json"),
        (("explain", "-l", "conv1", "-i"), "explain/0.json"),
    ],
)
def test_another_head_is_asked_anew(words, file, code: Path, folders: Path, tmp_path: Path) -> None:
    place, spec = tmp_path / "ws", f"{code}:alike"
    if words[0] == "explain":
        words = (*words, folders / "ant" / "0.png")
        extract = cnnlens("extract", spec, "-d", folders, "-l", "conv1", "-w", place, "-q")
        assert extract.code == 0, extract.err
    found = []
    for head in ("one", "two"):
        for _ in range(2):
            answer = cnnlens(words[0], spec, *words[1:], "--head", head, "-w", place)
            assert answer.code == 0, answer.err
            found.append((place / file).read_text())
        assert "(--force redoes " in answer.err
    assert found[0] == found[1] != found[2] == found[3]


def test_finetune_says_that_it_trains_one_output(code, folders, tmp_path) -> None:
    train = (
        "finetune",
        f"{code}:alike",
        "-d",
        folders,
        "--method",
        "none",
        "--out",
        tmp_path / "n.pt",
    )
    for head, said in (("two", "returns several outputs (one, two)"), ("tow", "no output 'tow'")):
        answer = cnnlens(*train, "--head", head, "-w", tmp_path / "ws")
        assert answer.code == 2 and said in answer.error


def test_doctor_says_of_deconv_what_deconv_says(code: Path, tmp_path: Path) -> None:
    answer = cnnlens("doctor", f"{code}:vit", "--json", "-w", tmp_path)
    found = {one["command"]: one for one in answer.json["commands"]}
    refused = cnnlens("deconv", f"{code}:vit", "-f", "last:0", "-i", code, "-w", tmp_path)
    assert refused.code == 2 and found["deconv"]["status"] == "not defined"
    assert "attention" in found["deconv"]["why"] and found["deconv"]["why"] in answer.out
    assert found["visualize"]["status"] != "not defined"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.cli import app
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.open import open_model
from cnnlens.model.zoo import ZOO
from cnnlens.report.figures import attribution

from .photos import write_world
from .runner import cnnlens

SIZE = ["--image-size", "48"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def run(world: Path, space: Path, net: str, *words: object) -> int:
    model = f"{world / 'nets.py'}:{net}"
    return app._run(["cam", model, *SIZE, *map(str, words), "-w", str(space), "--no-page"])


def read(space: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((space / "cam" / "cam.json").read_text())
    return document


def scores(world: Path, net: str, photo: Path) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Maps before the pooling (C, h, w) and scores (K,) of one photo, straight from the network."""
    model = open_model(f"{world / 'nets.py'}:{net}", image_size=(48, 48), device="cpu")
    mode = "L" if model.preprocess.channels == 1 else "RGB"
    with Image.open(photo) as image:
        pixels = model.preprocess.pixels(image.convert(mode), False).copy()
    x = model.preprocess.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    with torch.no_grad():
        return model.net[:4](x)[0], model.net(x)[0], model.net[-1]


@pytest.mark.parametrize("net", ["rgb", "grey", "six"])
def test_raw_map_averages_to_the_score_less_its_bias(world: Path, tmp_path: Path, net: str) -> None:
    photo = world / "photos" / "a" / "cat.png"
    assert run(world, tmp_path, net, "-i", photo, "--class", 2, "--raw") == 0
    maps, logits, head = scores(world, net, photo)
    raw = np.load(tmp_path / "cam" / "cat.npz")
    assert raw["image"].shape == (3, 48, 48) and raw["image"].dtype == np.float32
    assert raw["map"].shape == tuple(maps.shape[1:])
    by_hand = torch.einsum("chw,c->hw", maps, head.weight[2]).numpy()
    assert np.allclose(raw["map"], by_hand, atol=1e-5 * np.abs(by_hand).max())
    assert raw["map"].mean() + float(head.bias[2]) == pytest.approx(float(logits[2]), rel=1e-5)
    (entry,) = read(tmp_path)["pictures"]
    assert (entry["file"], entry["class"], entry["image"]) == ("cat.png", 2, "a/cat.png")
    assert entry["final"] == pytest.approx(float(logits[2]), rel=1e-5)
    probability = float(logits.softmax(0)[2])
    assert entry["classes"][0]["probability"] == pytest.approx(probability, rel=1e-5)


def test_predicted_named_and_top_classes(world: Path, tmp_path: Path) -> None:
    photo = world / "photos" / "b" / "03.png"
    _, logits, _ = scores(world, "rgb", photo)
    order = logits.argsort(descending=True).tolist()
    for words, wanted in (
        ([], order[:1]),
        (["--top", 2], order[:2]),
        (["--top", 99], order),
        (["--class", 1, "--class", 0], [1, 0]),
    ):
        assert run(world, tmp_path, "rgb", "-i", photo, *words) == 0
        (entry,) = read(tmp_path)["pictures"]
        assert [c["class"] for c in entry["classes"]] == wanted


def test_gradcam_on_a_layer_of_ones_choice(world: Path, tmp_path: Path) -> None:
    photo = world / "photos" / "b" / "03.png"
    words = ["-i", photo, "--method", "gradcam", "-l", "conv1", "--raw", "--class", 0]
    assert run(world, tmp_path, "rgb", *words) == 0
    raw = np.load(tmp_path / "cam" / "03.npz")
    assert raw["map"].shape == (22, 22) and raw["map"].min() >= 0
    assert read(tmp_path)["pictures"][0]["layer"] == "conv1"


def test_names_of_classes_come_from_the_network(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(world / "photos" / "a" / "cat.png")
    place = ["-w", str(tmp_path), "--no-page", "--method", "gradcam"]
    torch.manual_seed(0)
    entry = ZOO["demo_net"]
    names = ["red square", "red circle", "blue square"]
    path = tmp_path / "net.pt"
    save_checkpoint(path, entry.make(3), "zoo:demo_net", entry.preprocess, names)
    assert app._run(["cam", str(path), "-i", photo, "--class", "Red Circle", *place]) == 0
    assert read(tmp_path)["pictures"][0]["class"] == 1
    assert read(tmp_path)["pictures"][0]["class_name"] == "red circle"
    assert app._run(["cam", str(path), "-i", photo, "--class", "red cirle", *place]) == 2
    error = capsys.readouterr().err
    assert "no class 'red cirle'" in error and "red circle" in error


def test_several_images_have_pictures_of_their_own(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = world / "photos"
    assert run(world, tmp_path, "rgb", "-i", photos / "a", "-i", photos / "b") == 0
    document = read(tmp_path)
    files = {p["file"] for p in document["pictures"]}
    assert len(files) == 22 and {"a__cat.png", "b__cat.png", "07.png"} <= files
    assert document["skipped"] == [{"image": "b/bad.png", "reason": "truncated"}]
    assert all((tmp_path / "cam" / file).is_file() for file in files)
    assert "skipped" in capsys.readouterr().err


def test_an_interrupted_run_keeps_its_pictures_and_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [w for n in (1, 2, 3) for w in ("-i", world / "photos" / "b" / f"0{n}.png")]
    drawn: list[str] = []
    draw = attribution.draw_classes

    def interrupted(image: Any, maps: Any, classes: Any, title: str, note: str) -> Any:
        drawn.append(title)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(image, maps, classes, title, note)

    monkeypatch.setattr(attribution, "draw_classes", interrupted)
    assert run(world, tmp_path, "rgb", *words) == 130
    assert [p["file"] for p in read(tmp_path)["pictures"]] == ["01.png"]
    assert sorted(p.name for p in (tmp_path / "cam").iterdir()) == ["01.png", "cam.json"]
    assert run(world, tmp_path, "rgb", *words) == 0
    assert drawn == ["01.png", "02.png", "02.png", "03.png"]
    assert run(world, tmp_path, "rgb", *words, "--top", 2) == 0
    assert len(drawn) == 7


def test_json_is_the_summary_file(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = world / "photos" / "a" / "cat.png"
    assert run(world, tmp_path, "rgb", "-i", photo, "--json") == 0
    assert json.loads(capsys.readouterr().out) == read(tmp_path)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "no images were named"),
        (["-i", "gone.png"], 2, "no image gone.png"),
        (["-i", "PHOTOS/b/bad.png"], 1, "bad.png cannot be read: truncated"),
        (["-i", "PHOTOS/a/cat.png", "--class", "dog"], 2, "no class 'dog'"),
        (["-i", "PHOTOS/a/cat.png", "--class", "3"], 2, "no class 3 in the network"),
        (["-i", "PHOTOS/a/cat.png", "-l", "conv1"], 2, "--method gradcam looks at any layer"),
        (["-i", "PHOTOS/a/cat.png", "-l", "conv9"], 2, "no layer 'conv9'"),
        (["-i", "PHOTOS/a/cat.png", "--method", "lime"], 2, "choose cam or gradcam"),
    ],
)
def test_mistakes_are_one_clear_line(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    said: str,
) -> None:
    words = [word.replace("PHOTOS", str(world / "photos")) for word in words]
    assert run(world, tmp_path, "rgb", *words) == status
    assert said in capsys.readouterr().err


def test_a_network_without_such_a_head_is_told_of_gradcam(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world / "flat.py"
    path.write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential("
        "nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 11 * 11, 3))\n"
    )
    words = [*SIZE, "-i", str(world / "photos" / "a" / "cat.png"), "-w", str(tmp_path), "--no-page"]
    assert app._run(["cam", f"{path}:net", *words]) == 2
    assert "--method gradcam" in capsys.readouterr().err
    assert app._run(["cam", f"{path}:net", *words, "--method", "gradcam"]) == 0
    assert read(tmp_path)["pictures"][0]["layer"] == "last"


def test_a_smaller_request_leaves_the_larger_picture(model, shapes, tmp_path):
    """A picture of three classes serves who asks for one of them, not who asks for another."""
    image = shapes / "images/shapes/00000.png"
    words = ("-i", image, "--method", "gradcam", "-w", tmp_path)
    assert cnnlens("cam", model, *words, "--top", 2).code == 0
    picture = next((tmp_path / "cam").glob("*.png"))
    large = picture.read_bytes()
    answer = cnnlens("cam", *words, "--top", 1)
    assert "made before" in answer.err
    assert picture.read_bytes() == large
    assert cnnlens("cam", *words, "--top", 3).code == 0
    assert picture.read_bytes() != large
    assert cnnlens("cam", *words, "--class", "a", "--class", "b").code == 0
    both = picture.read_bytes()
    assert "made before" in cnnlens("cam", *words, "--class", "a").err
    assert picture.read_bytes() == both
    assert cnnlens("cam", *words, "--class", "b", "--json").json["pictures"][0]["class"] == 1
    assert "made before" not in cnnlens("cam", *words, "--class", "c").err


def _touched(image: Path) -> tuple[()]:
    with Image.open(image) as opened:
        pixels = opened.convert("RGB").rotate(180)
    pixels.save(image)
    return ()


CHANGES = {
    "method": lambda image: ("--method", "gradcam"),
    "layer": lambda image: ("--method", "gradcam", "-l", "conv1"),
    "class": lambda image: ("--class", 2),
    "more classes": lambda image: ("--top", 2),
    "the image": _touched,
    "force": lambda image: ("--force",),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_picture_depends_on_makes_it_anew(name: str, world: Path, tmp_path: Path) -> None:
    """Every input of the key but two: another model or preprocessing is the workspace's to refuse,
    and names of classes are told apart in tests/study."""
    image = tmp_path / "photo.png"
    image.write_bytes((world / "photos/a/cat.png").read_bytes())
    words = ("cam", f"{world / 'nets.py'}:rgb", *SIZE, "-i", image, "-w", tmp_path / "ws")
    if name == "layer":
        words = (*words, "--method", "gradcam")
    assert cnnlens(*words, "--no-page").code == 0
    assert "made before" in cnnlens(*words, "--no-page").err
    answer = cnnlens(*words, "--no-page", *CHANGES[name](image))
    assert answer.code == 0, answer.err
    assert "made before" not in answer.err

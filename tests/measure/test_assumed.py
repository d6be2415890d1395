"""An assumed input size beside the images' own: which one is taken, and that it stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlens import Investigation
from cnnlens.data.open import open_data
from cnnlens.measure.assumed import NaturalSize, natural_size
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from tests.cli.runner import cnnlens

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    '''Sure of itself where images are as wide as it likes them; right where `right` says so.'''
    def __init__(self, likes, least=1):
        super().__init__()
        self.conv, self.likes, self.least = nn.Conv2d(3, 3, 1), likes, least
    def forward(self, x):
        if x.shape[-1] < self.least:
            raise RuntimeError("too small")
        colours = self.conv(x).mean((2, 3))
        return colours * (9 if x.shape[-1] == self.likes else 0.1)

def small(): return Net(16)
def large(): return Net(224)
def deep(): return Net(16, least=100)
def plain(): return Net(0)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(CODE)
    rng = np.random.default_rng(0)
    for k in range(6):
        file = tmp_path / "photos" / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(file)
    return tmp_path


def extract(place: Path, net: str, *more: object):
    words = (f"{place / 'nets.py'}:{net}", "-d", place / "photos", "-w", place / "w")
    return cnnlens("extract", *words, "-l", "conv", "--json", *more)


def test_the_images_own_size_is_taken_where_the_network_is_surer(place: Path) -> None:
    answer = extract(place, "small")
    assert answer.json["shape"] == [6, 3, 12, 16]
    assert "photos's images are 12×16, and 224×224 is assumed" in answer.err
    assert "12×16 is taken (--image-size says others)" in answer.err
    document = json.loads((place / "w" / "workspace.json").read_text())
    assert document["model"]["options"]["image_size"] == [12, 16]
    again = cnnlens("extract", "-l", "conv", "-w", place / "w", "--json")
    assert again.json["shape"] == [6, 3, 12, 16] and "is assumed" not in again.err


@pytest.mark.parametrize(
    ("net", "said"), [("large", "--image-size 12x16 takes theirs"), ("deep", "does not run on")]
)
def test_the_assumed_size_stands_where_it_serves_better(place: Path, net: str, said: str) -> None:
    answer = extract(place, net)
    assert answer.json["shape"] == [6, 3, 224, 224] and said in answer.err


def test_what_is_said_is_not_tried(place: Path) -> None:
    answer = extract(place, "small", "--image-size", 20)
    assert answer.json["shape"] == [6, 3, 20, 20] and "is assumed" not in answer.err


def test_images_that_are_as_large_leave_it(place: Path) -> None:
    Image.new("RGB", (300, 12)).save(place / "photos" / "wide.png")
    answer = extract(place, "small")
    assert answer.json["shape"] == [7, 3, 224, 224] and "is assumed" not in answer.err


def test_damaged_images_and_other_sizes_are_no_obstacle(place: Path) -> None:
    (place / "photos" / "0.png").write_bytes(b"no image")
    Image.new("RGB", (9, 9)).save(place / "photos" / "9.png")
    answer = extract(place, "small")
    assert "photos's images are smaller, most often 12×16, and 224×224 is assumed" in answer.err
    assert answer.json["shape"] == [6, 3, 12, 16] and "skipped 0.png" in answer.err


def test_sizes_that_serve_alike_leave_the_assumed_one(place: Path) -> None:
    answer = extract(place, "plain")
    assert answer.json["shape"] == [6, 3, 224, 224]
    assert "--image-size 12x16 takes theirs" in answer.err


def asked(likes: int, rights: tuple[int, int], folder: Path, arch: str) -> NaturalSize | None:
    """Try a network on class folders: right on some of 12 images at 16 wide, some at 224."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            small = x.shape[-1] == 16
            right = rights[0 if small else 1]
            answers = [k // 6 if k < right else 2 for k in range(len(x))]
            sure = 9.0 if x.shape[-1] == likes else 2.0
            return nn.functional.one_hot(torch.tensor(answers), 3) * sure + 0 * self.conv(x).mean()

    model = wrap_module(Net(), Preprocess((224, 224), (0.5,) * 3, (0.2,) * 3), ["a", "b", "c"])
    return natural_size(replace(model, arch=arch), open_data(folder))


@pytest.mark.parametrize(
    ("arch", "rights", "better"),
    [
        ("torchvision:squeezenet1_0", (7, 6), False),  # by luck
        ("torchvision:squeezenet1_0", (12, 0), True),
        ("nets.py:small", (7, 6), True),
    ],
)
def test_published_networks_keep_the_size_they_were_made_for_but_for_right_answers(
    tmp_path: Path, arch: str, rights: tuple[int, int], better: bool
) -> None:
    for k in range(12):
        file = tmp_path / "abc"[k // 6] / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 12)).save(file)
    found = asked(16, rights, tmp_path, arch)
    assert found is not None and found.better is better


@pytest.mark.parametrize(("arch", "better"), [("timm:resnet18", False), ("nets.py:small", True)])
def test_published_networks_are_not_asked_how_sure_they_are(
    place: Path, arch: str, better: bool
) -> None:
    found = asked(16, (12, 12), place / "photos", arch)
    assert found is not None and found.better is better and ("sure" in found.note) is better
    if not better:
        assert found.note == (
            "photos's images are 12×16, and 224×224 is assumed, for which timm:resnet18 was made; "
            "--image-size 12x16 takes theirs"
        )


def test_a_listing_before_and_other_options_do_not_keep_the_size(place: Path) -> None:
    given = ("--mean", "0,0,0", "--std", "1,1,1")
    assert cnnlens("layers", f"{place / 'nets.py'}:small", *given, "-w", place / "w").code == 0
    answer = extract(place, "small", *given)
    assert answer.json["shape"] == [6, 3, 12, 16] and "12×16 is taken" in answer.err


def test_where_results_are_the_size_stays_and_what_fits_is_said_once(place: Path) -> None:
    Image.new("RGB", (300, 300)).save(place / "large.png")
    net = (f"{place / 'nets.py'}:small", "-w", place / "w")
    drawn = cnnlens("deconv", *net, "-f", "conv:0", "-i", place / "large.png", "--no-page")
    assert drawn.code == 0, drawn.err
    answer = extract(place, "small")
    assert answer.json["shape"] == [6, 3, 224, 224]
    assert "--image-size 12x16 takes theirs, with another -w" in answer.err
    assert "takes theirs" not in extract(place, "small").err


def test_right_is_who_calls_the_classes_so(place: Path) -> None:
    """The checkpoint's names count before the order of folders."""
    for k, name in enumerate(("b", "a", "c")):
        (place / "kinds" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), tuple(255 * (k == c) for c in range(3))).save(
            place / "kinds" / name / "0.png"
        )
    code = (
        CODE
        + """
def named():
    net = Net(16)
    net.conv.weight.data[:] = torch.eye(3)[:, :, None, None]
    return net
"""
    )
    (place / "nets.py").write_text(code)
    (place / "names").write_text("b\na\nc\n")
    words = (f"{place / 'nets.py'}:named", "-d", place / "kinds", "-w", place / "w")
    answer = cnnlens("extract", *words, "-l", "conv", "--classes", place / "names")
    assert "right on 3 of 3 at 16×16, right on 3 of 3 at 224×224" in answer.err, answer.err


def test_a_network_in_memory_gets_the_same_proposal(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space: dict[str, Any] = {}
    exec(CODE, space)
    net = space["small"]()
    photos = [np.asarray(Image.open(file)) for file in sorted((place / "photos").iterdir())]
    for data in (photos, place / "photos"):
        lens = Investigation(net, place / f"m{type(data).__name__}")
        assert lens.extract(data=data, layer="conv").shape == (6, 3, 12, 16)
        assert "images are 12×16, and 224×224 is assumed" in capsys.readouterr().err
        assert lens.extract(data=photos[:2], layer="conv").shape == (2, 3, 12, 16)
        assert "is assumed:" not in capsys.readouterr().err
    again = Investigation(net, lens.workspace.path)
    assert again.model.preprocess.size == (12, 16)


def test_what_is_said_of_a_network_in_memory_counts(place: Path) -> None:
    space: dict[str, Any] = {}
    exec(CODE, space)
    net, given = space["small"](), {"image_size": 20, "mean": (0, 0, 0)}
    lens = Investigation(net, place / "m", **given, quiet=True)
    found = lens.extract(data=place / "photos", layer="conv")
    assert found.shape == (6, 3, 20, 20)
    assert lens.model.preprocess.mean == (0, 0, 0)
    again = Investigation(net, lens.workspace.path, quiet=True)
    assert again.model.preprocess.size == (20, 20)


class Numbered(nn.Module):
    """Reads folder N from colours of 20 × N at 16 wide, and says it by output N - 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        numbers = (x.mean((1, 2, 3)) * 255 / 20).round().long() - 1
        answers = numbers if x.shape[-1] == 16 else torch.zeros_like(numbers)
        return 9.0 * nn.functional.one_hot(answers, 12) + 0 * self.conv(x).mean()


@pytest.mark.parametrize("order", [None, "natural", "alphabetical"])
def test_a_size_is_not_judged_by_a_wrong_order_of_classes(
    tmp_path: Path, order: str | None
) -> None:
    """Folders 1 … 12 were read in alphabetical order alone: right on 1 of 12 at both sizes."""
    for number in range(1, 13):
        (tmp_path / str(number)).mkdir()
        Image.new("RGB", (16, 16), (20 * number,) * 3).save(tmp_path / str(number) / "0.png")
    model = wrap_module(Numbered(), Preprocess((224, 224), (0.0,) * 3, (1.0,) * 3))
    found = natural_size(replace(model, arch="nets.py:own"), open_data(tmp_path), order)
    assert found is not None
    if order == "alphabetical":
        assert not found.better
    else:
        assert found.better and "right on 12 of 12 at 16×16" in found.found

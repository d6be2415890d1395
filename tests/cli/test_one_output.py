"""A network of one output has two classes: which, what it is called, and what of it is assumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens import Investigation, Preprocess, UsageError
from cnnlens.report.ablate_files import ablations
from cnnlens.report.blocks import Layer, Text
from cnnlens.report.confusion_files import confusions
from tests.cli.runner import Answer, cnnlens

NET = """
import torch
from torch import nn

def make(outputs=1, sign=1.0):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        net[0].weight[0, 0] = net[0].weight[1, 0] = 1  # two units see how red it is
        net[4].weight[-1, :2] = 20 * sign
        net[4].bias[-1] = -20 * sign
    return net

def wrong(): return make(1, -1.0)
def sure(): return nn.Sequential(*make(), nn.Sigmoid())
def surer():
    net = make(2)
    with torch.no_grad():
        net[4].bias += 60  # both classes are certain, one more so
    return nn.Sequential(*net, nn.Sigmoid())
def sure_wrong(): return nn.Sequential(*wrong(), nn.Sigmoid())
def two(): return make(2)

class ByHand(nn.Sequential):
    def forward(self, x): return 1 / (1 + torch.exp(-super().forward(x)))

def by_hand(): return ByHand(*make())
"""
FEED = ["--image-size", 16, "--mean", "0,0,0", "--std", "1,1,1"]
SAID = "of benign and malignant the second is taken for what it says above 0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that are sure of what is red; malignant images are."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "nets.py").write_text(NET)
    rng, space = np.random.default_rng(0), dict[str, Any]()
    for name, red in (("benign", 40), ("malignant", 210)):
        (folder / "data" / name).mkdir(parents=True)
        for k in range(8):
            plane = np.full((16, 16, 3), 90, np.uint8)
            plane[..., 0] = red + rng.integers(0, 9)
            Image.fromarray(plane).save(folder / "data" / name / f"{k}.png")
    exec(NET, space)
    for name, net, names in (
        ("plain", "make", None), ("wrong", "wrong", None), ("two", "two", ["cat", "dog"]),
        ("named", "make", ["benign", "malignant"]), ("foreign", "make", ["healthy", "ill"]),
    ):  # fmt: skip
        content = {"state_dict": space[net]().state_dict(), **({"classes": names} if names else {})}
        torch.save(content, folder / f"{name}.pt")
    return folder


def run(world: Path, space: Path, command: str, net: str, *words: object) -> Answer:
    make = "two" if net == "two" else "make"
    model = [world / f"{net}.pt", "--arch", f"{world / 'nets.py'}:{make}", *FEED]
    return cnnlens(command, *model, "-w", space, "--no-page", *words)


BOTH = {"benign": 1.0, "malignant": 1.0}  # how well each is told from the other


def told_apart(space: Path) -> dict[str, float]:
    (summary,) = (space / "ablate").rglob("summary.json")
    return {one["class"]: one["accuracy"] for one in json.loads(summary.read_text())["classes"]}


def called(space: Path) -> str:
    (picture,) = json.loads((space / "cam" / "cam.json").read_text())["pictures"]
    return str(picture["class_name"])


def test_of_two_names_in_its_file_it_has_the_second_and_that_is_said(world, tmp_path):
    image = world / "data" / "malignant" / "0.png"
    answer = run(world, tmp_path, "cam", "named", "-i", image)
    assert answer.code == 0 and SAID in answer.err
    assert called(tmp_path) == "malignant"
    answer = run(world, tmp_path, "fool", "named", "-i", image)
    (picture,) = json.loads((tmp_path / "fool" / "fool.json").read_text())["pictures"]
    assert (picture["from"], picture["to"]) == ("malignant", "not malignant")
    assert run(world, tmp_path, "ablate", "named", "-d", world / "data", "-f", "0").code == 0
    assert told_apart(tmp_path) == BOTH


def test_named_after_folders_it_has_the_seconds_name_from_then_on(world, tmp_path):
    answer = run(world, tmp_path, "ablate", "plain", "-d", world / "data", "-f", "0")
    assert answer.code == 0, answer.err
    assert "alphabetical order (its one output says malignant above 0)" in answer.err
    assert told_apart(tmp_path) == BOTH
    image = world / "data" / "benign" / "0.png"
    assert run(world, tmp_path, "cam", "plain", "-i", image).code == 0
    assert called(tmp_path) == "malignant"


def test_behind_a_sigmoid_it_says_the_second_from_one_half_on(world, tmp_path):
    only = ("-d", world / "data", "--only", "confusion", "--no-page", *FEED)
    answer = cnnlens("cluster", f"{world / 'nets.py'}:sure", *only, "-w", tmp_path)
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "cluster" / "confusion.json").read_text())
    assert found["counts"] == [[8, 0, 0], [0, 8, 0]]
    assert found["made_from"]["link"] == "sigmoid"
    answer = cnnlens("cluster", f"{world / 'nets.py'}:surer", *only, "-w", tmp_path / "surer")
    found = json.loads((tmp_path / "surer" / "cluster" / "confusion.json").read_text())
    assert found["counts"] == [[8, 0, 0], [0, 8, 0]]
    wrong = f"{world / 'nets.py'}:sure_wrong"
    answer = cnnlens("cluster", wrong, *only, "-w", tmp_path / "wrong")
    assert "it is right on 0% of 16 images" in answer.error


def test_a_probability_that_no_sigmoid_gave_is_not_read_as_a_score(world, tmp_path):
    one = (world / "plain.pt", "--arch", f"{world / 'nets.py'}:by_hand", "-d", world / "data")
    for command in (("cluster", "--only", "confusion"), ("ablate", "-f", "0")):
        answer = cnnlens(command[0], *one, *FEED, *command[1:], "-w", tmp_path, "--no-page")
        assert answer.code == 2, answer.err
        assert "above 0, it is right on 50% of 16 images, as a probability on 100%" in answer.error


def test_one_that_is_sure_of_the_other_order_is_not_read_so(world, tmp_path):
    answer = run(world, tmp_path, "ablate", "wrong", "-d", world / "data", "-f", "0")
    assert answer.code == 2 and "which output is which class of data is not clear" in answer.error
    words = ["-d", world / "data", "-f", "0", "--classes", tmp_path / "names.txt"]
    (tmp_path / "names.txt").write_text("benign\n")
    answer = run(world, tmp_path / "said", "ablate", "wrong", *words)
    assert answer.code == 0, answer.err
    assert told_apart(tmp_path / "said") == BOTH


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("foreign", "data are not called as the network's (ill): its one output says malignant"),
        ("two", "not called as the network's (cat, dog): read as its outputs in alphabetical"),
    ],
)
def test_folders_that_are_not_called_as_its_classes_are_read_in_an_order_that_is_said(
    net, said, world, tmp_path
):
    answer = run(world, tmp_path, "ablate", net, "-d", world / "data", "-f", "0")
    assert answer.code == 0 and said in answer.err, answer.err
    assert told_apart(tmp_path) == BOTH
    only = ("--only", "confusion")
    assert run(world, tmp_path, "cluster", net, "-d", world / "data", *only).code == 0
    (summary,) = (tmp_path / "ablate").rglob("summary.json")
    confused = tmp_path / "cluster" / "confusion.json"
    for file, section in ((summary, ablations(tmp_path)), (confused, confusions(tmp_path))):
        read = json.loads(file.read_text())["classes_read"]
        assert said in read and f"{read[:1].upper()}{read[1:]}." in texts(section.parts)


def texts(parts: Any) -> list[str]:
    """The sentences of a section, and of its layers."""
    found = [one.text for one in parts if isinstance(one, Text)]
    return found + [text for one in parts if isinstance(one, Layer) for text in texts(one.blocks)]


def test_folders_that_are_called_as_its_classes_are_not_spoken_of(world, tmp_path):
    assert run(world, tmp_path, "ablate", "named", "-d", world / "data", "-f", "0").code == 0
    (summary,) = (tmp_path / "ablate").rglob("summary.json")
    assert "classes_read" not in json.loads(summary.read_text())


def test_a_command_that_reads_folders_by_name_alone_says_no_order(world, tmp_path):
    image = world / "data" / "benign" / "0.png"
    answer = run(world, tmp_path, "explain", "two", "-d", world / "data", "-l", "0", "-i", image)
    assert answer.code == 1 and "no category of the data is called after" in answer.error
    assert "alphabetical" not in answer.err


def test_names_that_are_said_may_be_one_or_two(world, tmp_path):
    image = world / "data" / "malignant" / "0.png"
    for text, known in (("rot\n", "rot"), ("weiss\nrot\n", "rot")):
        (tmp_path / "names.txt").write_text(text)
        words = ("-i", image, "--classes", tmp_path / "names.txt")
        answer = run(world, tmp_path / text[:2], "cam", "plain", *words)
        assert answer.code == 0 and called(tmp_path / text[:2]) == known
        assert ("of weiss and rot the second" in answer.err) == (text == "weiss\nrot\n")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    answer = run(world, tmp_path / "c", "cam", "plain", *words)
    assert answer.code == 2 and "3 names of classes for 1 output" in answer.error


def test_in_python_two_names_of_one_output_are_taken_alike(world, tmp_path):
    space: dict[str, Any] = {}
    exec(NET, space)
    preprocess = Preprocess((16, 16), (0.0,) * 3, (1.0,) * 3)
    lens = Investigation(
        space["make"](), tmp_path, preprocess=preprocess, classes=["benign", "malignant"]
    )
    assert lens.model.classes == ["malignant"]
    with pytest.raises(UsageError, match="3 names of classes for 1 output"):
        _ = Investigation(space["make"](), preprocess=preprocess, classes=list("abc")).model


def test_explanations_of_earlier_versions_which_say_nothing_of_it_are_made_anew(world, tmp_path):
    image = world / "data" / "malignant" / "0.png"
    words = ("-d", world / "data", "-l", "1", "-i", image, "--class", "benign")
    assert run(world, tmp_path, "explain", "named", *words).code == 0
    file = tmp_path / "explain" / "0-benign.json"
    made = json.loads(file.read_text())
    assert made["class_name"] == "malignant"
    earlier = {**made, "class_name": None, "made_from": {**made["made_from"], "verdicts": 2}}
    file.write_text(json.dumps(earlier))
    assert "explained before" not in run(world, tmp_path, "explain", "named", *words).err
    assert json.loads(file.read_text()) == made
    assert "explained before" in run(world, tmp_path, "explain", "named", *words).err

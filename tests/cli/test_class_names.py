"""Class names hold in every command of a workspace, whoever said them; an order is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnlens import Investigation, Preprocess
from cnnlens.data.open import open_data
from cnnlens.errors import UsageError
from cnnlens.measure.accuracy import accuracy
from cnnlens.model.open import open_model

from .runner import Answer, cnnlens

NET = """
from torch import nn

def make(outputs=12):
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, outputs))
"""
SIDE, EACH = 16, 6
FEED = ["--image-size", SIDE, "--mean", "0,0,0", "--std", "1,1,1"]


def paint(folder: Path, names: list[str]) -> torch.Tensor:
    """Folders of one colour each, (N, 3): a channel full where the class's number has that bit."""
    rng, colours = np.random.default_rng(0), []
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for k in range(EACH):
            colour = np.array([40, 110, 180])[[number % 3, number // 3 % 3, number // 9 % 3]]
            plane = np.full((SIDE, SIDE, 3), colour + rng.integers(0, 6, 3), np.uint8)
            Image.fromarray(plane).save(folder / name / f"{k}.png")
            colours.append(plane[0, 0] / 255)
    return torch.tensor(np.stack(colours), dtype=torch.float32)


def train(colours: torch.Tensor, outputs: int) -> dict[str, torch.Tensor]:
    """Learn the folders' numbers in the order in which they were painted."""
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    exec(NET, space)
    net = space["make"](outputs)
    x = colours[:, :, None, None].expand(-1, 3, 4, 4)
    y = torch.arange(outputs).repeat_interleave(EACH)
    adam = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(500):
        adam.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        adam.step()
    assert float((net(x).argmax(1) == y).float().mean()) == 1
    return dict(net.state_dict())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    (folder / "nets.py").write_text(NET)
    numbers = [str(n) for n in range(1, 13)]
    torch.save(train(paint(folder / "numbers", numbers), 12), folder / "numbers.pt")
    kinds = [f"kind {c}" for c in "abcdefghijkl"]
    state = train(paint(folder / "kinds", kinds), 12)
    torch.save(state, folder / "kinds.pt")
    torch.save({"state_dict": state, "class_to_idx": {k: n for n, k in enumerate(kinds)}},
               folder / "named.pt")  # fmt: skip
    return folder


def run(world: Path, space: Path, command: str, net: str, *words: object) -> Answer:
    """Run a command on a network of this world, without a page."""
    model = [world / net, "--arch", f"{world / 'nets.py'}:make", *FEED] if net else []
    page = [] if command in ("finetune", "extract", "layers") else ["--no-page"]
    return cnnlens(command, *model, "-w", space, *page, *words)


def named(space: Path) -> list[Any]:
    (picture,) = json.loads((space / "cam" / "cam.json").read_text())["pictures"]
    return [picture["class_name"], picture["class"]]


def model_of(space: Path) -> Any:
    return json.loads((space / "workspace.json").read_text())["model"]


def test_numbers_are_asked_for_where_their_natural_order_fits(world: Path, tmp_path: Path) -> None:
    two = world / "numbers" / "2" / "0.png"
    data = ["-d", world / "numbers"]
    answer = run(world, tmp_path, "explain", "numbers.pt", *data, "-i", two)
    assert answer.code == 2 and "natural order 100%" in answer.error, answer.err
    assert "--classes natural" in answer.err and not (tmp_path / "explain").exists()
    train = ["--method", "none", "--epochs", 1, "--out", tmp_path / "new.pt"]
    answer = run(world, tmp_path, "finetune", "numbers.pt", *data, *train)
    assert answer.code == 2 and "is not clear" in answer.error
    # who says it is believed, from then on in every command
    words = [*data, "-i", two, "--classes", "natural"]
    answer = run(world, tmp_path, "explain", "numbers.pt", *words)
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "explain" / "0.json").read_text())
    assert found["class_name"] == found["category"] == "2"
    assert model_of(tmp_path)["classes"] == [str(n) for n in range(1, 13)]
    assert run(world, tmp_path, "cam", "", "-i", two).code == 0
    assert named(tmp_path) == ["2", 1]
    answer = run(world, tmp_path, "finetune", "", *data, *train, "--trunk", 1)
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "new.json").read_text())["accuracy"]["before"] == 1


def test_names_of_class_folders_hold_where_their_order_is_borne_out(
    world: Path, tmp_path: Path
) -> None:
    photo = world / "kinds" / "kind c" / "1.png"
    assert run(world, tmp_path, "cam", "kinds.pt", "-i", photo).code == 0
    assert named(tmp_path) == ["2", 2]  # nobody has said more
    assert run(world, tmp_path, "extract", "", "-d", world / "kinds").code == 0
    answer = run(world, tmp_path, "cam", "", "-i", photo, "--class", "Kind C")
    assert answer.code == 0 and "the folders of kinds in alphabetical order" in answer.err
    assert named(tmp_path) == ["kind c", 2]
    assert model_of(tmp_path)["classes_source"] == "the folders of kinds in alphabetical order"
    answer = run(world, tmp_path, "visualize", "", "--logit", "kind c", "--steps", 1)
    assert answer.code == 0 and "as before" in answer.err, answer.err
    answer = run(world, tmp_path, "outliers", "", "--noise", 4)
    assert answer.code == 0, answer.err
    sources = json.loads((tmp_path / "outliers" / "outliers.json").read_text())["sources"]
    assert all(one["name"].startswith("kind ") for s in sources for one in s["taken_for"])


def test_folders_that_the_network_does_not_know_give_no_names(world: Path, tmp_path: Path) -> None:
    photo = world / "numbers" / "2" / "0.png"
    assert run(world, tmp_path, "extract", "numbers.pt", "-d", world / "numbers").code == 0
    answer = run(world, tmp_path, "cam", "", "-i", photo)
    assert answer.code == 0 and "classes without names (--classes says them)" in answer.err
    assert named(tmp_path) == ["1", 1] and model_of(tmp_path)["classes"] is None


def test_names_do_not_depend_on_which_command_came_first(world: Path, tmp_path: Path) -> None:
    """What nothing but chance speaks for is nobody's name, also where a command needs an order."""
    net = [f"{world / 'nets.py'}:make", *FEED]  # random weights
    photo, data = world / "kinds" / "kind c" / "1.png", ["-d", world / "kinds"]
    rest = ["-w", tmp_path, "--no-page"]
    assert cnnlens("units", *net, *data, "-l", "last", *rest).code == 0
    for command in (
        ["outliers", "--noise", 4], ["cluster", "--only", "confusion", *data],
        ["explain", "-i", photo, *data, "-l", "0"],
    ):  # fmt: skip
        answer = cnnlens(*command, *rest)
        assert answer.code == 0, answer.err
        assert "classes without names" in answer.err and "read so here" in answer.err
        assert model_of(tmp_path)["classes"] is None
    document = json.loads((tmp_path / "outliers" / "outliers.json").read_text())
    assert document["classes"] == [str(n) for n in range(12)]
    answer = cnnlens("cam", "-i", photo, *rest)
    assert answer.code == 0 and "classes without names" in answer.err
    assert named(tmp_path)[0].isdecimal()


def test_names_that_change_are_drawn_anew(world: Path, tmp_path: Path) -> None:
    photo = world / "kinds" / "kind b" / "1.png"
    assert run(world, tmp_path, "cam", "named.pt", "-i", photo).code == 0
    assert named(tmp_path) == ["kind b", 1]
    assert model_of(tmp_path)["classes_source"] == "the checkpoint's class_to_idx"
    answer = run(world, tmp_path, "cam", "", "-i", photo)
    assert "1 picture was made before" in answer.err
    file = tmp_path / "names.json"
    file.write_text(json.dumps({str(n): f"sort {n}" for n in range(12)}))
    assert run(world, tmp_path, "cam", "", "-i", photo, "--classes", file).code == 0
    assert named(tmp_path) == ["sort 1", 1]
    file.unlink()  # the names are the workspace's now
    answer = run(world, tmp_path, "cam", "", "-i", photo, "--class", "sort 1")
    assert answer.code == 0 and f"--classes {file}, as before" in answer.err
    data = ["-d", world / "kinds"]
    answer = run(world, tmp_path, "explain", "", "-i", photo, *data)
    assert answer.code == 1 and "called after the predicted class sort 1" in answer.error


def test_explanations_depend_on_the_names(world: Path, tmp_path: Path) -> None:
    photo, data = world / "kinds" / "kind b" / "1.png", ["-d", world / "kinds"]
    assert run(world, tmp_path, "explain", "named.pt", "-i", photo, *data).code == 0
    again = run(world, tmp_path, "explain", "", "-i", photo)
    assert "explained before" in again.err
    file = tmp_path / "names"
    file.write_text("\n".join(f"sort {n}, kind {c}" for n, c in enumerate("abcdefghijkl")))
    other = run(world, tmp_path, "explain", "", "-i", photo, "--classes", file)
    assert other.code == 0 and "explained before" not in other.err
    found = json.loads((tmp_path / "explain" / "1.json").read_text())
    assert (found["class_name"], found["category"]) == ("sort 1, kind b", "kind b")


def test_listing_records_names_that_are_said(world: Path, tmp_path: Path) -> None:
    assert run(world, tmp_path, "extract", "numbers.pt", "-d", world / "numbers").code == 0
    assert run(world, tmp_path, "layers", "", "--classes", "natural").code == 0
    assert model_of(tmp_path)["classes"] == [str(n) for n in range(1, 13)]


def test_accuracy_is_not_taken_in_a_wrong_order(world: Path) -> None:
    model = open_model(
        str(world / "numbers.pt"), arch=f"{world / 'nets.py'}:make",
        image_size=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    with pytest.raises(UsageError, match="natural order 100%"):
        accuracy(model, open_data(world / "numbers"))
    right = accuracy(model.called([str(n) for n in range(1, 13)], "given"),
                     open_data(world / "numbers"))  # fmt: skip
    assert right.value == 1


def test_python_says_names_that_the_command_line_then_knows(world: Path, tmp_path: Path) -> None:
    feed = {"image_size": SIDE, "mean": (0, 0, 0), "std": (1, 1, 1)}
    arch, photo = f"{world / 'nets.py'}:make", world / "kinds" / "kind b" / "1.png"
    names = [f"sort {n}" for n in range(12)]
    lens = Investigation(
        world / "named.pt", tmp_path, classes=names, arch=arch, quiet=True, **feed
    )  # fmt: skip
    lens.cam(image=photo)
    assert named(tmp_path) == ["sort 1", 1] and lens.model.classes == names
    assert run(world, tmp_path, "cam", "", "-i", photo, "--class", "sort 2").code == 0
    assert named(tmp_path) == ["sort 2", 2]
    net = lens.model.net
    pre = Preprocess((SIDE, SIDE), (0.0,) * 3, (1.0,) * 3)
    other = Investigation(net, tmp_path / "o", preprocess=pre, classes="natural", quiet=True)
    other.explain(image=photo, data=world / "kinds")
    assert json.loads((tmp_path / "o" / "explain" / "1.json").read_text())["class_name"] == "kind b"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "nowhere.txt"], "--classes nowhere.txt is no file"),
        (["--classes", "natural"], "no data with as many class folders"),
        (["--classes", "imagenet"], "1000 names of classes for 12 outputs"),
    ],
)
def test_what_gives_no_names_is_said(
    world: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    answer = run(world, tmp_path, "cam", "kinds.pt", "-i", world / "kinds" / "kind b", *words)
    assert answer.code == 2 and said in answer.error

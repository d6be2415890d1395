"""Confusions of cluster, the surest strangers of outliers: what they depend on and show."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnlens.data.dataset import open_folder
from cnnlens.errors import CnnlensError
from cnnlens.methods.cluster import Cluster
from cnnlens.methods.confused import Confused
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.outliers import Outliers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.confusion_files import confusions
from cnnlens.settings import RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

COLOURS = ("blue", "green", "red")


class Brightest(nn.Module):
    """Says which of three colours an image has most of, blue first."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 3, 1, bias=False)
        self.maps.weight.data = torch.eye(3).flip(0)[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(x).mean((2, 3))


def network(classes: list[str] | None = None) -> Model:
    preprocess = Preprocess((8, 8), (0.0,) * 3, (1.0,) * 3)
    net = Brightest().eval().requires_grad_(False)
    return Model(net, "test:colours", "test", preprocess, classes or list(COLOURS), "x")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four of each colour; two of the folder "red" are green, one faintly."""
    for folder, channel in zip(COLOURS, (2, 1, 0), strict=True):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((8, 8, 3), 20 * number, np.uint8)
            wrong = folder == "red" and number < 2
            pixels[..., 1 if wrong else channel] = 200 - 20 * number
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{number}.png")
    return tmp_path / "photos"


def study(tmp_path: Path, model: Model) -> Study:
    found = Study(Workspace(tmp_path / "ws"), run=RunSettings(workers=1))
    found.__dict__["model"] = model
    return found


def confused(tmp_path: Path, photos: Path, model: Model | None = None) -> Confused:
    return Confused(study(tmp_path, model or network()), open_folder(photos), True)


def test_the_matrix_the_tables_and_the_page_say_the_same(tmp_path: Path, photos: Path) -> None:
    one = confused(tmp_path, photos)
    assert not one.made
    list(one.make())
    found = one.document()
    assert found is not None
    assert (found["right"], found["images"], found["chance"]) == (10, 12, 1 / 3)
    assert found["counts"] == [[4, 0, 0, 0], [0, 4, 0, 0], [0, 2, 2, 0]]
    folder = tmp_path / "ws" / "cluster"
    rows = list(csv.DictReader((folder / "errors.csv").open(encoding="utf-8")))
    assert [row["image"] for row in rows] == ["red/0.png", "red/1.png"]  # the surest first
    scores = np.array([0, 200, 0]) / 255
    assert float(rows[0]["probability"]) == pytest.approx(np.exp(scores)[1] / np.exp(scores).sum())
    section = confusions(tmp_path / "ws")
    assert section is not None
    assert "Right on 10 of 12 images" in section.parts[0].text
    shown = [one["picture"] for one in found["worst"]]
    assert all((folder / picture).is_file() for picture in shown) and len(shown) == 2


CHANGES: dict[str, Any] = {
    "an image": lambda photos: Image.new("RGB", (9, 9)).save(photos / "red" / "0.png"),
    "one image fewer": lambda photos: (photos / "red" / "0.png").unlink(),
    "a class": lambda photos: (photos / "red" / "0.png").rename(photos / "blue" / "9.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_images_are_confused_anew(tmp_path: Path, photos: Path, change: Any) -> None:
    list(confused(tmp_path, photos).make())
    assert confused(tmp_path, photos).made
    change(photos)
    assert not confused(tmp_path, photos).made


def test_other_names_of_classes_are_confused_anew(tmp_path: Path, photos: Path) -> None:
    list(confused(tmp_path, photos).make())
    assert not confused(tmp_path, photos, network(["green", "blue", "red"])).made


def test_what_cannot_be_confused_is_said(tmp_path: Path, photos: Path) -> None:
    model = network(["x", "y", "green"])
    with pytest.raises(CnnlensError):
        Confused(study(tmp_path, model), open_folder(photos), True)
    assert Confused(study(tmp_path, model), open_folder(photos), False).why
    with pytest.raises(CnnlensError, match="no two classes"):
        Confused(study(tmp_path, network()), open_folder(photos / "red"), True)


class Told:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tables: list[object] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def table(self, *given: object, **more: object) -> None:
        self.tables.append(given)


def test_only_the_confusion_is_made_where_it_is_asked_for(tmp_path: Path, photos: Path) -> None:
    given = {"data": photos, "only": "confusion", "layer": ("maps",)}
    asked, settings = build(Cluster, given)
    one, told = Cluster(study(tmp_path, network()), asked, settings), Told()
    carry_out(one)
    one.show(told)
    assert told.lines[-1].startswith("confusions: ") and not told.tables  # there is no tree
    made = {path.name for path in (tmp_path / "ws" / "cluster").iterdir()}
    assert {"confusion.json", "confusion.csv", "errors.csv", "confusion"} <= made
    assert not (tmp_path / "ws" / "cluster" / "maps" / "summary.json").exists()


def test_strangers_that_are_of_its_classes_are_no_strangers(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, settings = build(Outliers, {"data": photos, "layer": "maps", "noise": 0})
    for names, known in ((["Red", "x", "blue"], ["blue", "red"]), (["x", "y", "z"], [])):
        one = Outliers(study(tmp_path, network(names)), asked, settings)
        one.study.voice = Voice()
        one.resolve()
        assert one.known == known
        said = capsys.readouterr().err
        assert ("blue, red: folders of" in said) == bool(known) == ("called after classes" in said)


def test_the_strangers_it_is_surest_of_come_first(tmp_path: Path, photos: Path) -> None:
    asked, settings = build(Outliers, {"data": photos, "layer": "maps", "noise": 0})
    carry_out(Outliers(study(tmp_path, network()), asked, settings))
    document = json.loads((tmp_path / "ws" / "outliers" / "outliers.json").read_text())
    found, known = document["surest"], sorted(path.name for path in photos.iterdir())
    assert len(found) == 12 and document["known"] == known
    shares = []
    for one in found:
        pixels = np.asarray(Image.open(photos / one["image"])).mean((0, 1)) / 255  # red first
        scores = np.exp(pixels[::-1])
        assert one["name"] == COLOURS[int(scores.argmax())]
        assert one["probability"] == pytest.approx(scores.max() / scores.sum(), rel=1e-5)
        assert one["source"] == Path(one["image"]).parent.name
        assert (tmp_path / "ws" / "outliers" / one["picture"]).is_file()
        shares.append(one["probability"])
    assert shares == sorted(shares, reverse=True)

"""`cnnlens data import`: what it says, what it writes, and that the rest works on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.mask_sets import box, coco, mask, picture

from .runner import cnnlens, leftovers


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """COCO's layout: twelve photos with a box on each, and one that is not there."""
    root = tmp_path / "set"
    images, annotations = [], []
    for number in range(12):
        picture(root / "val2017" / f"{number}.jpg", (24, 30), seed=number)
        images.append((number, f"{number}.jpg", 24, 30))
        polygon = box(number, 2, 8, 9)
        category = 7 if number % 2 else 1
        annotations.append({"image_id": number, "category_id": category, "segmentation": [polygon]})
    images.append((99, "gone.jpg", 24, 30))
    coco(root / "annotations" / "instances_val2017.json", images, annotations)
    return root


def test_what_is_imported_is_checked_and_dissected(things: Path, model: Path) -> None:
    out = things.parent / "broden"
    answer = cnnlens("data", "import", "coco", things, "--out", out)
    assert answer.code == 0 and answer.out == f"12 images, labels: 2 of object\n{out}\n"
    assert "skipped gone.jpg: missing" in answer.err and "12 masks on 13 images" in answer.err
    checked = cnnlens("data", "check", out)
    assert checked.code == 0 and "12 of 12 checked, no problems" in checked.out
    space = things.parent / "ws"
    answer = cnnlens("dissect", model, "-d", out, "-l", "conv2", "-w", space, "--chance", 0)
    assert answer.code == 0, answer.err
    concepts = (space / "dissect" / "conv2" / "concepts.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in concepts[1:]] == [["cat", "object"], ["cup", "object"]]


def test_json_is_the_summary_file_and_an_earlier_set_stays(things: Path) -> None:
    out = things.parent / "broden"
    answer = cnnlens("data", "import", "coco", things, "--out", out, "--json")
    assert answer.json == json.loads((out / "import.json").read_text())
    assert answer.json["skipped"] == [{"image": "gone.jpg", "reason": "missing"}]
    again = cnnlens("data", "import", "coco", things, "--out", out)
    assert again.code == 1 and "is not empty" in again.error and "--force" in again.err
    forced = cnnlens("data", "import", "coco", things, "--out", out, "--force", "-q", "--link")
    assert forced.code == 0 and forced.out == forced.err == ""
    assert (out / "images" / "val2017" / "0.jpg").samefile(things / "val2017" / "0.jpg")
    assert leftovers(things.parent) == []


def test_mistakes_are_one_line(things: Path, tmp_path: Path) -> None:
    lines = [
        (("voc", things, "--out", tmp_path / "o"), 1, "no JPEGImages and SegmentationClass"),
        (("masks", things, "--out", tmp_path / "o"), 1, "no folder images"),
        (("ade20k", things, "--out", tmp_path / "o"), 1, "neither images and annotations"),
        (("coco", tmp_path / "none", "--out", tmp_path / "o"), 2, "no folder"),
        (("cocoa", things, "--out", tmp_path / "o"), 2, "no kind 'cocoa'"),
        (("coco", things, "--out", things / "o"), 2, "lies in"),
        (("coco", things, "--out", tmp_path / "o", "--names", "x"), 2, "--names is of no use"),
        (("coco", things), 2, "--out"),
    ]
    for words, code, said in lines:
        answer = cnnlens("data", "import", *words)
        assert answer.code == code and said in answer.error
    assert not (tmp_path / "o").exists()


def test_names_of_masks(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "images" / "0.jpg")
    values = np.zeros((24, 32), np.uint8)
    values[:, :9] = 2
    mask(tmp_path / "set" / "masks" / "0.png", values)
    (tmp_path / "names.txt").write_text("leaf\nstem\n")
    words = ("data", "import", "masks", tmp_path / "set", "--names", tmp_path / "names.txt")
    answer = cnnlens(*words, "--out", tmp_path / "o")
    assert answer.code == 0 and "names.txt counts from 1: 1 is leaf" in answer.err
    assert "2,stem,object(1)" in (tmp_path / "o" / "label.csv").read_text()

"""Inputs that change between commands: what the commands and the page say of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.synthetic import make_shapes
from cnnlens.report.dissect_files import read_dissection
from cnnlens.report.states import remarks
from tests.cli.conftest import save_net
from tests.cli.runner import Answer, cnnlens
from tests.methods.test_measurement import blank


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    save_net(folder / "net.pt", 0)
    for name, order in ("wrong", "acb"), ("right", "abc"):
        (folder / f"{name}.txt").write_text("\n".join(order))
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path):
    def call(command: str, *more: object) -> Answer:
        answer = cnnlens(command, place / "net.pt", *more, "-w", tmp_path / "ws")
        assert answer.code == 0, answer.err
        return answer

    return call


def head(space: Path) -> str:
    page = (space / "report.html").read_text(encoding="utf-8")
    return " ".join(page[: page.index('<main id="results"')].split())


def test_corrected_names_of_classes_say_what_bears_the_earlier_ones(run, place, tmp_path) -> None:
    space, photos = tmp_path / "ws", ("-i", place / "one.png", "-i", place / "two.png")
    wrong, right = (("--classes", place / f"{name}.txt") for name in ("wrong", "right"))
    run("visualize", "--logit", "b", "--steps", 2, *wrong, "--no-page")
    run("fool", *photos, "--target", "b", "--steps", 2, "--no-page")
    answer = run("cam", *photos, "--method", "gradcam")
    assert "bear other names" not in answer.err + head(space)
    answer = run("cam", "-i", place / "one.png", "--method", "gradcam", *right)
    words = "bear other names of the classes than are known now: cam (1 of 2), fool and visualize"
    assert answer.err.count(words) == 1
    assert words in head(space)
    page = (space / "report.html").read_text(encoding="utf-8")
    assert page.count(words) == 1 + 3  # on top, and at each of the sections
    run("cam", "-i", place / "one.png", "--method", "gradcam", *wrong, "--no-page")
    assert remarks(space) == []
    quiet = run("cam", "-i", place / "three.png", "--method", "gradcam", *right, "--no-page")
    assert "known now: cam (2 of 3), fool and visualize" in quiet.err


def test_images_and_label_maps_that_change_between_layers_are_said(run, place, tmp_path) -> None:
    space, shapes = tmp_path / "ws", make_shapes(tmp_path / "shapes", 12, 24)
    few = ("-d", shapes, "--chance", 0, "--top", 0)
    run("dissect", *few, "-l", "conv1")
    assert "changed between results" not in run("dissect", *few, "-l", "conv2").err
    assert "changed" not in head(space)
    blank("shapes/images/shapes/00000_color.png")(tmp_path)
    answer = run("dissect", *few, "-l", "conv1")
    words = "labels of shapes changed between results: dissect of conv1 saw one state; dissect of"
    assert words in answer.err and words in head(space)
    blank("shapes/images/shapes/00001.*")(tmp_path)
    run("dissect", *few, "-l", "conv2", "--force")
    assert "The images of shapes changed between results" in head(space)
    run("dissect", *few, "-l", "conv1", "--force")
    assert remarks(space) == [] and "changed" not in head(space)


def test_a_site_says_it_on_its_first_page(run, tmp_path) -> None:
    space, shapes = tmp_path / "ws", make_shapes(tmp_path / "shapes", 12, 24)
    few = ("-d", shapes, "--chance", 0, "--top", 0, "--no-page")
    run("dissect", *few, "-l", "conv1")
    blank("shapes/images/shapes/00001.*")(tmp_path)
    run("dissect", *few, "-l", "conv2")  # which has no store yet
    assert cnnlens("report", "-w", space, "--site", tmp_path / "site").code == 0
    for name in ("index.html", "report.html"):
        assert "images of shapes changed between" in (tmp_path / "site" / name).read_text()


def test_pictures_stand_beside_the_labels_and_the_best_images_of_now(run, tmp_path) -> None:
    space, shapes = tmp_path / "ws", make_shapes(tmp_path / "shapes", 12, 24)
    few = ("-d", shapes, "--chance", 0, "--top", 0, "--min-iou", 0.01, "--no-page")
    run("dissect", *few, "-l", "conv2")
    table = space / "dissect/conv2/units.csv"
    found = [u.unit for u in read_dissection(table.parent).best(4)]
    units = ",".join(map(str, found[:3]))
    run("visualize", "-f", f"conv2:{units}", "--steps", 8, "--no-page")
    file = space / "visualize/conv2/visualize.json"
    document = json.loads(file.read_text())
    known = {e["unit"]: e["label"] for e in document["pictures"]}
    assert all(e["best_of"]["name"] == "shapes" for e in document["pictures"])
    unit = next(iter(known))
    table.write_text(
        re.sub(rf"(?m)^({unit},[^,]*),{known[unit]},", r"\1,sweater,", table.read_text())
    )
    assert cnnlens("report", "-w", space).code == 0
    page = (space / "report.html").read_text(encoding="utf-8")
    gallery = page[page.index('id="visualize"') :]
    assert "sweater" in gallery[: gallery.index("</section>")]
    assert f"pictures of unit {unit} of conv2 bear labels of an earlier dissect" in page.lower()
    blank("shapes/images/shapes/00001.*")(tmp_path)
    answer = run("visualize", "-f", f"conv2:{found[3]}", "--steps", 8, "--no-page")
    assert "those of shapes have changed since they were stored (cnnlens extract -l conv2" in (
        answer.err
    )
    entries = {e["unit"]: e for e in json.loads(file.read_text())["pictures"]}
    assert "times_best" not in entries[found[3]] and "times_best" in entries[unit]

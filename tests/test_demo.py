from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from cnnlens.cli import demo
from cnnlens.cli.app import _run
from cnnlens.cli.demo import Tour
from cnnlens.cli.screen import Screen
from cnnlens.files.tables import read_csv
from cnnlens.interpretable import demo_net
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from tests.documented import undocumented, unkept

pytestmark = pytest.mark.timeout(900)  # all of the demo runs once, for the first test that asks

SMALL = Preprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


def test_training_is_the_same_for_a_seed_and_leaves_the_network_in_evaluation_mode():
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        net = ZOO["demo_net"].make(9)
        steps = list(demo_net.train(net, SMALL, images=50, epochs=1, seed=5))
        nets.append(net)
    assert [step.done for step in steps] == [1, 2]
    assert not net.training
    for name, value in nets[0].state_dict().items():
        assert torch.equal(value, nets[1].state_dict()[name])


def test_pictures_say_which_of_the_nine_kinds_they_show():
    pixels, shown = demo_net.pictures(45, 64, seed=0)
    assert pixels.shape == (45, 3, 64, 64)
    assert set(shown.sum(dim=1).tolist()) == {1.0, 2.0}  # two figures, of one kind or of two
    red = torch.tensor([name.startswith("red") for name in demo_net.CLASSES])
    reddish = (pixels[:, 0] > 120) & (pixels[:, 1] < 50)  # (45, 64, 64)
    assert torch.equal(reddish.any(dim=2).any(dim=1), shown[:, red].any(dim=1))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo's one document, after the whole of it has run, on less than users are shown."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    words = ["demo", "--out", str(out), "--images", "90", "--epochs", "2", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            demo,
            "_STEPS",
            {"visualize": 8, "invert": 8, "fool": 8, "net2vec": 3, "upconv": 1, "generator": 3},
        )
        assert _run(words, debug=True) == 0
    layers = {}
    for name in ("trained", "untrained"):
        folder = out / name / "dissect"
        layers[name] = {
            path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/summary.json")
        }
    return out, layers


def test_the_trained_network_beats_its_untrained_twin_clearly(shown):
    _, layers = shown
    for layer in ("conv2", "conv3"):
        trained, twin = layers["trained"][layer], layers["untrained"][layer]
        assert trained["detectors"] > 2 * twin["detectors"]
        assert trained["mean_iou"] > 1.5 * twin["mean_iou"]
        assert trained["unique_detectors"] > twin["unique_detectors"]


def test_what_an_earlier_run_has_left_is_said_to_be_its_own(tmp_path, capsys):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "trained-epochs").mkdir()
    for name in ("shapes/index.csv", "untrained.pt", "trained.pt", "icnn.pt", "icnn.json"):
        (tmp_path / name).touch()
    tour = Tour(Screen(), tmp_path, seed=1, images=500, epochs=9)
    demo.draw(tour)
    demo.train(tour)
    demo._finetune(tour, "icnn", "animals.pt")
    said = " ".join(capsys.readouterr().err.split())
    assert "shapes: as an earlier run drew it (--force draws it anew)" in said
    for name in ("untrained", "trained", "icnn"):
        assert f"{name}: as an earlier run trained it (--force trains it anew)" in said


def test_the_page_shows_both(shown):
    out, layers = shown
    page = (out / "trained" / "report.html").read_text()
    assert "untrained twin" in page
    twin = layers["trained"]["conv3"]["twin"]
    assert twin["detectors"] == layers["untrained"]["conv3"]["detectors"]


def test_the_page_shows_what_its_best_units_want_to_see_and_what_drove_them(shown):
    out, _ = shown
    page = (out / "trained" / "report.html").read_text()
    sections = re.findall(r'<section id="(\w+)"', page)
    looks = [
        "dissect",
        "net2vec",
        "label",
        "exam",
        "ablate",
        "visualize",
        "deconv",
        "evolve",
        "cam",
        "invert",
        "fool",
    ]
    assert sections == ["units", *looks, "categories", "filters", "explain", "compare"]
    at_unit = json.loads(re.search(r'id="at-unit">(.*?)</script>', page)[1])
    titles: dict[int, set[str]] = {}
    for entry in at_unit:
        if entry["layer"] == "conv3":
            titles.setdefault(entry["unit"], set()).add(entry["title"])
    assert len(titles) == 6
    looked = {"What it wants to see", "What drove it", "How it came about"}
    assert all(found == looked for found in titles.values())
    pictures = out / "trained" / "invert" / "conv3" / "pictures"
    assert len(list(pictures.glob("*.png"))) == 2


def test_in_a_hurry_it_leaves_out_what_is_slow_and_says_so(shown, tmp_path, capsys):
    out = tmp_path / "demo"  # networks, data and pictures are there: only what is asked is seen
    shutil.copytree(shown[0], out)
    late = (
        "net2vec", "label", "exam", "ablate", "evolve", "invert", "cluster", "explain", "compare",
    )  # fmt: skip
    for name in late:
        shutil.rmtree(out / "trained" / name)
    words = ["demo", "--quick", "--out", str(out), "--images", "90", "--epochs", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_STEPS", {"visualize": 16, "fool": 8})  # half of them
        assert _run(words, debug=True) == 0
    assert not any((out / "trained" / name).exists() for name in late)
    page = (out / "trained" / "report.html").read_text()
    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections == ["units", "dissect", "visualize", "deconv", "cam", "fool"]
    assert "left out: combinations of units" in capsys.readouterr().err


def test_all_that_it_leaves_stands_in_the_documentation(shown):
    for file in shown[0].rglob("workspace.json"):
        assert undocumented(file.parent) == unkept(file.parent) == []


def test_units_that_are_looked_at_detect_different_concepts(shown):
    out, _ = shown
    tour = Tour(Screen(quiet=True), out, images=90)
    rows = read_csv(out / "trained" / "dissect" / "conv3" / "units.csv")
    assert len({rows[unit]["label"] for unit in tour.detectors}) == len(tour.detectors) == 6


def test_classes_are_drawn_by_a_generator_beside_photos(shown):
    folder = shown[0] / "trained" / "visualize"
    found = json.loads((folder / "logits" / "visualize.json").read_text())["pictures"]
    near = [one for one in found if one.get("nearest")]
    assert (folder / "generator.pt").is_file() and len(found) == 6 and len(near) == 3


def test_the_page_ends_with_an_ordinary_and_an_interpretable_network(shown):
    out, _ = shown
    page = (out / "trained" / "report.html").read_text()
    assert "Side by side:" in page and "ordinary · interpretable" in page
    one, other = (
        json.loads((out / name / "stability" / "relu4" / "summary.json").read_text())
        for name in ("ordinary", "interpretable")
    )
    # what counts as success: the first alone would prove nothing
    assert other["location_instability"] < 0.9 * one["location_instability"]
    assert other["selectivity"] > one["selectivity"] + 0.02
    assert other["centre_distance"] > one["centre_distance"] - 0.005
    assert other["dead_units"] <= one["dead_units"]
    before, after = (
        json.loads((out / f"{name}.json").read_text())["accuracy"]["after"]
        for name in ("ordinary", "interpretable")
    )
    assert after > before - 0.05  # 225 images: the interval is as wide
    assert one["location_instability"] < one["baselines"]["shuffled"]


def test_nothing_to_share_names_a_folder_of_this_machine(shown, tmp_path):
    out = tmp_path / "demo"  # others look at what the tour itself has left
    shutil.copytree(shown[0], out)
    photo = str(out / "shapes/images/shapes/00003.png")
    model = str(out / "trained.pt")
    for words in (
        ["units", model, "-d", str(out / "kinds"), "-l", "conv3", "--no-page"],
        ["outliers", model, "-d", str(out / "kinds"), "-l", "conv3", "--no-page"],
        ["deconv", model, "-f", "conv3:1", "-i", photo, "--no-page"],
        ["cam", model, "-i", photo, "--method", "gradcam", "--no-page"],
        ["fool", model, "-i", photo, "--steps", "2", "--no-page"],
        ["style", model, "--content", photo, "--style", photo, "--steps", "2", "--no-page"],
        ["report"],  # once, over all of it
        ["report", "--site", str(out / "site")],
    ):
        assert _run([*words, "-w", str(out / "trained"), "-q"], debug=True) == 0
    texts = ("*.html", "*.json", "*.csv", "*.svg", "*.js", "*.css", "*.nwk", "*.txt")
    files = {path for pattern in texts for path in out.rglob(pattern)}
    files -= set(out.rglob("workspace.json"))  # which opens model and data again
    assert {"compare.json", "cam.json", "outliers.json"} <= {path.name for path in files}
    assert out / "site/index.html" in files
    for path in files:
        text = path.read_text("utf-8")
        for folder in (out, shown[0], out.resolve(), Path.home(), Path.cwd()):
            assert f"{folder}/" not in text, path

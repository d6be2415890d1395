from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.data.open import open_data
from cnnlens.errors import UsageError
from cnnlens.model.zoo import ZOO
from cnnlens.study.investigation import Investigation
from tests.report.fake_workspace import make_layer, make_workspace

from .runner import cnnlens, files


@pytest.fixture
def pair(tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    paths = []
    for seed, name in enumerate(("plain", "icnn")):
        paths.append(make_workspace(tmp_path / name, {}))
        make_layer(paths[-1] / "dissect" / "conv5", 20, seed)
    return paths


def test_the_table_the_document_and_the_page_agree(pair):
    said = cnnlens("compare", *pair)
    assert said.code == 0
    assert "page: cnnlens-compare/compare.html" in said.out
    document = json.loads(Path("cnnlens-compare/compare.json").read_text())
    value = document["layers"]["conv5"]["detectors"]["values"][1]
    assert f"{value['value']:.0f} ({value['interval'][0]:.0f} to" in said.out
    assert cnnlens("compare", *pair, "--json").json == document


def test_out_says_where_to(pair, tmp_path):
    assert cnnlens("compare", *pair, "--out", tmp_path / "there", "-q").code == 0
    assert {p.name for p in (tmp_path / "there").iterdir()} == {
        "compare.html", "compare.json", "compare.csv",
    }  # fmt: skip


def test_filters_choose_the_units_on_the_page(pair):
    assert cnnlens("compare", *pair, "-f", "conv5:3,7", "-q").code == 0
    page = Path("cnnlens-compare/compare.html").read_text()
    assert "unit 3<" in page and "unit 7<" in page
    assert cnnlens("compare", *pair, "-f", "conv5:99").code == 2
    assert "no layer 'conv4' is compared" in cnnlens("compare", *pair, "-f", "conv4:1").error


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], 2, "nowhere does not exist"),
        (["plain"], 2, "named twice"),
        ([], 2, "needs two"),
        (["icnn", "-l", "conv9"], 2, "no measured layer 'conv9'"),
        (["icnn", "--level", "2"], 2, "--level 2.0"),
        (["icnn", "-d", "nix"], 2, "no folder nix"),
    ],
)
def test_wrong_usage_is_one_line(pair, words, code, message):
    said = cnnlens("compare", "plain", *words)
    assert said.code == code
    assert message in said.error
    assert not Path("cnnlens-compare").exists()


def test_a_damaged_summary_is_named_and_left(pair):
    file = pair[1] / "dissect/conv5/summary.json"
    file.write_text("{")
    said = cnnlens("compare", *pair)
    assert said.code == 1 and "icnn/dissect/conv5/summary.json" in said.error
    assert file.read_text() == "{"


def test_other_data_is_refused_and_with_force_said(pair):
    file = pair[1] / "dissect/conv5/summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data": "other"}))
    said = cnnlens("compare", *pair)
    assert said.code == 1 and "on other in icnn" in said.error
    said = cnnlens("compare", *pair, "--force")
    assert said.code == 0 and "on other in icnn" in said.err
    assert "Not measured alike" in Path("cnnlens-compare/compare.html").read_text()


def test_accuracy_is_measured_on_named_data(pair, tmp_path):
    make_classes(tmp_path / "photos")
    know_network(pair)
    said = cnnlens("compare", *pair, "-d", tmp_path / "photos", "--json").json
    one, other = (who["accuracy"] for who in said["workspaces"])
    assert one == other
    assert (one["images"], one["chance"]) == (12, 0.5)
    assert one["value"] in np.arange(13) / 12
    assert one["interval"][0] <= one["value"] <= one["interval"][1]


def test_accuracy_on_data_of_a_training_is_that_on_what_all_trainings_held_out(pair, tmp_path):
    photos, unseen, kept = tmp_path / "photos", tmp_path / "unseen", ((0, 2, 5, 7), (2, 5, 7, 11))
    make_classes(photos)
    images = open_data(photos)
    for seed, (path, rows) in enumerate(zip(pair, kept, strict=True)):
        torch.manual_seed(seed)
        torch.save(ZOO["shapes_net"].make(2).state_dict(), path.with_suffix(".pt"))
        held = {"data": images.fingerprint, "images": list(rows)}
        path.with_suffix(".json").write_text(json.dumps({"method": "none", "held_out": held}))
        know_network([path], str(path.with_suffix(".pt")))
    for row in (2, 5, 7):  # by hand: the images that both have held out
        file = unseen / images.paths[row]
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images.file(row), file)
    found = {}
    for name, words in {
        "own": (photos,),
        "alone": (unseen,),
        "all": (photos, "--held-out", "all"),
    }.items():
        said = cnnlens("compare", *pair, "-d", *words, "--json")
        assert ("accuracy: 3 of 12 images, which fine-tuning held out" in said.err) == (
            name == "own"
        )
        found[name] = [who["accuracy"] for who in said.json["workspaces"]]
    assert [one["images"] for one in found["own"]] == [3, 3]
    assert [one["images"] for one in found["all"]] == [12, 12]
    for one, other in zip(found["own"], found["alone"], strict=True):
        assert {**one, "source": "", "held_out": 0} == {**other, "source": "", "held_out": 0}
    assert "photos held out of training" in _spaced(pair, photos)


@pytest.mark.parametrize("held", [None, {}, {"data": 3}, {"data": "x", "images": ["a"]}])
def test_a_training_that_does_not_say_what_it_held_out_is_warned_of(pair, tmp_path, held):
    make_classes(tmp_path / "photos")
    for path in pair:
        torch.save(ZOO["shapes_net"].make(2).state_dict(), path.with_suffix(".pt"))
        know_network([path], str(path.with_suffix(".pt")))
    pair[1].with_suffix(".json").write_text(json.dumps({"method": "none", "held_out": held}))
    said = cnnlens("compare", *pair, "-d", tmp_path / "photos")
    assert said.code == 0, said.err
    assert "which images icnn was trained on is not recorded: its accuracy may" in said.err
    assert "which images plain was trained on" not in said.err
    assert "its accuracy may" not in cnnlens("compare", *pair).err  # none is measured


def _spaced(pair: list[Path], photos: Path) -> str:
    assert cnnlens("compare", *pair, "-d", photos, "-q").code == 0
    return " ".join(Path("cnnlens-compare/compare.html").read_text().split())


def test_names_of_classes_that_are_said_hold_for_every_workspace_and_change_none(pair, tmp_path):
    make_classes(tmp_path / "photos")
    know_network(pair)
    (tmp_path / "photos" / "c1" / "1.png").unlink()
    before = [files(path) for path in pair]
    found = {}
    remarks, foreign = {}, "the classes of photos are not called as the network's"
    for names in ("c0 c1", "c1 c0", "natural", "cat dog"):
        (tmp_path / names).write_text(names.replace(" ", "\n"))
        said = names if names == "natural" else tmp_path / names
        words = ("-d", tmp_path / "photos", "--classes", said, "--json")
        document = cnnlens("compare", *pair, *words).json
        (found[names],) = {who["accuracy"]["value"] for who in document["workspaces"]}
        remarks[names] = [line for line in document["remarks"] if foreign in line]
    assert found["natural"] == found["c0 c1"] == pytest.approx(1 - found["c1 c0"])
    assert found["cat dog"] == found["c0 c1"]
    (read,) = remarks.pop("cat dog")  # one line of both workspaces
    assert read.endswith("(cat, dog): read as its outputs in alphabetical order")
    assert not any(remarks.values())
    assert found["c0 c1"] != found["c1 c0"]
    assert [files(path) for path in pair] == before
    said = cnnlens("compare", *pair, "--classes", "natural")
    assert said.code == 2 and "held against" in said.error


def test_units_need_a_layer_units_and_no_position(pair):
    assert "'conv5' names no units" in cnnlens("compare", *pair, "-f", "conv5").error
    assert "'conv5:3@1,1' names a position" in cnnlens("compare", *pair, "-f", "conv5:3@1,1").error


def test_nothing_says_which_machine_it_was_made_on(pair, tmp_path):
    known = json.loads((pair[0] / "workspace.json").read_text())
    known["model"] = {"spec": str(tmp_path / "nets" / "net.pt"), "fingerprint": "x"}
    (pair[0] / "workspace.json").write_text(json.dumps(known))
    out = pair[0] / "compare"
    assert cnnlens("compare", *pair, "--out", out, "-q").code == 0
    text = (out / "compare.json").read_text()
    assert str(tmp_path) not in text + (out / "compare.html").read_text()
    assert json.loads(text)["workspaces"][0]["model"] == "nets/net.pt"
    assert cnnlens("report", "-w", pair[0]).code == 0
    assert "Side by side" in (pair[0] / "report.html").read_text()  # found from where it lies


def test_the_workspaces_stay_as_they_are(pair):
    before = [files(path) for path in pair]
    assert cnnlens("compare", *pair, "-q").code == 0
    assert [files(path) for path in pair] == before


def test_what_was_not_measured_alike_is_refused_before_anything_is_measured(pair, tmp_path):
    make_classes(tmp_path / "photos")
    know_network(pair)
    file = pair[1] / "dissect/conv5/summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data": "other"}))
    said = cnnlens("compare", *pair, "-d", tmp_path / "photos")
    assert said.code == 1 and "on other in icnn" in said.error
    assert "input 64×64" not in said.err  # no network was opened


def test_data_without_classes_and_a_workspace_without_a_model_are_refused(pair, tmp_path):
    make_classes(tmp_path / "photos")
    know_network(pair)
    know_network(pair[1:], None)
    said = cnnlens("compare", *pair, "-d", tmp_path / "photos")
    assert said.code == 1 and "icnn knows no model to measure" in said.error
    said = cnnlens("compare", *pair, "-d", tmp_path / "photos" / "c0")
    assert said.code == 2 and "has no classes" in said.error
    assert not Path("cnnlens-compare").exists()


def make_classes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        file = folder / f"c{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(file)


def know_network(pair: list[Path], spec: str | None = "zoo:shapes_net") -> None:
    for path in pair:
        document = json.loads((path / "workspace.json").read_text())
        document["model"] = {"spec": spec, "fingerprint": "x"} if spec else None
        (path / "workspace.json").write_text(json.dumps(document))


def test_it_is_a_method_of_an_investigation_too(pair, tmp_path):
    lens = Investigation(workspace=pair[0], quiet=True)
    found = lens.compare(pair[1], layer="conv5", out=tmp_path / "there", resamples=200)
    document = json.loads((tmp_path / "there" / "compare.json").read_text())
    assert found["conv5"] == document["layers"]["conv5"]
    rows = found.table()
    assert {row["workspace"] for row in rows} == {"plain", "icnn"}
    detectors = next(row for row in rows if row["quantity"] == "detectors")
    assert repr(found) == "Comparison(plain and icnn; conv5)"
    assert f"<b>{detectors['value']:.0f}" in found._repr_html_()
    assert lens.compare(others=pair[1:], out=tmp_path / "again").table()
    with pytest.raises(UsageError, match="keywords alone"):
        lens.cam("photo.png")

"""``cnnlens fool`` as a user meets it."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from cnnlens.methods.fool import Fool
from cnnlens.methods.method import build
from cnnlens.report.states import renamed
from cnnlens.settings.run import ModelSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.synthesize import fooled
from cnnlens.voice import Voice
from tests.cli.conftest import save_net
from tests.cli.runner import cnnlens


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fool")
    save_net(folder / "net.pt", 0)
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name in ("cat", "dog", "owl"):
        pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png")
    return folder


@pytest.fixture
def run(place, tmp_path):
    def call(*more, images=(place / "photos",)):
        given = [word for image in images for word in ("-i", image)]
        words = ("-w", tmp_path / "ws", *more, *(() if "--steps" in more else ("--steps", 8)))
        return cnnlens("fool", place / "net.pt", *given, *words)

    return call


def test_it_writes_changes_maps_a_curve_and_its_part_of_the_page(run, tmp_path, place):
    answer = run("--json", "-l", "conv2", "--raw", "--maps", 2)
    assert answer.code == 0, answer.err
    folder = tmp_path / "ws/fool"
    assert json.loads((folder / "fool.json").read_text()) == answer.json
    entries = answer.json["pictures"]
    assert [entry["file"] for entry in entries] == ["cat.png", "dog.png", "owl.png"]
    for entry in entries:
        assert entry["from"] in "abc" and entry["to"] in "abc" and entry["from"] != entry["to"]
        with np.load(folder / entry["file"].replace("png", "npz")) as arrays:
            change = arrays["fooled"].astype(float) - arrays["image"]
        assert np.linalg.norm(change) == pytest.approx(entry["l2"], rel=1e-4)
        assert np.abs(change).max() == pytest.approx(entry["linf"], rel=1e-4)
        assert entry["written"]["to"] != entry["from"]
        if entry["ascent"]["flipped_at"] is not None:  # it climbs to what the change led to
            assert entry["ascent"]["to"] == entry["to"]
        assert len(entry["layers"]["conv2"]["units"]) == 2
    curve = answer.json["curves"]["curve.png"]
    assert curve["images"] == 3 and curve["l2"] == sorted(entry["l2"] for entry in entries)
    assert curve["noise"][0][1] == 0
    page = (tmp_path / "ws/report.html").read_text()
    assert "How little fools it" in page
    assert str(place) not in page and str(place) not in (folder / "fool.json").read_text()


def test_targets_and_noise_have_pictures_of_their_own(run, tmp_path, place):
    more = ("--target", "b", "--target", 2, "--noise", "--confidence", 0.9, "--no-page")
    answer = run(*more, "--json", images=[place / "photos/cat.png"])
    assert answer.code == 0, answer.err
    entries = {entry["file"]: entry for entry in answer.json["pictures"]}
    assert list(entries) == ["cat--1-b.png", "cat--2-c.png", "noise/1-b.png", "noise/2-c.png"]
    for name, wanted in zip(entries, "bcbc", strict=True):
        assert entries[name]["to"] == wanted
    already = [entry for entry in entries.values() if entry.get("already")]
    assert {entry["from"] for entry in already} <= {"b", "c"}
    for entry in already:
        assert entry["l2"] == 0 and entry["steps"] == 0
    alone = run(*more, "--json", images=[])
    assert alone.code == 0 and "2 pictures were made before" in alone.err


def listed(space):
    pictures = json.loads((space / "fool/fool.json").read_text())["pictures"]
    return {entry["file"]: entry["target"] for entry in pictures}


def test_a_target_is_no_part_of_an_images_name(run, place, tmp_path):
    cat, both = [place / "photos/cat.png"], {"cat--1-b.png": "b", "cat.png": None}
    for aim in ("--target", "b"), ("--target", "b"), (), ("--target", "b"), ():
        answer = run(*aim, "--no-page", images=cat)
        assert answer.code == 0, answer.err
    assert listed(tmp_path / "ws") == both and "1 picture was made before" in answer.err
    moved = tmp_path / "elsewhere" / "cat.png"
    moved.parent.mkdir()
    moved.write_bytes(cat[0].read_bytes())
    answer = run("--target", "b", "--no-page", images=[moved])
    assert "1 picture was made before" in answer.err and listed(tmp_path / "ws") == both


def test_pictures_of_images_whose_names_look_like_targets_stay(run, place, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, of in (("cat", "cat"), ("cat--1-b", "dog"), ("cat-", "owl")):
        (folder / f"{name}.png").write_bytes((place / f"photos/{of}.png").read_bytes())
    for _ in range(2):
        assert run("--target", "b", "--no-page", images=[folder]).code == 0
        answer = run("--no-page", images=[folder])
    assert "3 pictures were made before" in answer.err
    assert listed(tmp_path / "ws") == {
        **{"cat--1-b.png": "b", "cat--1-b--1-b.png": "b", "cat---1-b.png": "b"},
        **{"cat.png": None, "cat--1-b-2.png": None, "cat-.png": None},
    }


def test_what_was_listed_without_names_keeps_its_images_names(run, place, tmp_path):
    cat, file = [place / "photos/cat.png"], tmp_path / "ws/fool/fool.json"
    for aim in ("--target", "b"), ():
        assert run(*aim, "--no-page", images=cat).code == 0
    document = json.loads(file.read_text())
    for entry in document["pictures"]:
        del entry["name"]
    file.write_text(json.dumps(document))
    for aim in (), ("--target", "b"):
        assert "1 picture was made before" in run(*aim, "--no-page", images=cat).err
    # as earlier versions named an image that had a target first
    plain, aimed = (file.parent / f"cat{more}.png" for more in ("", "--1-b"))
    plain.replace(aimed)
    document["pictures"] = [{**document["pictures"][1], "file": aimed.name}]
    file.write_text(json.dumps(document))
    for _ in range(2):
        for aim in ("--target", "b"), ():
            answer = run(*aim, "--no-page", images=cat)
    assert listed(tmp_path / "ws") == {"cat--1-b.png": "b", "cat.png": None}
    assert "1 picture was made before" in answer.err


def test_a_class_that_was_renamed_has_one_picture_per_image_again(run, place, tmp_path):
    names = tmp_path / "names.txt"
    aims, cat = ("--target", 1, "--target", 2, "--noise", "--no-page"), [place / "photos/cat.png"]
    for words in "abc", ("a", "hen", "c"):
        names.write_text("\n".join(words))
        answer = run(*aims, "--raw", "--classes", names, images=cat)
        assert answer.code == 0, answer.err
    assert "bear other names" not in answer.err
    stems = "cat--1-hen", "cat--2-c", "noise/1-hen", "noise/2-c"
    assert sorted(listed(tmp_path / "ws")) == [f"{stem}.png" for stem in stems]
    pictures = (tmp_path / "ws/fool").rglob("*-*.*")
    assert sorted(p.name for p in pictures if "curve" not in p.name) == sorted(
        f"{stem.removeprefix('noise/')}{end}" for stem in stems for end in (".npz", ".png")
    )
    assert renamed(tmp_path / "ws") == []


def test_what_it_is_to_be_taken_for_as_it_is_is_said(run, place, tmp_path):
    photo = [place / "photos/cat.png"]
    first = run("--json", "--no-page", images=photo).json["pictures"][0]["from"]
    answer = run("--target", first, images=photo)
    assert answer.code == 0, answer.err
    document = json.loads((tmp_path / "ws/fool/fool.json").read_text())
    assert document["pictures"][1]["already"]
    assert f"{first} as it is" in (tmp_path / "ws/report.html").read_text()


@pytest.fixture(scope="module")
def made(place):
    """A workspace with one picture, which nobody changes."""
    answer = cnnlens(
        "fool", place / "net.pt", "-i", place / "photos/cat.png", "--steps", 2, "--no-page",
        "-w", place / "ws",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return place


def todo(place, image="photos/cat.png", classes=None, **values):
    """Pictures that would be made now."""
    opening = ModelSettings(classes=classes)
    study = Study(Workspace(place / "ws"), str(place / "net.pt"), opening, voice=Voice(quiet=True))
    one = Fool(study, *build(Fool, {"image": (place / image,), "steps": 2, **values}))
    one.resolve()
    return [item.name for item in one.part.todo]


CHANGES = {
    "rate": {"lr": 0.002},
    "steps": {"steps": 3},
    "confidence": {"confidence": 0.8},
    "refine": {"refine": 1},
    "units shown": {"maps": 2},
    "seed": {"seed": 3},
    "layers": {"layer": ("conv1",)},
    "class names": {"classes": ["x", "y", "z"]},
    "a target": {"target": ("b",)},
    "arrays": {"raw": True},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_made_anew(change, made):
    assert todo(made) == []
    assert len(todo(made, **CHANGES[change])) == 1


def test_a_changed_photo_is_fooled_anew(made):
    photo = made / "photos/cat.png"
    before = photo.read_bytes(), photo.stat()
    Image.new("RGB", (24, 24)).save(photo)
    try:
        assert todo(made) == ["cat.png"]
    finally:
        photo.write_bytes(before[0])
        os.utime(photo, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert todo(made) == []


@pytest.mark.parametrize("aim", [(), ("--target", "b")])
def test_after_an_interrupt_what_was_made_stays(aim, run, monkeypatch):
    plain, begun = fooled.fool, []

    def interrupted(*more):
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return plain(*more)

    monkeypatch.setattr(fooled, "fool", interrupted)
    assert run(*aim, "--no-page").code == 130
    answer = run(*aim, "--no-page", "--json")
    assert answer.code == 0 and "1 picture was made before" in answer.err
    assert len(begun) == 4 and len(answer.json["pictures"]) == 3


def test_a_picture_that_no_step_fools_is_named(run, place, monkeypatch):
    monkeypatch.setattr(fooled, "smallest", lambda *_: None)
    more = ("--steps", 1, "--lr", 1e-9, "--json", "--no-page")
    answer = run(*more, images=[place / "photos/cat.png"])
    assert answer.code == 0 and "no change that fools was found" in answer.err
    assert answer.json["pictures"][0]["l2"] is None and answer.json["curves"] == {}


def test_what_cannot_be_done_is_said(run, place, tmp_path):
    assert "no images were named" in run(images=[]).error
    assert "--target" in run("--noise").err and "no class" in run("--noise").error
    assert "no class 'cow'" in run("--target", "cow").error
    assert "conv9" in run("-l", "conv9").error
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    assert "cannot be read" in run(images=[bad]).error
    answer = run("--no-page", images=[bad, place / "photos/owl.png"])
    assert answer.code == 0 and "skipped" in answer.err


def test_a_network_that_answers_everything_alike_is_not_fooled(place, tmp_path):
    factory = tmp_path / "alike.py"
    factory.write_text(
        "from torch import nn\n\n\nclass Alike(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n\n"
        "    def forward(self, x):\n        return self.conv(x).mean((2, 3)) * 0\n"
    )
    answer = cnnlens(
        "fool", f"{factory}:Alike", "--image-size", 24, "-i", place / "photos/cat.png",
        "-w", tmp_path / "alike",
    )  # fmt: skip
    assert answer.code == 1
    assert "does not change with the image" in answer.error

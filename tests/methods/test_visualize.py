"""``visualize``: what a picture depends on, what is kept of a stopped run, what is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.files import ledger
from cnnlens.methods import climbing
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.report.sections import visualizations
from cnnlens.report.states import renamed as renamed_results
from cnnlens.settings import VisualizeSettings
from cnnlens.synthesize import visualize as science
from tests.cli.runner import Answer, cnnlens, files

HALF = (0.5, 0.5, 0.5)


def save_net(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    net = ZOO["demo_net"].make(3).eval()
    save_checkpoint(path, net, "zoo:demo_net", Preprocess((24, 24), HALF, HALF), list("abc"))
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return save_net(tmp_path / "net.pt")


def run(net: Path, space: Path, *words: object) -> Answer:
    return cnnlens("visualize", net, "-w", space, "--no-page", *words)


def listed(space: Path, layer: str = "conv2") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (space / "visualize" / layer / "visualize.json").read_text()
    )
    return document


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Stop a run after some steps in all, and write down which it makes; each 8th is kept."""
    monkeypatch.setattr(climbing, "KEPT_EVERY", 8)
    real = science.optimize

    def stop(after: int = 0) -> list[int]:
        made: list[int] = []

        def optimize(*given: Any, **named: Any) -> Iterator[Any]:
            for step in real(*given, **named):
                made.append(step.done)
                yield step
                if len(made) == after:
                    raise KeyboardInterrupt

        monkeypatch.setattr(science, "optimize", optimize)
        return made

    return stop


# ---- a stopped run

ASCENTS = {
    "adam": [],
    "ascent": ["--update", "ascent", "--basis", "pixels", "--lr", 0.02],
    "all": [
        "--tv",
        "0.1",
        "--alpha",
        "0.1",
        "--l2",
        "0.01",
        "--blur",
        "0.5",
        "--clip",
        "0.1",
        "--clip-contributions",
        "0.1",
        "--gradient-blur",
        "1",
        "--gradient-shift",
        "1",
        "--gradient-rotate",
        "2",
    ],
}


@pytest.mark.parametrize("name", ASCENTS)
def test_a_stopped_ascent_goes_on_and_ends_with_the_same_bytes(net, tmp_path, steps, name):
    words = ["-f", "conv2:0-2", "--logit", "b", "--steps", 12, "--raw", *ASCENTS[name]]
    assert run(net, tmp_path / "whole", *words).code == 0
    steps(10)
    stopped = tmp_path / "stopped"
    assert run(net, stopped, *words).code == 130
    assert not list(stopped.rglob("*.png"))
    made = steps()
    answer = run(net, stopped, *words)
    assert answer.code == 0, answer.err
    assert made == [*range(9, 13), *range(1, 13)]  # the units from where they were, then the class
    assert "3 of them from step 8 on" in answer.err
    one, two = (files(tmp_path / space / "visualize") for space in ("whole", "stopped"))
    assert one == two


def test_a_stopped_batch_goes_on_after_those_that_are_finished(net, tmp_path, steps):
    words = ["-f", "conv2:0-3", "--steps", 12, "--batch-size", 2]
    whole = tmp_path / "whole"
    assert run(net, whole, *words).code == 0
    steps(12 + 10)
    assert run(net, tmp_path, *words).code == 130
    assert [e["file"] for e in listed(tmp_path)["pictures"]] == ["0.png", "1.png"]
    made = steps()
    # unit 5 is new, and has nothing to go on from
    assert run(net, tmp_path, *words[:-2], "-f", "conv2:5").code == 0
    assert made == [*range(9, 13), *range(1, 13)]
    for name in ("2.png", "3.png"):
        one, two = (
            np.array(Image.open(space / "visualize" / "conv2" / name)).astype(int)
            for space in (whole, tmp_path)
        )
        assert np.abs(one - two).max() <= 1


def test_a_stopped_ascent_with_other_settings_begins_anew(net, tmp_path, steps):
    words = ["-f", "conv2:0", "--steps", 12]
    steps(11)
    assert run(net, tmp_path, *words).code == 130
    for more in (["--seed", 1], ["--force"]):
        made = steps()
        assert run(net, tmp_path, *words, *more).code == 0
        assert made == [*range(1, 13)]
        steps(11)
        assert run(net, tmp_path, *words, *more, "--force").code == 130


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_state_costs_no_more_than_the_steps(net, tmp_path, steps, spoil):
    words = ["-f", "conv2:0", "--steps", 12]
    steps(11)
    assert run(net, tmp_path, *words).code == 130
    (state,) = (tmp_path / "visualize" / "conv2").glob(".*")
    state.write_bytes(spoil(state.read_bytes()))
    made = steps()
    assert run(net, tmp_path, *words).code == 0
    assert made == [*range(1, 13)]
    assert not state.exists()


def test_what_is_written_grows_with_the_pictures_not_with_their_square(net, tmp_path, monkeypatch):
    written = 0
    write_json, amend = ledger.write_json, ledger.Ledger.amend

    def counted(path: Path, document: Any) -> None:
        nonlocal written
        write_json(path, document)
        written += path.stat().st_size

    def appended(self: ledger.Ledger, name: str, entry: Any) -> None:
        nonlocal written
        before = self._journal.stat().st_size if self._journal.exists() else 0
        amend(self, name, entry)
        written += self._journal.stat().st_size - before

    monkeypatch.setattr(ledger, "write_json", counted)
    monkeypatch.setattr(ledger.Ledger, "amend", appended)
    sizes = []
    for count in (4, 16):
        written = 0
        words = ["-f", f"conv2:0-{count - 1}", "--steps", 3, "--batch-size", 1]
        assert run(net, tmp_path / str(count), *words).code == 0
        sizes.append(written)
    assert sizes[1] < 4.2 * sizes[0]


# ---- what a picture depends on


def photo(path: Path, seed: int) -> Path:
    rows = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(rows).save(path)
    return path


CHANGES = {
    "target": ["--target", "max"],
    "basis": ["--basis", "pixels"],
    "falloff": ["--falloff", 1],
    "noise": ["--noise", 0.02],
    "steps": ["--steps", 3],
    "lr": ["--lr", 0.2],
    "size": ["--size", 20],
    "update": ["--update", "ascent"],
    "jitter": ["--jitter", 1],
    "rotate": ["--rotate", 1],
    "scale": ["--scale", 0.2],
    "tv": ["--tv", 1],
    "alpha": ["--alpha", 1],
    "l2": ["--l2", 0.1],
    "blur": ["--blur", 1],
    "clip": ["--clip", 0.1],
    "clip_contributions": ["--clip-contributions", 0.1],
    "gradient_blur": ["--gradient-blur", 1],
    "gradient_shift": ["--gradient-shift", 1],
    "gradient_rotate": ["--gradient-rotate", 1],
    "seed": ["--seed", 1],
    "preset": ["--preset", "simonyan"],
    "contrast": ["--contrast", 1],
    "views": ["--views", 2],
    "transparent": ["--transparent"],
    "method": ["--method", "maco"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, and a workspace with one picture that is made once."""
    place = tmp_path_factory.mktemp("made")
    save_net(place / "net.pt")
    assert run(place / "net.pt", place / "space", *PICTURE).code == 0
    return place


PICTURE = ("-f", "conv2:1", "--steps", 2)


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_make_the_picture_anew(made, tmp_path, name):
    space = shutil.copytree(made / "space", tmp_path / "space")
    answer = run(made / "net.pt", space, *PICTURE, *CHANGES[name])
    assert "1 picture of conv2: " in answer.err and "made before" not in answer.err


def test_the_same_settings_do_not(made, tmp_path):
    space = shutil.copytree(made / "space", tmp_path / "space")
    assert "made before" in run(made / "net.pt", space, *PICTURE).err


def test_every_setting_is_changed_by_some_test():
    # count only beside others: see below, and tests/methods/test_generator.py
    later = {"beta", "blur_every", "init", "rivals", "code_decay"}
    assert set(VisualizeSettings().as_dict()) == (CHANGES.keys() - {"preset"}) | later


def test_rivals_count_for_classes_alone(net, tmp_path):
    words = ["-f", "conv2:1", "--logit", "b", "--steps", 6]
    assert run(net, tmp_path, *words).code == 0
    folder = tmp_path / "visualize"
    unit, of_class = folder / "conv2" / "1.png", folder / "logits" / "logit-b.png"
    before = unit.read_bytes(), of_class.read_bytes()
    assert "1 picture was made before" in run(net, tmp_path, *words, "--rivals", 0).err
    assert unit.read_bytes() == before[0] and of_class.read_bytes() != before[1]


class Shares(torch.nn.Module):
    """The demo's network, answering with probabilities."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.apart = ZOO["demo_net"].make(3), apart

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = self.net(x).softmax(1)
        return shares / shares.sum(1, keepdim=True) if self.apart else shares


@pytest.mark.parametrize("apart", [True, False])
def test_a_class_that_climbs_a_probability_is_told_and_one_before_it_is_recorded(tmp_path, apart):
    file = tmp_path / "net.pt2"
    shape = torch.zeros(1, 3, 24, 24)
    torch.export.save(torch.export.export(Shares(apart).eval(), (shape,)), file)
    answer = run(file, tmp_path, "--logit", 1, "--steps", 2)
    assert answer.code == 0, answer.err
    assert ("climb the probabilities" in answer.err) is apart
    (entry,) = listed(tmp_path, "logits")["pictures"]
    assert ("scores_at" in entry["made_from"]) is not apart


def test_other_photos_make_macos_picture_anew(net, tmp_path):
    folder, space = tmp_path / "photos", tmp_path / "space"
    folder.mkdir()
    for seed in range(3):
        photo(folder / f"{seed}.png", seed)
    words = ["-f", "conv2:1", "--method", "maco", "--steps", 2, "--views", 2]
    bare = run(net, space, *words)
    assert "spectrum is taken to be 1/f" in bare.err
    assert cnnlens("extract", net, "-d", folder, "-l", "conv1", "-w", space).code == 0
    answer = run(net, space, *words)
    assert "the spectrum is that of 3 photos of photos" in answer.err
    assert "made before" not in answer.err
    assert "made before" in run(net, space, *words).err
    photo(folder / "3.png", 3)
    answer = run(net, space, *words)
    assert "that of 4 photos" in answer.err and "made before" not in answer.err


@pytest.mark.parametrize("words", [["--tv", 1], ["--preset", "erhan"], ["--init", "mean"]])
def test_maco_refuses_what_it_does_not_use(net, tmp_path, words):
    answer = run(net, tmp_path / "space", "-f", "conv2:1", "--method", "maco", *words)
    assert answer.code == 2
    assert "--method maco does not take" in answer.error
    assert str(words[0]).removeprefix("--pre") in answer.error or "--basis" in answer.error
    assert not (tmp_path / "space").exists()


def test_several_images_are_one_row_and_the_first_is_the_one_made_alone(net, tmp_path):
    words = ["-f", "conv2:1", "--steps", 6]
    assert run(net, tmp_path / "one", *words).code == 0
    assert run(net, tmp_path / "three", *words, "--several", 3).code == 0
    folder = tmp_path / "three" / "visualize" / "conv2"
    entries = listed(tmp_path / "three")["pictures"]
    assert [(e["file"], e.get("variant", 1)) for e in entries] == [
        ("1.png", 1), ("1~2.png", 2), ("1~3.png", 3),
    ]  # fmt: skip
    pictures = [(folder / e["file"]).read_bytes() for e in entries]
    assert len(set(pictures)) == 3
    assert (tmp_path / "one" / "visualize" / "conv2" / "1.png").read_bytes() == pictures[0]
    # more can be asked for later, and nothing is made twice
    answer = run(net, tmp_path / "one", *words, "--several", 3)
    assert "1 picture was made before" in answer.err
    late = tmp_path / "one" / "visualize" / "conv2"
    assert [(late / e["file"]).read_bytes() for e in entries] == pictures


def test_a_position_is_not_held_against_peaks_anywhere(net, tmp_path):
    folder, space = tmp_path / "photos", tmp_path / "space"
    folder.mkdir()
    photo(folder / "0.png", 0)
    assert cnnlens("extract", net, "-d", folder, "-l", "conv2", "-w", space).code == 0
    assert run(net, space, "-f", "conv2:0-3@0,0", "--steps", 2).code == 0
    names = {entry["file"] for entry in listed(space)["pictures"]}
    dead = set(listed(space)["failed"])
    assert names | {f"{name}.png" for name in dead} == {f"{unit}@0,0.png" for unit in range(4)}
    assert all("best image" not in reason for reason in listed(space)["failed"].values())


FAR_BELOW = """
from torch import nn
def make():
    conv = nn.Conv2d(3, 2, 3)
    nn.init.constant_(conv.bias, -50.0)
    nn.init.zeros_(conv.weight[1:].data)  # the second unit answers nothing
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_what_rises_below_zero_is_a_picture_and_no_data_is_said_to_do_better(tmp_path):
    (tmp_path / "nets.py").write_text(FAR_BELOW)
    words = [f"{tmp_path / 'nets.py'}:make", "--image-size", 24, "-w", tmp_path / "space"]
    answer = cnnlens("visualize", *words, "-f", "0:0,1", "--steps", 8, "--no-page")
    assert answer.code == 0, answer.err
    (only,) = listed(tmp_path / "space", "0")["pictures"]
    assert only["unit"] == 0 and only["initial"] < only["final"] < 0
    assert "0:1 stays at -50" in answer.err or "0:1 gets no gradient" in answer.err
    assert "best image" not in answer.err


@pytest.mark.parametrize("option", ["beta", "blur_every", "init", "init's content"])
def test_other_parts_of_a_setting_make_the_picture_anew(net, tmp_path, option):
    start = photo(tmp_path / "a.png", 0)
    words = ["-f", "conv2:1", "--steps", 2, "--tv", 1, "--blur", 1, "--init", start]
    assert run(net, tmp_path, *words).code == 0
    assert "made before" in run(net, tmp_path, *words).err
    if option == "init's content":
        photo(start, 1)
    more = {
        "beta": ["--beta", 1],
        "blur_every": ["--blur-every", 1],
        "init": ["--init", photo(tmp_path / "b.png", 0)],
    }
    assert "made before" not in run(net, tmp_path, *words, *more.get(option, [])).err


def test_another_network_another_preprocessing_another_class_make_it_anew(net, tmp_path):
    words = ["-f", "conv2:1", "--logit", "b", "--steps", 2]
    first = tmp_path / "first"
    assert run(net, first, *words).code == 0
    assert "made before" in run(net, first, *words).err
    for other, more in ((save_net(tmp_path / "other.pt", 1), []), (net, ["--mean", "0.4,0.5,0.5"])):
        answer = run(other, first, *words, *more)
        assert answer.code == 1 and "--force" in answer.err  # never mixed in one folder
    names = Preprocess((24, 24), HALF, HALF)
    torch.manual_seed(0)
    save_checkpoint(net, ZOO["demo_net"].make(3).eval(), "zoo:demo_net", names, ["b", "a", "c"])
    answer = run(net, first, *words)  # the same weights: class b is another output now
    assert "conv2: 1 picture was made before" in answer.err
    assert "logits: 1 picture" not in answer.err
    assert listed(first, "logits")["pictures"][0]["class_index"] == 0


def renamed(net, *names):
    torch.manual_seed(0)
    as_before = Preprocess((24, 24), HALF, HALF)
    save_checkpoint(net, ZOO["demo_net"].make(3).eval(), "zoo:demo_net", as_before, list(names))


def test_a_class_that_was_renamed_has_one_picture_again(net, tmp_path):
    words, space = ("--logit", 0, "--steps", 2, "--raw"), tmp_path / "space"
    assert run(net, space, *words, "--logit", 1, "--several", 2).code == 0
    renamed(net, "hen", "b", "c")
    answer = run(net, space, *words, "--logit", 1)
    assert "names of the classes than are known now: visualize of logits (1 of 4)" in answer.err
    folder = space / "visualize" / "logits"
    there = {"logit-a~2.png", "logit-hen.png", "logit-b.png", "logit-b~2.png"}
    assert {e["file"] for e in listed(space, "logits")["pictures"]} == there
    assert not list(folder.glob("logit-a.*"))
    assert run(net, space, *words, "--several", 2).code == 0
    assert not list(folder.glob("logit-a*")) and renamed_results(space) == []
    # what an earlier version left beside the new one goes, too
    document = listed(space, "logits")
    old = {**document["pictures"][0], "file": "logit-old.png", "class": "old", "class_index": 0}
    shutil.copy(folder / "logit-hen.png", folder / "logit-old.png")
    document["pictures"].append({**old, "variant": 1})
    (folder / "visualize.json").write_text(json.dumps(document))
    assert len(renamed_results(space)) == 1
    assert "made before" in run(net, space, *words).err
    assert renamed_results(space) == [] and not (folder / "logit-old.png").exists()


def test_long_names_of_classes_have_pictures(net, tmp_path):
    long = "a bird whose name is no end " * 12
    renamed(net, f"{long}1", f"{long}2", "é" * 200)
    classes = [word for number in range(3) for word in ("--logit", number)]
    answer = run(net, tmp_path / "space", *classes, "--steps", 2, "--several", 2, "--raw")
    assert answer.code == 0, answer.err
    entries = listed(tmp_path / "space", "logits")["pictures"]
    assert [e["class_index"] for e in entries] == [0, 1, 2, 0, 1, 2]
    assert len({e["file"] for e in entries}) == 6


def test_another_network_by_force_leaves_nothing_of_the_first(net, tmp_path):
    space = tmp_path / "space"
    assert run(net, space, "-f", "conv2:0", "--steps", 2).code == 0
    other = save_net(tmp_path / "other.pt", 1)
    answer = run(other, space, "-f", "conv2:1", "--steps", 2, "--force")
    assert answer.code == 0, answer.err
    assert [e["file"] for e in listed(space)["pictures"]] == ["1.png"]


class Figures(torch.nn.Module):
    """Scores of four classes: how red, how green an image is, always much, always nothing."""

    def forward(self, x):
        red, green, _ = x.mean((2, 3)).unbind(1)
        return torch.stack([red, green, 0 * red + 9, 0 * red], 1)


def test_a_class_that_is_taken_for_another_is_said(tmp_path):
    file, names = tmp_path / "net.pt2", tmp_path / "names.txt"
    torch.export.save(torch.export.export(Figures().eval(), (torch.zeros(1, 3, 24, 24),)), file)
    names.write_text("red\ngreen\nmuch\nnothing\n")
    words = ("--classes", names, "--steps", 8, "--rivals", 0)
    answer = run(file, tmp_path / "ws", *words, "--logit", "red", "--logit", "green")
    assert answer.code == 0, answer.err
    assert "takes 2 pictures of a class for another: logit-red (much), logit-green (much)" in (
        answer.err
    )
    red, _ = listed(tmp_path / "ws", "logits")["pictures"]
    assert red["taken_for"] == "much" and red["final"] > red["initial"] + 0.1
    section = visualizations(tmp_path / "ws")
    assert "taken for much" in section.parts[0].blocks[0].shots[0].caption


def test_raw_arrays_that_are_missing_are_made(net, tmp_path):
    words = ["-f", "conv2:1", "--steps", 2]
    assert run(net, tmp_path, *words).code == 0
    assert run(net, tmp_path, *words, "--raw").code == 0
    assert (tmp_path / "visualize" / "conv2" / "1.npz").is_file()


def test_an_entry_that_says_nothing_of_how_it_was_made_is_made_anew(net, tmp_path):
    words = ["-f", "conv2:1", "--steps", 2]
    assert run(net, tmp_path, *words).code == 0
    document = listed(tmp_path)
    del document["pictures"][0]["made_from"]
    (tmp_path / "visualize" / "conv2" / "visualize.json").write_text(json.dumps(document))
    answer = run(net, tmp_path, *words)
    assert answer.code == 0 and "made before" not in answer.err


# ---- what is said


def test_what_will_be_done_is_said_before_it_is(net, tmp_path):
    answer = run(net, tmp_path, "-f", "conv2:0-5", "-f", "conv1", "--logit", "a", "--steps", 2)
    assert "6 pictures of conv2, 1 picture of conv1, 1 picture of logits: 2 steps each" in (
        answer.err
    )
    again = run(net, tmp_path, "-f", "conv2:1", "--steps", 2)
    assert "steps each" not in again.err


@pytest.mark.parametrize(("text", "lacking"), [("conv2:", "unit"), (":3", "layer")])
def test_an_address_that_lacks_something_says_what(net, tmp_path, text, lacking):
    answer = run(net, tmp_path, "-f", text)
    assert answer.code == 2
    assert f"names no {lacking}" in answer.error
    assert not (tmp_path / "visualize").exists()


def test_a_missing_image_is_said_before_the_model_is_opened(tmp_path):
    answer = run(tmp_path / "no.pt", tmp_path, "-f", "conv2:1", "--init", "gone.png")
    assert answer.code == 2 and "gone.png" in answer.error


def test_a_deep_image_to_start_from_is_read_in_the_range_that_is_named(net, tmp_path):
    values = np.linspace(0, 4000, 24 * 24).reshape(24, 24).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    shown = np.clip(np.rint(values / 9000 * 255), 0, 255).astype(np.uint8)
    Image.fromarray(shown).save(tmp_path / "plain.png")

    def drawn(name: str, *words: object) -> bytes:
        start = ["--init", tmp_path / f"{name}.png", "--steps", 2, "-f", "conv2:1"]
        assert run(net, tmp_path / "out", *start, *words).code == 0
        return (tmp_path / "out" / "visualize" / "conv2" / "1.png").read_bytes()

    assert drawn("deep") != drawn("plain")
    assert drawn("deep", "--range", "0,9000") == drawn("plain")


def test_nothing_that_is_shared_names_the_machine(net, tmp_path):
    start = photo(tmp_path / "start.png", 0)
    space = tmp_path / "space"
    assert run(net, space, "-f", "conv2:1", "--steps", 2, "--init", start).code == 0
    text = (space / "visualize" / "conv2" / "visualize.json").read_text()
    assert listed(space)["settings"]["init"] == f"{tmp_path.name}/start.png"
    assert f"{tmp_path.parent}/" not in text


def write_units(space: Path, text: str) -> None:
    folder = space / "dissect" / "conv2"
    folder.mkdir(parents=True, exist_ok=True)
    head = "unit,threshold,label,category,iou,is_detector\n"
    (folder / "units.csv").write_text(head + text)


def test_labels_are_those_that_the_dissection_has_now(net, tmp_path):
    words = ["-f", "conv2:0,1", "--steps", 2]
    write_units(tmp_path, "0,1.0,cat,object,0.2,true\n1,1.0,dog,object,0.3,true\n")
    assert run(net, tmp_path, *words).code == 0
    assert [e.get("label") for e in listed(tmp_path)["pictures"]] == ["cat", "dog"]
    write_units(tmp_path, "0,1.0,sky,object,0.2,true\n1,1.0,dog,object,0.01,false\n")
    assert run(net, tmp_path, *words).code == 0
    assert [e.get("label") for e in listed(tmp_path)["pictures"]] == ["sky", None]


def test_a_damaged_dissection_costs_the_labels_alone(net, tmp_path):
    write_units(tmp_path, "0,what\n")
    answer = run(net, tmp_path, "-f", "conv2:0", "--steps", 2)
    assert answer.code == 0
    assert "no labels beside the pictures" in answer.err and "units.csv" in answer.err


def test_the_kept_state_is_no_older_than_32_steps():
    assert climbing.KEPT_EVERY <= 32

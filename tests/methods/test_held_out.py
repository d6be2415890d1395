"""Images that fine-tuning held out: recorded, and what stability is measured on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from cnnlens.data.animals import make_animals
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.finetune import Finetuning
from cnnlens.interpretable.method import split
from cnnlens.methods import sections
from cnnlens.methods.ablate import Ablate
from cnnlens.methods.cluster import Cluster
from cnnlens.methods.exam import Exam
from cnnlens.methods.finetune import Finetune
from cnnlens.methods.label import Label
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.stability import Stability
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.report.page import write_report
from cnnlens.report.trained import held_out_of, seen_in_training
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

SIDE = 24


def method(kind: Any, world: Path, net: str, **values: Any) -> Any:
    run = RunSettings(workers=1, batch_size=32)
    study = Study(
        Workspace(world / "ws"), str(world / net), ModelSettings(), run, Voice(quiet=True)
    )
    return kind(study, *build(kind, {"data": world / "animals", **values}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects, a network, and that network fine-tuned on them."""
    world = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    net = ZOO["demo_net"].make(3).eval()
    save_checkpoint(
        world / "net.pt", net, "zoo:demo_net", Preprocess((SIDE, SIDE), half, half), list("abc")
    )
    make_animals(world / "animals", 120, SIDE)
    carry_out(
        method(
            Finetune, world, "net.pt", method="none", epochs=1, validation=0.4,
            out=world / "new.pt",
        )
    )  # fmt: skip
    return world


def test_finetune_records_what_it_held_out(world: Path) -> None:
    found = json.loads((world / "new.json").read_text())["held_out"]
    objects = open_data(world / "animals")
    known = sorted(set(objects.image_categories or ()))
    labels = torch.tensor([known.index(name) for name in objects.image_categories or ()])
    assert found["images"] == split(labels, 0.4, 0)[1].tolist()
    assert found["data"] == objects.fingerprint


def test_stability_is_measured_on_these_alone(world: Path) -> None:
    one = method(Stability, world, "new.pt", layer=("conv2",), chance=0, top=0)
    one.resolve()
    objects, held = open_data(world / "animals"), held_out_of(str(world / "new.pt"))
    assert held is not None
    rows = held["images"]
    assert one.images.paths == tuple(objects.paths[row] for row in rows)
    assert one.images.image_categories == tuple(objects.image_categories[row] for row in rows)
    np.testing.assert_array_equal(one.images.centres, objects.centres[rows])
    for place in (0, len(rows) - 1):
        assert one.images.file(place) == objects.file(rows[place])
        size = (SIDE, SIDE)
        np.testing.assert_array_equal(
            one.images.part_masks(place, size), objects.part_masks(rows[place], size)
        )
    carry_out(one)
    summary = one.summaries["conv2"]
    assert (summary["images"], summary["held_out"]) == (len(rows), len(rows))


def test_all_and_another_record_can_be_asked_for_and_are_measured_anew(world: Path) -> None:
    given = {"layer": ("conv2",), "chance": 0, "top": 0}
    done = method(Stability, world, "new.pt", **given)
    carry_out(done)
    for more in ({"held_out": "all"},):
        one = method(Stability, world, "new.pt", **given, **more)
        one.resolve()
        assert len(one.images.paths) == 120
        assert [layer.name for layer in one.todo] == ["conv2"]
    plain = method(Stability, world, "net.pt", **given)
    plain.resolve()
    assert len(plain.images.paths) == 120
    asked = method(Stability, world, "net.pt", held_out=str(world / "new.json"), **given)
    asked.resolve()
    assert asked.images.paths == done.images.paths
    assert asked.made_from(asked.layers[0])["data"] == done.made_from(done.layers[0])["data"]


def test_a_record_that_is_none_or_of_other_data_is_refused(world: Path, tmp_path: Path) -> None:
    one = method(Stability, world, "net.pt", layer=("conv2",), held_out=str(world / "net.pt"))
    with pytest.raises(CnnlensError, match="does not say which images were held out"):
        one.resolve()
    found = json.loads((world / "new.json").read_text())
    found["held_out"]["data"] = "else"
    (tmp_path / "x.json").write_text(json.dumps(found))
    one = method(Stability, world, "net.pt", layer=("conv2",), held_out=str(tmp_path / "x.json"))
    with pytest.raises(UsageError, match="of other data than"):
        one.resolve()


def test_too_few_images_held_out_are_said_and_all_are_measured(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "animals", tmp_path / "animals")
    content = torch.load(world / "new.pt", weights_only=True)
    held = content["training"]["held_out"]
    held["images"], held["data"] = held["images"][:6], open_data(tmp_path / "animals").fingerprint
    torch.save(content, tmp_path / "new.pt")
    one = method(Stability, tmp_path, "new.pt", layer=("conv2",), chance=0, top=0)
    one.study.voice = Voice()
    one.resolve()
    assert len(one.images.paths) == 120
    assert "fine-tuning held out 6 images, too few" in capsys.readouterr().err
    carry_out(method(Stability, tmp_path, "new.pt", layer=("conv2",), chance=0, top=0))
    one = method(Stability, tmp_path, "new.pt", layer=("conv2",))
    one.resolve()
    assert one.described(one.layers[0]) == {"held_out": None}


def test_no_checkpoint_no_record() -> None:
    for spec in ("", "torchvision:resnet18", "..", "a/b"):
        assert held_out_of(spec) is None


@pytest.mark.parametrize("name", ["else.pt", "else.pth", "else"])
def test_the_checkpoint_itself_says_what_was_held_out(
    world: Path, tmp_path: Path, name: str
) -> None:
    """Wherever it was copied to, whatever it is called, with nothing beside it."""
    shutil.copy(world / "new.pt", tmp_path / name)
    assert held_out_of(str(tmp_path / name)) == held_out_of(str(world / "new.pt")) is not None


def test_what_lies_beside_is_of_the_same_training_or_passed_over(
    world: Path, tmp_path: Path
) -> None:
    shutil.copy(world / "new.pt", tmp_path / "new.pt")
    found = json.loads((world / "new.json").read_text())
    wrong = {**found, "of": "another", "held_out": {**found["held_out"], "images": [1]}}
    (tmp_path / "new.json").write_text(json.dumps(wrong))
    assert held_out_of(str(tmp_path / "new.pt")) == held_out_of(str(world / "new.pt"))
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    del content["training"]["held_out"], content["training"]["of"]  # of an earlier version
    torch.save(content, tmp_path / "new.pt")
    assert held_out_of(str(tmp_path / "new.pt")) == {
        "data": found["held_out"]["data"], "images": [1],
    }  # fmt: skip


def test_images_that_changed_since_are_said_to_be_measured_all(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(world / "new.pt", tmp_path / "new.pt")
    shutil.copytree(world / "animals", tmp_path / "animals")
    photo = next((tmp_path / "animals" / "images").rglob("*.png"))
    os.utime(photo, (0, 1e9))
    one = method(Stability, tmp_path, "new.pt", layer=("conv2",), chance=0, top=0)
    one.study.voice = Voice()
    one.resolve()
    assert len(one.images.paths) == 120
    assert "which it may have been trained on" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [Ablate, Cluster])
def test_measures_on_images_of_the_training_are_said_to_be_no_proof(
    world: Path, capsys: pytest.CaptureFixture[str], kind: Any
) -> None:
    given = {"filter": ("conv2:0",)} if kind is Ablate else {"only": "confusion"}
    one = method(kind, world, "new.pt", **given)
    one.study.voice = Voice()
    one.resolve()
    held = held_out_of(str(world / "new.pt"))
    assert held is not None
    count = 120 - len(held["images"])
    assert f"new.pt was trained on {count} of these 120 images" in capsys.readouterr().err
    other = method(kind, world, "net.pt", **given)
    other.study.voice = Voice()
    other.resolve()
    assert "was trained on" not in capsys.readouterr().err


def test_names_and_their_exam_say_that_their_images_were_learned(
    world: Path, tmp_path: Path
) -> None:
    shutil.copy(world / "new.pt", tmp_path / "new.pt")
    shutil.copytree(world / "animals", tmp_path / "animals")
    few = {"layer": ("conv2",), "chance": 2}
    carry_out(method(Label, tmp_path, "new.pt", **few))
    carry_out(method(Exam, tmp_path, "new.pt", **few))
    said = seen_in_training(str(tmp_path / "new.pt"), open_data(tmp_path / "animals"))
    label, exam = (
        json.loads((tmp_path / "ws" / folder / "conv2" / "summary.json").read_text())
        for folder in ("label", "exam")
    )
    assert said and label["trained_on"] == exam["methods"]["classes"]["trained_on"] == said
    page = write_report(tmp_path / "ws", sections()).read_text()
    assert page.count("was trained on 72 of these 120 images") == 2


@pytest.mark.parametrize(("seed", "leaks"), [(0, False), (1, True)])
def test_another_split_of_a_second_training_is_said_to_leak(
    world: Path, tmp_path: Path, seed: int, leaks: bool
) -> None:
    shutil.copy(world / "new.pt", tmp_path / "first.pt")
    shutil.copytree(world / "animals", tmp_path / "animals")
    again = {"method": "none", "epochs": 1, "validation": 0.4, "seed": seed}
    carry_out(method(Finetune, tmp_path, "first.pt", out=tmp_path / "second.pt", **again))
    first, second = (held_out_of(str(tmp_path / f"{name}.pt")) for name in ("first", "second"))
    assert first is not None and second is not None
    seen = len(set(second["images"]) - set(first["images"]))
    notes = json.loads((tmp_path / "second.json").read_text()).get("notes", [])
    said = [note for note in notes if "first.pt was trained on" in note]
    assert bool(said) == bool(seen) == leaks
    assert not leaks or f"trained on {seen} of the {len(second['images'])} images" in said[0]


def test_a_training_that_is_forced_anew_leaves_nothing_of_the_one_before(
    world: Path, tmp_path: Path
) -> None:
    """Interrupted, its checkpoint would stand beside another's figures."""
    for name in ("new.pt", "new.json", "new.png", "net.pt"):
        shutil.copy(world / name, tmp_path / name)
    shutil.copytree(world / "animals", tmp_path / "animals")
    one = method(
        Finetune, tmp_path, "net.pt", method="none", epochs=2, seed=3, out=tmp_path / "new.pt"
    )
    one.study.force = True
    with (
        mock.patch.object(Finetuning, "checkpoint", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        carry_out(one)
    assert not (tmp_path / "new.json").exists() and not (tmp_path / "new.png").exists()

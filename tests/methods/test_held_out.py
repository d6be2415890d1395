"""Images that fine-tuning held out: recorded, and what stability is measured on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnlens.data.animals import make_animals
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.method import split
from cnnlens.methods.finetune import Finetune
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.stability import Stability
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.report.trained import held_out_of
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
    for name in ("new.pt", "new.json"):
        shutil.copy(world / name, tmp_path / name)
    shutil.copytree(world / "animals", tmp_path / "animals")
    found = json.loads((tmp_path / "new.json").read_text())
    found["held_out"]["images"] = found["held_out"]["images"][:6]
    found["held_out"]["data"] = open_data(tmp_path / "animals").fingerprint
    (tmp_path / "new.json").write_text(json.dumps(found))
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

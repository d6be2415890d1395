"""What `doctor` says of networks of several kinds, and that it tries what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cnnlens as package
from cnnlens.methods import methods

from .runner import cnnlens

NETS = """
import torch
from torch import nn

def _maps(act):
    torch.manual_seed(0)
    return [nn.Conv2d(3, 6, 3, padding=1), act(), nn.Conv2d(6, 4, 3, padding=1), act()]

def deep(): return nn.Sequential(
    *_maps(nn.ReLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(),
    nn.Linear(5, 3))
def smooth(): return nn.Sequential(
    *_maps(nn.GELU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
def maps(): return nn.Sequential(*_maps(nn.ReLU))
def flat(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3))
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("doctor") / "nets.py"
    path.write_text(NETS)
    return path


def ask(*words: object) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """The document, and status and reason of every command."""
    answer = cnnlens("doctor", *words, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    return found, {one["command"]: (one["status"], one["why"]) for one in found["commands"]}


def test_sound_checkpoint_is_told_with_every_command(model: Path, tmp_path: Path) -> None:
    found, commands = ask(model, "-w", tmp_path / "ws")
    assert (found["file"], found["arch"], found["outputs"]) == (
        "a PyTorch checkpoint", "zoo:demo_net", 3,
    )  # fmt: skip
    assert (found["classes"], found["classes_source"]) == (list("abc"), "the checkpoint's classes")
    assert found["preprocess"]["source"] == "checkpoint" and "torch" in found["versions"]
    assert commands["cam --method gradcam"] == commands["explain"] == ("works", "")
    named = {n for n, m in methods().items() if m.opens_model and n != "doctor"}
    assert named <= set(commands) and {"visualize --logit", "cam --method gradcam"} <= set(commands)
    assert not (tmp_path / "ws").exists()  # nothing is written
    lines = cnnlens("doctor", model, "-w", tmp_path / "ws").out
    assert "cam --method gradcam  works" in lines and "a, b, c" in lines


def test_what_is_not_defined_is_said_with_its_reason(nets: Path) -> None:
    size = ["--image-size", 24]
    found, commands = ask(f"{nets}:deep", *size)
    assert commands["cam"][0] == "not defined"
    assert "between the pooling and the class weights" in commands["cam"][1]
    status, why = commands["cam --method gradcam"]
    assert status == "works with an assumption" and "classes have no names" in why
    assert found["classes"] is None and "stem" in found

    commands = ask(f"{nets}:smooth", *size)[1]
    assert "no rule but the gradient for GELU" in commands["deconv"][1].replace("gelu", "GELU")

    commands = ask(f"{nets}:maps", *size)[1]
    assert commands["extract"][0] != "not defined"
    for name in ("explain", "outliers", "finetune", "visualize --logit", "cam"):
        assert commands[name][0] == "not defined" and commands[name][1], name

    found, commands = ask(f"{nets}:flat", *size)
    assert found["layers"]["count"] == 0 and found["outputs"] == 3
    assert commands["extract"][0] == commands["deconv"][0] == "not defined"


def test_assumptions_are_listed(nets: Path) -> None:
    found, commands = ask(f"{nets}:smooth", "--image-size", 24)
    assert "preprocessing" not in commands["extract"][1]  # overridden
    found, commands = ask("zoo:demo_net")
    assert "weights are random" in commands["dissect"][1]
    assert any("random weights" in note for note in found["notes"])


def test_probes_are_real(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("kernel is gone\nand more")

    monkeypatch.setattr("cnnlens.attribution.deconv.Projector.project", broken)
    commands = ask(model)[1]
    assert commands["deconv"] == ("not defined", "RuntimeError: kernel is gone")
    assert commands["visualize"] == commands["deconv"] and commands["extract"][0] == "works"


def test_file_that_does_not_open_is_told_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    answer = cnnlens("doctor", path, "--json")
    assert answer.code == 1 and "is a PNG image, not a model" in answer.error
    assert (answer.json["opens"], answer.json["file"]) == (False, "a PNG image")
    assert "not a model" in answer.json["why"] and answer.json["commands"] == []
    torch.save({"epoch": 3}, path)
    answer = cnnlens("doctor", path)
    assert answer.code == 1 and "but no state dict" in answer.error
    assert "does not open" in answer.out
    assert cnnlens("doctor", tmp_path / "gone.pt").code == 2


def test_python_asks_of_a_module_in_memory(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 2)).train()  # fmt: skip
    feed = package.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
    lens = package.Investigation(net, tmp_path, preprocess=feed, classes=["a", "b"], quiet=True)
    found = {one["command"]: one["status"] for one in lens.doctor()["commands"]}
    assert found["cam"] == "works" and net.training

"""Arrays that stand beside pictures are of just these pictures, whatever was made before."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.runner import cnnlens

from .test_measurement import save_net

#: a command, and two settings that give pictures of one name
COMMANDS = {
    "visualize": ("visualize -f conv2:1", "--steps 2", "--steps 4"),
    "classes": ("visualize --logit 1", "--steps 2", "--steps 4"),
    "cam": ("cam -i cat.png --method gradcam", "--class 0", "--class 1"),
    "deconv": ("deconv -f conv2:1 -i cat.png", "--method deconvnet", "--method gradient"),
    "invert": ("invert -l conv2 -i cat.png", "--steps 2", "--steps 4"),
    "style": (
        "style --content cat.png --style dog.png --content-layer conv1 --style-layer conv2",
        "--steps 2",
        "--steps 4",
    ),
    "fool": ("fool -i cat.png", "--steps 2 --confidence 0.6", "--steps 2 --confidence 0.9"),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_net(tmp_path / "net.pt", 0)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cat.png")
    Image.fromarray(noise[::-1, :, ::-1]).save(tmp_path / "dog.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(space: str, *words: str) -> str:
    command, *more = " ".join(words).split()
    answer = cnnlens(command, "net.pt", *more, "-w", space, "--no-page")
    assert answer.code == 0, answer.err
    return answer.err


def arrays(space: Path) -> dict[str, np.ndarray]:
    (file,) = space.rglob("*.npz")
    with np.load(file) as found:
        return dict(found)


@pytest.mark.parametrize("name", COMMANDS)
def test_arrays_of_an_earlier_picture_are_never_those_of_a_later_one(world: Path, name: str):
    command, first, second = COMMANDS[name]
    run("alone", command, second, "--raw")
    run("space", command, first, "--raw")
    run("space", command, second)
    assert not list((world / "space").rglob("*.npz"))  # they would lie beside another picture
    assert "made before" not in run("space", command, second, "--raw")
    expected, found = arrays(world / "alone"), arrays(world / "space")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    for again in ((), ("--raw",)):  # they stay where they are of this very picture
        assert "made before" in run("space", command, second, *again)
        assert arrays(world / "space").keys() == expected.keys()


def test_arrays_that_nobody_listed_are_made(world: Path):
    command, first, second = COMMANDS["visualize"]
    run("other", command, first, "--raw")
    run("space", command, second)
    shutil.copy(world / "other/visualize/conv2/1.npz", world / "space/visualize/conv2/1.npz")
    assert "made before" not in run("space", command, second, "--raw")

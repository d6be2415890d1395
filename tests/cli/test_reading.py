"""How images are read, said on the command line: --split and --range, recorded and part of keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (its filters)
import numpy as np
import pytest
from PIL import Image

from .photos import write_nets
from .runner import cnnlens


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for number, name in enumerate(
        f"{s}/{k}/{n}" for s in ("train", "val") for k in "ab" for n in "12"
    ):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 4096, (40, 40)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / "pets" / f"{name}.png")
    return tmp_path / "pets"


def data_of(space: Path) -> list[dict[str, Any]]:
    return list(json.loads((space / "workspace.json").read_text())["data"])


def images_of(store: Path) -> list[str]:
    with h5py.File(store) as file:
        return [name.decode() for name in file["images"][:]]


def test_splits_never_mix_and_later_commands_read_the_last_one(pets: Path, tmp_path: Path) -> None:
    space = tmp_path / "ws"
    net = (f"{write_nets(tmp_path)}:rgb", "--image-size", 40, "-w", space)
    refused = cnnlens("cluster", *net, "-d", pets, "-l", "conv1")
    assert refused.code == 2 and "splits, not categories: train, val" in refused.error
    for split in ("train", "VAL"):
        assert cnnlens("extract", *net, "-d", pets, "--split", split, "-l", "conv1").code == 0
    assert [(e["name"], e["split"]) for e in data_of(space)] == [
        ("pets-train", "train"), ("pets-val", "val")
    ]  # fmt: skip
    stores = {
        s: images_of(space / "activations" / f"pets-{s}" / "conv1.h5") for s in ("train", "val")
    }
    assert all(all(name.startswith(f"{s}/") for name in names) for s, names in stores.items())
    tree = ("cluster", "--only", "categories", "--bootstrap", 2, "--no-page", "-w", space)
    assert cnnlens(*tree).code == 0  # of val, which was named last
    summary = space / "cluster" / "conv1" / "summary.json"
    first = json.loads(summary.read_text())["categories"]["made_from"]["data"]
    again = cnnlens(*tree, "--split", "train")
    assert again.code == 0 and "done before" not in again.err
    assert json.loads(summary.read_text())["categories"]["made_from"]["data"] != first
    assert "done before" in cnnlens(*tree).err  # train is the last one now


def test_another_range_makes_another_store_and_another_picture(pets: Path, tmp_path: Path) -> None:
    space, data = tmp_path / "ws", pets / "val"
    net = (f"{write_nets(tmp_path)}:rgb", "--image-size", 40, "-w", space, "-l", "conv1")
    own = cnnlens("extract", *net, "-d", data)
    assert own.code == 0 and "0 to 4095 in uint16" in own.err
    named = cnnlens("extract", *net, "-d", data, "--range", "0,1000")
    assert named.code == 0 and "0 to 1000" in named.err
    assert [e["range"] for e in data_of(space)] == [{"uint16": [0, 4095]}, {"all": [0, 1000]}]
    assert "0 to 1000" in cnnlens("extract", "-w", space).err  # remembered
    files = [space / "activations" / name / "conv1.h5" for name in ("val", "val-0-1000")]
    with h5py.File(files[0]) as one, h5py.File(files[1]) as other:
        assert not np.allclose(one["activations"][:], other["activations"][:])
    cam = ("cam", "-i", data / "a" / "1.png", "--method", "gradcam", "--no-page", "-w", space)
    assert cnnlens(*cam, "--range", "0,4095").code == 0
    assert "made before" in cnnlens(*cam, "--range", "0,4095").err
    assert "made before" not in cnnlens(*cam, "--range", "0,500").err


@pytest.mark.parametrize("text", ["5", "9,1", "a,b", "1,2,3"])
def test_a_range_that_is_none_is_wrong_usage(text: str, pets: Path, tmp_path: Path) -> None:
    net = f"{write_nets(tmp_path)}:rgb"
    answer = cnnlens("extract", net, "-d", pets, "--range", text, "-w", tmp_path / "ws")
    assert answer.code == 2 and "--range" in answer.error

"""units on whatever images and networks there are: few, equal, grey, of many bands, with classes or
none; dead and constant units; layers of which one fails; Ctrl-C at any moment."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from cnnlens.progress import Step
from cnnlens.voice import Lines

from .photos import write_photos
from .runner import Answer, cnnlens, files, leftovers

NETS = """
import torch
from torch import nn

def _net(channels=3, spoil=None):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 4, 5, 2), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1))
    with torch.no_grad():  # unit j of layer 2 is twice unit 3 - j of layer 0, which is positive
        net[2].weight[:] = 2 * torch.eye(4).flip(0)[:, :, None, None]
        net[2].bias[:] = 0
        if spoil is not None:
            net[2].bias[:] = spoil
    return net

def copy(): return _net()
def many(): return _net(13)
def four(): return _net(4)
def grey(): return _net(1)
def dead(): return _net(spoil=-1e6)
def broken(): return _net(spoil=float("nan"))

def constant():
    net = _net()
    net[2].weight.data[1] = 0
    net[2].bias.data[1] = 1.5
    return net
"""
SIZE = ["--image-size", "24"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any")
    (folder / "nets.py").write_text(NETS)
    write_photos(folder / "photos", damaged=False)
    return folder


def units(place: Path, net: str, data: Path, ws: Path, *more: object) -> Answer:
    return cnnlens("units", f"{place / 'nets.py'}:{net}", "-d", data, "-w", ws, *SIZE, *more)


def rows(ws: Path, layer: str) -> list[dict[str, str]]:
    with (ws / "units" / layer / "units.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_fewer_images_than_bins(place: Path, tmp_path: Path) -> None:
    answer = units(place, "copy", place / "photos" / "a", tmp_path, "-l", "1", "--bins", 9)
    assert answer.code == 0, answer.err
    with h5py.File(tmp_path / "units" / "1" / "units.h5") as file:
        assert (file["bin_images"][()].sum(axis=1) == 1).all()
        assert ((file["examples"][()] >= 0).sum(axis=(1, 2)) == 1).all()


def test_a_dead_layer_is_counted_and_shown(place: Path, tmp_path: Path) -> None:
    answer = units(place, "dead", place / "photos", tmp_path, "-l", "3", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["dead_units"] == answer.json["units"] == 4
    for row in rows(tmp_path, "3"):
        assert (row["dead"], row["density"], row["peak_max"]) == ("true", "0.0", "0.0")
        assert row["neighbour"] == row["neighbour_correlation"] == row["class_selectivity"] == ""
    assert (tmp_path / "report.html").exists()


def test_a_constant_unit_has_no_neighbours_and_is_none(place: Path, tmp_path: Path) -> None:
    answer = units(place, "constant", place / "photos", tmp_path, "-l", "0", "-l", "3")
    assert answer.code == 0, answer.err
    constant = rows(tmp_path, "3")[1]
    assert (constant["dead"], constant["density"], constant["mean"]) == ("false", "1.0", "1.5")
    assert constant["class_selectivity"] == "0.0" and constant["neighbour"] == ""
    others = [*rows(tmp_path, "0"), *rows(tmp_path, "3")]
    assert "3:1" not in {row["neighbour"] for row in others}


def test_maps_of_one_position(place: Path, tmp_path: Path) -> None:
    answer = units(place, "copy", place / "photos", tmp_path, "-l", "4", "--json")
    assert answer.code == 0, answer.err
    with h5py.File(tmp_path / "units" / "4" / "units.h5") as file:
        assert (file["top_position"][()] == 0).all()
        assert (file["histogram"][()].sum(axis=1) == answer.json["images"]).all()


@pytest.mark.parametrize("net", ["copy", "grey"])
def test_grey_images(place: Path, tmp_path: Path, net: str) -> None:
    (tmp_path / "grey").mkdir()
    for number, path in enumerate(sorted((place / "photos" / "b").iterdir())[:5]):
        with Image.open(path) as image:
            image.convert("L").save(tmp_path / "grey" / f"{number}.png")
    answer = units(place, net, tmp_path / "grey", tmp_path / "w", "-l", "1", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["images"] == 5


def test_images_of_many_bands_are_shown_as_their_mean_and_that_is_said(
    place: Path, tmp_path: Path
) -> None:
    """Was the first three bands; band 5 alone differs between the images here."""
    (tmp_path / "bands").mkdir()
    for number in range(3):
        bands = np.full((24, 24, 13), 40, np.uint8)
        bands[..., 5] = 40 + 65 * number  # the mean is 40, 45, 50
        tifffile.imwrite(tmp_path / "bands" / f"{number}.tif", bands)
    answer = units(place, "many", tmp_path / "bands", tmp_path / "w", "-l", "1")
    assert answer.code == 0, answer.err
    assert "files of 13 bands, shown as their mean" in answer.err
    shown = []
    for path in (tmp_path / "w" / "images").iterdir():
        with Image.open(path) as image:
            shown.append(float(np.asarray(image).mean()))
    assert sorted(shown) == pytest.approx([40, 45, 50], abs=1.5)
    refused = units(place, "copy", tmp_path / "bands", tmp_path / "v", "-l", "1")
    assert refused.code == 1 and "13 bands, and the network takes 3 channels" in refused.error


def test_where_some_images_lack_a_band_it_is_said_that_colours_are_repeated(
    place: Path, tmp_path: Path
) -> None:
    (tmp_path / "p").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 24, 24, 4), np.uint8)
    for number, rgba in enumerate(pixels):
        Image.fromarray(rgba).save(tmp_path / "p" / f"{number}.png")
    said = "looked at have colours alone: they are repeated"
    answer = units(place, "four", tmp_path / "p", tmp_path / "w", "-l", "1")
    assert answer.code == 0 and said not in answer.err
    Image.fromarray(pixels[0, ..., :3]).save(tmp_path / "p" / "0.png")
    answer = units(place, "four", tmp_path / "p", tmp_path / "v", "-l", "1")
    assert answer.code == 0 and f"1 of 4 images of p {said}" in answer.err


def test_without_classes_their_columns_are_empty(place: Path, tmp_path: Path) -> None:
    columns = ("category", "category_share", "category_entropy", "class_selectivity")
    for name, data in (("flat", place / "photos" / "b"), ("classes", place / "photos")):
        answer = units(place, "copy", data, tmp_path / name, "-l", "1")
        assert answer.code == 0, answer.err
        known = {bool(row[column]) for row in rows(tmp_path / name, "1") for column in columns}
        assert known == {name == "classes"}


def test_nearest_units_are_found_over_layers_and_among_the_same_images_alone(
    place: Path, tmp_path: Path
) -> None:
    """Layer 2 repeats layer 0 in the other order; a store of other images stands beside."""
    flat = Path(shutil.copytree(place / "photos" / "b", tmp_path / "flat"))
    assert units(place, "copy", flat, tmp_path / "w", "-l", "1").code == 0
    answer = units(place, "copy", place / "photos", tmp_path / "w", "-l", "2", "-l", "0", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["layers"]["2"]["compared_with"] == ["2", "0"]
    for unit, row in enumerate(rows(tmp_path / "w", "2")):
        assert row["neighbour"] == f"0:{3 - unit}"
        assert float(row["neighbour_correlation"]) == pytest.approx(1, abs=1e-6)
    for unit, row in enumerate(rows(tmp_path / "w", "0")):
        assert row["neighbour"] == f"2:{3 - unit}"


def test_the_only_duplicate_of_a_class_counts_for_nothing(place: Path, tmp_path: Path) -> None:
    """The strongest image stands in another class once more: it is listed once, as it came."""
    photos = Path(shutil.copytree(place / "photos", tmp_path / "photos"))
    (photos / "c").mkdir()
    shutil.copy(photos / "b" / "07.png", photos / "c" / "again.png")
    answer = units(place, "copy", photos, tmp_path / "w", "-l", "1", "--top", 30)
    assert answer.code == 0, answer.err
    assert "1 image equal to earlier ones" in answer.err
    with h5py.File(tmp_path / "w" / "units" / "1" / "units.h5") as file:
        names = [name.decode() for name in file["images"]]
        listed = {names[row] for row in file["top"][()].ravel() if row >= 0}
    assert "b/07.png" in listed and "c/again.png" not in listed and len(listed) == 22


def test_where_one_layer_fails_the_other_can_be_had(place: Path, tmp_path: Path) -> None:
    both = units(place, "broken", place / "photos", tmp_path, "-l", "1", "-l", "2")
    assert both.code == 1 and "layer '2' is not finite on a/cat.png" in both.error
    assert leftovers(tmp_path) == [] and not (tmp_path / "units").exists()
    one = units(place, "broken", place / "photos", tmp_path, "-l", "1")
    assert one.code == 0, one.err
    again = units(place, "broken", place / "photos", tmp_path, "-l", "1", "-l", "2")
    assert again.code == 1 and len(rows(tmp_path, "1")) == 4


def test_behind_attention_units_are_shown_with_masks(place: Path, tmp_path: Path) -> None:
    """Was a crop of one patch, which is not all that such a unit sees."""
    pytest.importorskip("timm")
    net = tmp_path / "vit.py"
    net.write_text(
        "import timm\n"
        "def make():\n"
        "    return timm.create_model('vit_tiny_patch16_224', img_size=32, depth=2, embed_dim=24,\n"
        "                             num_heads=2, num_classes=5)\n"
    )
    answer = cnnlens(
        "units", f"{net}:make", "-d", place / "photos", "-l", "block2", "-l", "block2:cls",
        "-w", tmp_path / "w", "--image-size", 32, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    maps, token = (answer.json["layers"][name] for name in ("block2", "block2:cls"))
    assert maps["masked"] and token["masked"] and maps["units"] == token["units"] == 24
    assert all(whole for *_, whole in maps["seen"]["axes"])
    with h5py.File(tmp_path / "w" / "units" / "block2_cls" / "units.h5") as file:
        assert (file["top_position"][()] == 0).all()


# ---- interrupts

STAGES = ("extracting", "responses", "lists and neighbours", "pictures")


@pytest.fixture(scope="module")
def unbroken(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    workspace = tmp_path_factory.mktemp("unbroken")
    assert units(place, "copy", place / "photos", workspace, "-l", "1", "-l", "3").code == 0
    return files(workspace / "units")


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_every_stage(
    place: Path, unbroken: dict[str, bytes], tmp_path: Path, stage: str
) -> None:
    given = (place, "copy", place / "photos", tmp_path / "w", "-l", "1", "-l", "3")
    real, met = Lines.show, []

    def show(self: Lines, step: Step) -> None:
        real(self, step)
        if stage in step.stage and not met:
            met.append(step)
            raise KeyboardInterrupt

    with mock.patch.object(Lines, "show", show):
        answer = units(*given)
    assert met and (answer.code, answer.out) == (130, ""), answer.err
    assert "interrupted" in answer.error and leftovers(tmp_path) == []
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    for layer in (tmp_path / "w").glob("units/*/"):
        assert (layer / "summary.json").exists() or layer.name.startswith("."), layer
    assert units(*given).code == 0
    assert files(tmp_path / "w" / "units") == unbroken

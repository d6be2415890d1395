"""What is known of a unit comes together, whatever command came first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.report.dissection import dissection
from cnnlens.report.unit_page import UnitLayer, unit_layers

from .fake_workspace import make_workspace
from .test_units import photos, respond

__all__ = ["photos"]  # a fixture


def optimize(workspace: Path, layer: str, unit: int) -> None:
    """Do what `cnnlens visualize` does."""
    folder = workspace / "visualize" / layer
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / f"{unit}.png")
    entry = {"file": f"{unit}.png", "unit": unit, "initial": 1.0, "final": 9.0}
    (folder / "visualize.json").write_text(json.dumps({"layer": layer, "pictures": [entry]}))


@pytest.fixture
def workspace(photos: ImageSet, tmp_path: Path) -> Path:
    respond(tmp_path, photos)
    return tmp_path


def of(workspace: Path, layer: str = "conv5") -> UnitLayer:
    return {one.name: one for one in unit_layers(workspace)}[layer]


def test_images_have_place_peak_picture_and_mask(workspace: Path) -> None:
    page = of(workspace).page(0)
    assert page is not None and page.address == "conv5:0" and page.data == "photos"
    best = page.top[0]
    assert (best.image, best.place, best.peak) == ("4.png", (1, 2), 3.0)
    assert best.field == (8, 16, 16, 24) and best.map is not None and best.map[1, 2] == 15
    assert best.picture is not None and best.picture.is_file()
    assert [one.image for one in page.bottom] and page.bottom[0].peak is None
    assert sum(bin.images for bin in page.bins) == 6
    assert sum(bin.share for bin in page.bins) == pytest.approx(1)
    assert page.bins[1].examples[0].image == "4.png"
    assert of(workspace).strongest("4.png")[0] == (0, 3.0, (1, 2))
    assert of(workspace).strongest("no such image") == []
    assert page.neighbours[0].layer == "conv5" and page.histogram is not None


def test_a_dead_unit_shows_no_images(workspace: Path) -> None:
    page = of(workspace).page(2)
    assert page is not None and page.dead and not page.top and page.words == "dead, never above 0"


def test_what_other_methods_found_is_at_the_unit(photos: ImageSet, tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    optimize(tmp_path, "conv5", 1)
    respond(tmp_path, photos)
    page = of(tmp_path).page(1)
    assert page is not None and page.label is not None and page.label.measure == "IoU"
    assert page.label.runner_up_score is not None
    assert page.label.score > page.label.runner_up_score > 0
    assert page.label.p_value is not None and page.threshold is not None
    assert page.label.chance is not None
    assert page.top[0].image == "2.png"  # of `units`, not of the dissection
    (made,) = page.pictures
    assert (made.method, made.picture.name, made.large.name) == ("visualize", "1.png", "1.png")
    said = page.as_dict()
    assert json.loads(json.dumps(said))["label"]["text"] == page.label.text
    assert str(tmp_path) not in json.dumps(said)


def test_every_command_leaves_units_that_can_be_opened(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    optimize(tmp_path, "conv3", 7)
    dissected = of(tmp_path).page(1)
    assert dissected is not None and dissected.strip is not None and len(dissected.top) == 4
    assert dissected.histogram is not None
    optimized = of(tmp_path, "conv3").page(7)
    assert optimized is not None and len(optimized.pictures) == 1 and not optimized.top
    assert of(tmp_path, "conv3").page(6) is None


def test_places_in_trees_and_groups_are_facts_of_the_unit(workspace: Path) -> None:
    folder = workspace / "cluster" / "conv5"
    (folder / "filters").mkdir(parents=True)
    node = {"distance": 0.5, "critical_filter": 1, "filters": 3}
    leaves = [{"image": "0.png"}, {"image": "1.png"}]
    tree = {**node, "children": [{**node, "children": leaves}, {"image": "2.png"}]}
    (folder / "filters" / "dog.json").write_text(json.dumps(tree))
    entry = {"category": "dog", "file": "dog", "leaves": 3}
    summary = {"layer": "conv5", "filters": {"categories": [entry]}}
    (folder / "summary.json").write_text(json.dumps(summary))
    first, second, _ = of(workspace).pages
    assert not first.facts and second.facts == [("decides in the trees of", "dog (2)")]


def test_what_is_damaged_is_left_out(workspace: Path) -> None:
    optimize(workspace, "conv5", 1)
    (workspace / "units" / "conv5" / "units.h5").write_bytes(b"no")
    page = of(workspace).page(1)
    assert page is not None and page.pictures and not page.top


def test_a_workspace_without_results_has_no_layers(tmp_path: Path) -> None:
    assert unit_layers(tmp_path) == []


def keep_labelled_images(workspace: Path, layer: str = "conv5", images: int = 4) -> None:
    """Do what `cnnlens dissect` does for images that are shown one by one."""
    folder, units = workspace / "dissect" / layer, 5
    (workspace / "images").mkdir()
    Image.new("RGB", (32, 32), "teal").save(workspace / "images" / "0a.webp")
    maps = np.zeros((units, images, 7, 7), np.uint8)
    maps[:, :, 3, 4] = 15  # where the tables of `make_workspace` say that the peak is
    with h5py.File(folder / "pictures.h5", "w") as file:
        file["top_map"] = maps
        names = np.full((units, images), "0a.webp", object)
        file.create_dataset("files", data=names, dtype=h5py.string_dtype())
    summary = json.loads((folder / "summary.json").read_text())
    summary["seen"] = {"size": [32, 32], "axes": [[4.0, 4.0, 8.0, False]] * 2}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_labelled_images_are_kept_one_by_one_with_the_mask_of_the_threshold(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    keep_labelled_images(tmp_path)
    page = of(tmp_path).page(1)
    assert page is not None and len(page.top) == 4 and page.threshold is not None
    best = page.top[0]
    assert best.picture == tmp_path / "images" / "0a.webp" and best.field == (12, 16, 20, 24)
    assert best.peak is not None and best.level == pytest.approx(page.threshold / best.peak)
    assert best.outline() != "" == replace(best, level=1.5).outline()


def test_strips_of_kept_images_are_on_the_page_for_print_alone(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    strips = set(dissection(tmp_path).parts[0].pictures)  # type: ignore[union-attr]
    keep_labelled_images(tmp_path)
    found = dissection(tmp_path).parts[0]  # type: ignore[union-attr]
    assert set(found.pictures) == strips | {"images/0a.webp"}  # 5 units, all of them in print
    (layer,) = found.data["layers"]
    assert {unit["picture"] for unit in layer["units"]} == {None}
    assert layer["files"] == ["0a"] * len(layer["images"]) and tuple(layer["map"]) == (7, 7)
    unit = layer["units"][1]
    assert [divmod(place, layer["wide"]) for _, _, place in unit["top"]] == [(3, 4)] * 4
    assert len(unit["maps"]) == 4 and "f" in unit["maps"][0]


def test_damaged_pictures_of_labelled_images_are_named(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    keep_labelled_images(tmp_path)
    with h5py.File(tmp_path / "dissect" / "conv5" / "pictures.h5", "r+") as file:
        del file["top_map"]
        file["top_map"] = np.zeros((2, 4, 7, 7), np.uint8)
    with pytest.raises(CnnlensError, match=r"pictures\.h5 is damaged"):
        dissection(tmp_path)

"""Deep images that are named are as black and white as in the data set that holds them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.given import given_images
from cnnlens.data.given_ranges import KnownData, with_ranges
from cnnlens.data.ranges import Ranges

SIZE = (6, 8)


def put(file: Path, top: int, seed: int = 0) -> Path:
    """Write a 16-bit image of values from 0 up to just `top`."""
    values = np.random.default_rng(seed).integers(0, top, SIZE).astype(np.uint16)
    values[0, :2] = 0, top
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)
    return file


def known(path: Path, top: int, split: str = "") -> KnownData:
    ranges = Ranges((("uint16", 0.0, float(top)),))
    return KnownData(f"{path.name}-{top}", str(path), split, ranges)


def whites(paths: list[Path], data: list[KnownData]) -> tuple[Any, list[str]]:
    """Give the value that is white in each image, as its pixels show it; and what is said."""
    images, notes = with_ranges(given_images(paths), None, data)
    found = []
    for path, image in zip(paths, images, strict=True):
        with Image.open(path) as stored:
            values = np.asarray(stored).astype(float)
        pixels = np.asarray(image.load(1)).astype(float)
        fit = pixels < 255  # where nothing is cut off
        found.append(values[fit].sum() / pixels[fit].sum() * 255)
    return pytest.approx(found, rel=0.02), notes


def test_images_are_taken_as_the_data_set_that_holds_them(tmp_path: Path) -> None:
    twelve, sixteen = put(tmp_path / "a" / "1.png", 4000), put(tmp_path / "b" / "1.png", 60000, 1)
    data = [known(tmp_path / "a", 4095), known(tmp_path / "b", 65535)]
    assert whites([twelve], data) == (
        [4095], ["black to white are the values that they are in a-4095"]
    )  # fmt: skip
    assert whites([sixteen, twelve], data[::-1])[0] == [65535, 4095]
    found, notes = whites([sixteen, twelve], data)
    assert found == [65535, 4095] and len(notes) == 2 and "in b-65535" in notes[0]


def test_images_of_nowhere_are_taken_as_the_last_deep_data_set_where_they_fit(
    tmp_path: Path,
) -> None:
    image = put(tmp_path / "x" / "1.png", 4000)
    data = [
        known(tmp_path / "a", 65535),
        known(tmp_path / "b", 10000),
        KnownData("c", "/c"),
    ]
    assert whites([image], data) == (
        [10000], ["black to white are the values that they are in b-10000"]
    )  # fmt: skip
    found, notes = whites([put(tmp_path / "x" / "2.png", 30000)], data)
    assert found == [32767] and "--range" in notes[0]  # their own


def test_images_that_pass_the_range_of_their_own_data_set_are_cut_off_as_there(
    tmp_path: Path,
) -> None:
    image = put(tmp_path / "a" / "1.png", 4000)
    assert whites([image], [known(tmp_path / "a", 2000)])[0] == [2000]


def test_the_innermost_data_set_counts_then_the_last_one(tmp_path: Path) -> None:
    places = ("a/train/1.png", "a/val/1.png", "ab/1.png")
    train, val, beside = (put(tmp_path / place, 4000) for place in places)
    data = [
        known(tmp_path / "a", 10000, "train"), known(tmp_path / "a", 20000, "val"),
        known(tmp_path / "ab", 30000), known(tmp_path / "a", 40000),
    ]  # fmt: skip
    assert whites([train, val, beside], data)[0] == [10000, 20000, 30000]
    again = [known(tmp_path / "ab", 30000), known(tmp_path / "ab", 20000)]
    assert whites([beside], again)[0] == [20000]


@pytest.mark.parametrize("named", [True, False])
def test_an_archive_holds_its_members(tmp_path: Path, named: bool) -> None:
    file = put(tmp_path / "1.png", 4000)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(file, "cat/1.png")
    data = [known(tmp_path / "photos.zip", 10000), known(tmp_path / "other", 65535)]
    inside = tmp_path / "photos.zip" / "cat" if named else tmp_path / "photos.zip"
    (image,), notes = with_ranges(given_images([inside]), None, data)
    assert image.ranges.of("uint16") == (0, 10000) and "photos.zip-10000" in notes[0]


def test_a_range_that_is_said_holds_for_all(tmp_path: Path) -> None:
    paths = [put(tmp_path / "a" / "1.png", 4000), put(tmp_path / "b" / "1.png", 60000)]
    images, notes = with_ranges(given_images(paths), (0, 500), [known(tmp_path / "a", 4095)])
    assert {image.ranges.everything for image in images} == {(0, 500)} and len(notes) == 1

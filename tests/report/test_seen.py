"""Images as units see them: kept once, cut by receptive field, outlined by a mask."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.measure.unit_maps import STEPS
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Field
from cnnlens.report.figures.units import write_seen
from cnnlens.report.seen import Seen, View

HALF = (0.5, 0.5, 0.5)
NARROW = View((32, 48), (Field(8.0, 12.0, 4.0), Field(8.0, 12.0, 4.0)))
WHOLE = View((32, 48), (Field(8.0, 100.0, 4.0), Field(8.0, 100.0, 4.0)))


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    shades = (0, 100, 100, 200)  # the second and the third are equal
    for image, shade in enumerate(shades):
        Image.new("RGB", (600, 600), (shade,) * 3).save(tmp_path / f"{image}.png")
    return ImageSet(tmp_path, tuple(f"{i}.png" for i in range(4)), "classes", tuple("aabb"))


def test_equal_images_are_kept_once(photos: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    large = Preprocess((512, 512), HALF, HALF)
    files = dict(write_seen(folder, photos, [0, 1, 2, 3], large))
    assert files[1] == files[2] and len(set(files.values())) == 3 == len(list(folder.iterdir()))
    with Image.open(folder / files[3]) as picture:
        assert picture.size == (256, 256)
        assert np.abs(np.asarray(picture.convert("L")).astype(int) - 200).max() < 4
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert dict(write_seen(folder, photos, [2], large)) == {2: files[1]}
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_window_is_a_square_around_the_field_or_the_image() -> None:
    corner = Seen("a.png", 1.0, (0, 5), view=NARROW)
    assert corner.field == (-2, 38, 10, 50)  # top, left, bottom, right: 12 pixels, 2 outside
    assert corner.window() == (36 / 48, 0, 12 / 48)  # moved into the image
    middle = Seen("a.png", 1.0, (1, 2), view=NARROW)
    assert middle.window() == (14 / 48, 6 / 48, 12 / 48) and middle.view_box() == "14 6 12 12"
    assert Seen("a.png", 1.0, (0, 5), view=WHOLE).window() == (0, -8 / 48, 1)
    assert Seen("a.png", 1.0, (0, 5)).window() == (0, 0, 1)


def test_the_outline_is_where_the_map_is_half_its_peak() -> None:
    grid = np.zeros((4, 6), np.uint8)
    grid[1, 2] = STEPS
    path = Seen("a.png", 1.0, (1, 2), view=NARROW, map=grid).outline()
    assert path.startswith("M") and path.endswith("Z") and path.count("M") == 1
    points = np.array([pair.split(",") for pair in re.findall(r"[\d.]+,[\d.]+", path)], float)
    x, y = points.T  # cells are 8 × 8 pixels; between two centres a bilinear map halves midway
    assert (x.min(), x.max(), y.min(), y.max()) == (16, 24, 8, 16)


def test_an_outline_closes_at_the_border() -> None:
    grid = np.full((4, 6), STEPS, np.uint8)
    path = Seen("a.png", 1.0, (1, 2), view=NARROW, map=grid).outline()
    points = np.array([pair.split(",") for pair in re.findall(r"[\d.]+,[\d.]+", path)], float)
    assert points.min(axis=0).tolist() == [0, 0] and points.max(axis=0).tolist() == [48, 32]
    nothing = Seen("a.png", 1.0, (1, 2), view=NARROW, map=np.zeros((4, 6), np.uint8))
    assert nothing.outline() == "" == Seen("a.png", 1.0, (1, 2), view=NARROW).outline()

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.methods import sections
from cnnlens.report.blocks import at_units
from cnnlens.report.figures.dataset_examples import beside
from cnnlens.report.figures.visualize import (
    SheetCell,
    as_picture,
    of_weights,
    read_picture,
    sheet,
    title_of,
)
from cnnlens.report.page import write_report
from cnnlens.report.sections import visualizations
from cnnlens.report.sheet import save_png


def entry(file: str, **more: object) -> dict:
    return {"file": file, "unit": None, "initial": 0.5, "final": 12.25, "trace": [1.0], **more}


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "visualize" / "conv5"
    files = ["12.png", "3@1,2.png", "layer.png", "beside/12.png"]
    for file in files:
        save_png(folder / file, Image.new("RGB", (8, 8), "red"))
    pictures = [
        entry(
            "12.png",
            unit=12,
            label="hair",
            beside="beside/12.png",
            times_best=4.2,
            best_of={"name": "photos/dogs", "fingerprint": "f"},
        ),
        entry("3@1,2.png", unit=3, position=[1, 2]),
        entry("layer.png"),
        entry("gone.png", unit=7),
    ]
    document = {"layer": "conv5", "settings": {}, "pictures": pictures}
    (folder / "visualize.json").write_text(json.dumps(document))
    return tmp_path


def test_pictures_are_in_their_section_and_at_their_units(workspace):
    section = visualizations(workspace)
    (layer,) = section.parts
    (gallery,) = layer.blocks
    assert [shot.title for shot in gallery.shots] == [
        "unit 3 at 1,2", "unit 12", "the whole layer",
    ]  # fmt: skip
    at = {shot.unit: shot for name, shot in at_units(section) if name == "conv5"}
    assert at.keys() == {3, 12}
    assert at[12].large == workspace / "visualize/conv5/beside/12.png"
    assert "4.2 × the best image’s of dogs" in at[12].words


@pytest.mark.parametrize(
    ("method", "how"),
    [("pixels", ""), ("generator", "by a generator: "), ("maco", "by phases alone (MaCo): ")],
)
def test_pictures_say_what_drew_them(tmp_path, method, how):
    folder = tmp_path / "visualize/conv5"
    save_png(folder / "1.png", Image.new("RGB", (8, 8)))
    one = entry("1.png", unit=1, made_from={"settings": {"method": method}})
    (folder / "visualize.json").write_text(json.dumps({"layer": "conv5", "pictures": [one]}))
    (layer,) = visualizations(tmp_path).parts
    (shot,) = layer.blocks[0].shots
    assert shot.caption == f"{how}0.5 → 12.2"
    assert shot.words == f"Optimized {how[:-2]}{how and ' '}from noise: 0.5 → 12.2."
    html = write_report(tmp_path, sections()).read_text()
    assert "a unit’s highest activation" in html and "numbers are the objective" not in html


def test_the_page_shows_them(workspace):
    html = write_report(workspace, sections()).read_text()
    assert html.count('alt="Image that excites') == 3
    assert "hair" in html
    assert "0.5 → 12.2" in html


def test_nothing_visualized_no_section(tmp_path):
    assert visualizations(tmp_path) is None


def test_a_damaged_list_is_named(workspace):
    (workspace / "visualize/conv5/visualize.json").write_text('{"pictures": [{}]}')
    with pytest.raises(CnnlensError, match=r"visualize\.json is damaged"):
        visualizations(workspace)


@pytest.mark.parametrize(
    ("channels", "mode", "width"), [(1, "L", 5), (2, "L", 10), (3, "RGB", 5), (6, "RGB", 10)]
)
def test_images_of_any_number_of_channels_can_be_looked_at(channels, mode, width):
    image = np.random.default_rng(0).random((channels, 4, 5))
    picture = as_picture(image)
    assert (picture.mode, picture.size) == (mode, (width, 4))
    last = np.asarray(picture)[:, -5:].reshape(4, 5, -1)
    np.testing.assert_array_equal(last.transpose(2, 0, 1), np.rint(image[-last.shape[2] :] * 255))


def test_weights_are_drawn_about_grey():
    weights = np.zeros((3, 2, 2))
    weights[0, 0, 0], weights[1, 1, 1] = 2.0, -1.0
    drawn = np.asarray(of_weights(weights, 8))
    assert drawn[0, 0].tolist() == [255, 128, 128]
    assert drawn[7, 7].tolist() == [128, 64, 128]


def test_a_sheet_holds_every_picture():
    colours = [(10 * n, 200, 0) for n in range(7)]
    cells = [SheetCell(Image.new("RGB", (9, 9), c), f"unit {n}") for n, c in enumerate(colours)]
    shown = np.asarray(sheet(cells, "conv5")).reshape(-1, 3)
    counts = [int((shown == colour).all(1).sum()) for colour in colours]
    assert all(count == 176 * 176 for count in counts)


def test_a_sheet_of_one_picture_is_as_wide_as_its_title():
    title, cell = "features.12 · torchvision:squeezenet1_0", SheetCell(Image.new("L", (4, 4)), "3")
    alone, many = (np.asarray(sheet([cell] * n, title))[:40] for n in (1, 12))
    assert np.array_equal(alone, many[:, : alone.shape[1]])
    assert (many[:, alone.shape[1] :] == 255).all()  # nothing of it is cut
    assert sheet([cell], title * 9).width < 800


def test_what_stands_beside_marks_the_optimized_value():
    known = {
        "weights": np.ones((3, 5, 5)),
        "top": [np.full((20, 30, 3), 7, np.uint8)] * 8,
        "data": "photos",
        "values": np.linspace(0, 10, 200),
        "value": 40.0,
    }
    picture = Image.new("RGB", (16, 16), "blue")
    wide = np.asarray(beside([picture], "conv5 unit 1", **known)).astype(int)
    bare = np.asarray(beside([picture], "conv5 unit 1")).astype(int)
    assert wide.shape[1] > bare.shape[1] + 3 * 176
    mark = np.abs(wide[60:180] - [0xC9, 0x54, 0x00]).sum(2).min(0) < 60  # columns with its colour
    assert mark[-60:].any()  # far right: four times the best image


@pytest.mark.parametrize("channels", [1, 3, 4, 6, 13])
def test_pictures_are_read_as_they_were_drawn(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 7)).astype(np.float32) / 255
    as_picture(image).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_picture(tmp_path / "a.png", channels), image, atol=1e-6)
    if channels == 3:
        opacity = np.arange(35, dtype=np.uint8).reshape(5, 7)
        clear = as_picture(image, opacity)
        assert np.array_equal(np.asarray(clear)[..., 3], opacity)
        clear.save(tmp_path / "b.png")
        np.testing.assert_allclose(read_picture(tmp_path / "b.png", 3), image, atol=1e-6)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"unit": 3}, "unit 3 (2)"),
        ({"unit": None, "class": "cat"}, "cat (2)"),
        ({"unit": None, "concept": "part:hair"}, "part:hair (2)"),
        ({"unit": None}, "the whole layer (2)"),
    ],
)
def test_several_pictures_of_one_thing_are_numbered_on_the_sheet(about, said):
    assert title_of({**about, "variant": 2}) == said
    assert title_of(about) == said.removesuffix(" (2)")

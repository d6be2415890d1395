from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.attribution.projections import Patch
from cnnlens.errors import CnnlensError
from cnnlens.measure.ranked_targets import Ranked
from cnnlens.methods import sections
from cnnlens.model.receptive_field import Box, Field, field_box, shown_box
from cnnlens.report.blocks import at_units
from cnnlens.report.figures.attribution import draw_unit, masked, overlay, signed
from cnnlens.report.page import write_report
from cnnlens.report.sections import class_maps, projections
from cnnlens.report.sheet import save_png

from .browser import needs_browser
from .fake_workspace import make_workspace


def test_zero_is_grey_and_signs_go_both_ways() -> None:
    projection = np.zeros((20, 20, 3), np.float32)
    assert set(signed(projection).ravel()) == {128}
    projection[0, 0], projection[0, 1], projection[1, 0] = 2, -2, 1
    shown = signed(projection)
    assert shown[0, 0, 0] == 255 and shown[0, 1, 0] == 1 and 185 < shown[1, 0, 0] < 200
    assert (shown[5:] == 128).all()


def test_the_mask_keeps_what_drove_the_unit_and_nothing_else() -> None:
    image = np.full((40, 40, 3), 250, np.uint8)
    projection = np.zeros((40, 40, 3), np.float32)
    projection[5:15, 5:15] = 1
    shown = masked(image, projection)
    assert shown[10, 10].min() > 240 and shown[30, 30].max() < 150
    assert masked(image, projection * 0).max() < 150


def test_boxes_are_clipped_or_moved_into_the_image() -> None:
    field = Field(stride=8, size=16, start=4)
    fields = (field, field)
    assert field_box(fields, (0, 2), (40, 40)) == Box(0, 12, 12, 28)
    assert shown_box(fields, (0, 2), (40, 40)) == Box(0, 12, 16, 28)
    assert field_box(fields, (4, 4), (40, 40)) == Box(28, 28, 40, 40)
    assert shown_box(fields, (4, 4), (40, 40)) == Box(24, 24, 40, 40)


def test_a_field_larger_than_the_image_is_the_image() -> None:
    field = Field(stride=8, size=500, start=4)
    whole = Field(whole=True)
    for fields in ((field, field), (whole, whole)):
        assert field_box(fields, (1, 1), (40, 30)) == Box(0, 0, 40, 30)
        assert shown_box(fields, (1, 1), (40, 30)) == Box(0, 0, 40, 30)


def test_nine_patches_make_three_blocks_of_three_by_three() -> None:
    patches = [
        Patch(np.full((8, 8, 3), 20 * n, np.uint8), np.zeros((8, 8, 3), np.float32))
        for n in range(9)
    ]
    picture = np.asarray(draw_unit(patches, "unit", ("", "")).convert("L"))
    row = picture[120]
    first = [20 * n for n in range(3)]
    assert [v for v in dict.fromkeys(row.tolist()) if v in first] == first
    assert (row == 128).sum() > 400  # the block of projections is grey


def test_heat_leaves_what_is_not_positive_alone() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    assert (overlay(image, -np.ones((4, 4), np.float32)) == 100).all()
    heat = -np.ones((4, 4), np.float32)
    heat[0, 0] = 5
    shown = overlay(image, heat).astype(int)
    assert shown[2, 2, 0] - shown[2, 2, 2] > 60 and (shown[20:, 20:] == 100).all()


def test_ranked_keeps_top_images_by_peak_and_by_position() -> None:
    maps = np.random.default_rng(0).normal(size=(30, 4, 5, 6)).astype(np.float32)
    maps[:, 2] = -1
    maps[:, 3] = 0.5
    ranked = Ranked([(0, None), (1, (2, 3)), (2, None), (3, None)], 4)
    for start in range(0, 30, 7):
        ranked.update(np.arange(start, min(start + 7, 30)), maps[start : start + 7])
    peaks, values = maps[:, 0].max((1, 2)), maps[:, 1, 2, 3]
    assert [p for p, _ in ranked.best(0)] == np.argsort(-peaks)[:4].tolist()
    assert [p for p, _ in ranked.best(1)] == np.argsort(-values)[:4].tolist()
    assert ranked.dead(0) == ranked.dead(1) == ""
    assert ranked.dead(2) == "never above 0 on 30 images"
    assert ranked.dead(3) == "the same value, 0.5, all over 30 images"


def _with_pictures(workspace: Path, layer: str) -> None:
    for folder, entries in (
        (workspace / "deconv" / layer, [{"file": "3.png", "unit": 3}, {"file": "gone.png"}]),
        (workspace / "cam", [{"file": "cat.png", "image": "photos/cat.jpg"}]),
    ):
        folder.mkdir(parents=True)
        Image.new("RGB", (30, 10), "teal").save(folder / entries[0]["file"])
        name = "cam.json" if folder.name == "cam" else "deconv.json"
        document = {"layer": layer, "dead_units": [7, 9], "pictures": entries}
        (folder / name).write_text(json.dumps(document))


def test_pictures_stand_at_their_unit_and_in_their_sections(tmp_path: Path) -> None:
    layer = "features.9"
    make_workspace(tmp_path, {layer: 12})
    _with_pictures(tmp_path, layer)
    section = projections(tmp_path)
    assert section is not None
    assert [(name, shot.unit, shot.picture) for name, shot in at_units(section)] == [
        (layer, 3, tmp_path / f"deconv/{layer}/3.png")
    ]
    html = write_report(tmp_path, sections()).read_text(encoding="utf-8")
    assert 'id="deconv"' in html and "dead: 7, 9" in html and "all nine" not in html
    assert 'id="cam"' in html and "Class maps of photos/cat.jpg" in html


@pytest.mark.parametrize(
    ("method", "caption", "heading"),
    [
        ("deconvnet", "given image: activation 2", "What drove it"),
        ("guided", "given image, by guided backpropagation: activation 2", "What drove it"),
        ("gradient", "given image, by the plain gradient: activation 2", "What would change it"),
    ],
)
def test_projections_say_by_which_method_they_are(tmp_path, method, caption, heading) -> None:
    folder = tmp_path / "deconv" / "conv5"
    folder.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "3.png")
    about = {"method": method, "of": "given image", "images": [{"activation": 2.0}]}
    entry = {"file": "3.png", "unit": 3, **about}
    (folder / "deconv.json").write_text(json.dumps({"layer": "conv5", "pictures": [entry]}))
    section = projections(tmp_path)
    assert section is not None
    ((_, shot),) = at_units(section)
    assert (shot.caption, shot.heading) == (caption, heading)
    assert "by DeconvNet, where no other" in write_report(tmp_path, sections()).read_text("utf-8")


def with_a_sheet(workspace: Path) -> Path:
    """Write what `deconv` leaves of a unit on four images: red, green, blue and white patches."""
    folder = workspace / "deconv" / "conv5"
    folder.mkdir(parents=True)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    patches = [
        Patch(np.full((8, 8, 3), colour, np.uint8), np.zeros((8, 8, 3), np.float32))
        for colour in colours
    ]
    save_png(folder / "3.png", draw_unit(patches, "unit 3", ("", "")))
    document = {"layer": "conv5", "pictures": [{"file": "3.png", "unit": 3}]}
    (folder / "deconv.json").write_text(json.dumps(document))
    return workspace


def intro(workspace: Path) -> str:
    html = write_report(workspace, sections()).read_text("utf-8")
    return html.partition("Each tile is a unit")[2].partition("</p>")[0]


def test_of_units_that_were_only_projected_no_more_is_said(tmp_path: Path) -> None:
    assert intro(with_a_sheet(tmp_path)) == ", with a picture that was made of it; it opens."
    make_workspace(tmp_path / "more", {"features.9": 12})
    both = intro(with_a_sheet(tmp_path / "more"))
    assert "images that excite it most or a picture that was made of it;" in both
    assert "Above 0" not in both


@needs_browser
def test_the_tile_of_a_unit_that_was_only_projected_shows_its_patches(visit, tmp_path) -> None:
    seen = visit(write_report(with_a_sheet(tmp_path), sections()))
    tile = seen.locator(".tile .four")
    tile.wait_for()
    with Image.open(BytesIO(tile.screenshot())) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    high, wide = shown.shape[:2]
    edge = high // 20  # of the sheet, titles would stand there
    places = [(edge, edge), (edge, wide - edge), (high - edge, edge)]
    for place, colour in zip(places, np.eye(3), strict=True):
        assert np.abs(shown[place] - 255 * colour).max() < 12


@pytest.mark.parametrize(
    ("method", "words"), [("cam", "class activation maps"), ("gradcam", "Grad-CAM")]
)
def test_class_maps_say_by_which_method_they_are(tmp_path, method, words) -> None:
    (tmp_path / "cam").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "cam/a.png")
    entry = {"file": "a.png", "image": "a.jpg", "layer": "layer4", "method": method}
    (tmp_path / "cam/cam.json").write_text(json.dumps({"pictures": [entry]}))
    section = class_maps(tmp_path)
    assert section is not None
    assert [shot.caption for shot in section.parts[0].shots] == [f"{words} at layer4"]


def test_a_page_of_projections_alone(tmp_path: Path) -> None:
    _with_pictures(tmp_path, "conv2")
    assert 'id="deconv"' in write_report(tmp_path, sections()).read_text(encoding="utf-8")
    shutil.rmtree(tmp_path / "deconv")
    assert projections(tmp_path) is None and class_maps(tmp_path) is not None


def test_damaged_lists_are_named(tmp_path: Path) -> None:
    _with_pictures(tmp_path, "conv2")
    (tmp_path / "cam" / "cam.json").write_text("{}")
    with pytest.raises(CnnlensError, match=r"cam\.json is damaged"):
        class_maps(tmp_path)

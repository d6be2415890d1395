"""What units show: cells, the section and what opens from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.measure.units import units
from cnnlens.methods import sections
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Field
from cnnlens.report.figures import plane_seen
from cnnlens.report.figures.units import cell, write_seen
from cnnlens.report.page import write_report
from cnnlens.report.seen import Seen
from cnnlens.report.unit_files import listed_rows, read_units, write_pictured, write_tables
from cnnlens.report.units import units as section
from cnnlens.settings import UnitsSettings
from tests.measure.test_units import Maps

from .browser import needs_browser

SIDE = 32
HALF = (0.5, 0.5, 0.5)
PREPROCESS = Preprocess((SIDE, SIDE), HALF, HALF)
FIELDS = (Field(8.0, 8.0, 4.0), Field(8.0, 8.0, 4.0))  # a grid of 4 × 4, side by side
WHOLE = (Field(8.0, 100.0, 4.0), Field(8.0, 100.0, 4.0))
SETTINGS = UnitsSettings(top=3, bins=2, per_bin=2, neighbours=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Six images of 4 × 4 fields, each of a grey of its own: 10 · image + 16 · field."""
    folder = tmp_path_factory.mktemp("photos")
    for image in range(6):
        grid = (np.arange(16).reshape(4, 4) * 14 + 5 * image).astype(np.uint8)
        pixels = grid.repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).convert("RGB").save(folder / f"{image}.png")
    names = tuple(f"{image}.png" for image in range(6))
    return ImageSet(folder, names, "classes", tuple("aabbcc"))


def planted() -> np.ndarray:
    """Unit 0 peaks on image 4 at (1, 2), unit 1 on image 2 at (0, 0); unit 2 is dead."""
    maps = np.random.default_rng(0).uniform(0, 0.5, (6, 3, 4, 4)).astype(np.float32)
    maps[4, 0, 1, 2] = 3
    maps[2, 1, 0, 0] = 2
    maps[:, 2] = 0
    return maps


def grey(image: int, y: int, x: int) -> int:
    return (4 * y + x) * 14 + 5 * image


def respond(workspace: Path, photos: ImageSet, layer: str = "conv5", fields: Any = FIELDS) -> None:
    """Do what `cnnlens units` does on three planted units."""
    folder = workspace / "units" / layer
    folder.mkdir(parents=True)
    (found,) = units(Maps(planted()), photos, SETTINGS, [layer])
    wanted = found.positions[listed_rows(found)].tolist()
    files = dict(write_seen(workspace / "images", photos, wanted, PREPROCESS))
    write_tables(folder, found, photos.paths)
    write_pictured(folder, found, files)
    axes = [[f.start, f.stride, f.size, f.whole] for f in fields]
    summary = {**found.summary(), "layer": layer, "data": {"name": "photos"}, "dead_units": 1,
               "seen": {"size": PREPROCESS.size, "axes": axes}}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def workspace(photos: ImageSet, tmp_path: Path) -> Path:
    respond(tmp_path / "ws", photos)
    return tmp_path / "ws"


def top_of(workspace: Path, unit: int) -> Seen:
    return read_units(workspace / "units" / "conv5").units[unit].top[0]


def test_a_cell_is_the_receptive_field_at_the_peak(workspace: Path) -> None:
    for unit, (image, y, x) in enumerate([(4, 1, 2), (2, 0, 0)]):
        shown = np.asarray(cell(top_of(workspace, unit), 64)).astype(int)
        inside = shown[8:-8, 8:-8]
        assert np.abs(inside[..., :3] - grey(image, y, x)).max() <= 12
        assert (shown[..., 3] == 255).all()


def test_who_sees_the_whole_image_is_shown_by_its_mask(photos: ImageSet, tmp_path: Path) -> None:
    respond(tmp_path / "ws", photos, fields=WHOLE)
    one = top_of(tmp_path / "ws", 0)
    shown = np.asarray(cell(one, 128).convert("RGB")).astype(int)
    yellow = shown[..., 0] - shown[..., 2] > 60
    rows, columns = np.nonzero(yellow)
    assert yellow.sum() > 50  # the outline, around field (1, 2) of 4 × 4
    assert rows.min() >= 24 and rows.max() <= 72 and columns.min() >= 56 and columns.max() <= 104
    assert np.abs(shown[48, 80] - grey(4, 1, 2)).max() <= 12


def test_channels_that_are_no_colours_are_shown_as_their_mean(photos: ImageSet) -> None:
    grey_net = Preprocess((SIDE, SIDE), (0.5,), (0.5,))
    shown = plane_seen(photos, 3, grey_net)
    assert shown.shape == (SIDE, SIDE, 3) and (shown == shown[..., :1]).all()
    np.testing.assert_array_equal(shown[12, 20], [grey(3, 1, 2)] * 3)


def test_an_image_that_is_gone_is_grey_and_a_folder_that_is_gone_an_error(tmp_path: Path) -> None:
    settings = Preprocess((SIDE, SIDE))
    assert (plane_seen(ImageSet(tmp_path, ("a.png",)), 0, settings) == 128).all()
    with pytest.raises(CnnlensError, match="away is gone since the command began"):
        plane_seen(ImageSet(tmp_path / "away", ("a.png",)), 0, settings)


def test_the_share_of_a_class_stands_beside_its_share_of_all_images(
    photos: ImageSet, tmp_path: Path
) -> None:
    more = ImageSet(photos.root, photos.paths, "classes", tuple("abbbba"))
    respond(tmp_path / "ws", more)
    folder = tmp_path / "ws" / "units" / "conv5"
    unit = read_units(folder).units[0]
    # of six images all are among the highest 100: the share is what chance gives
    assert unit.category == "b" and unit.category_share == unit.chance == pytest.approx(4 / 6)
    assert unit.words.endswith("b in 67% of its top images (67% of all)")
    found: Any = section(tmp_path / "ws")
    listed = found.parts[0].data["layers"][0]["responses"]
    assert listed["chance"][0] == pytest.approx(4 / 6, 1e-3)
    assert not unit.stands_out and listed["telling"][0] == 0  # so it does not name the unit

    summary = json.loads((folder / "summary.json").read_text())
    copies = {**summary, "repeated_images": 1}  # which an earlier version counted, but did not list
    del summary["category_counts"]  # as a still earlier version wrote it
    for written in (copies, summary):
        (folder / "summary.json").write_text(json.dumps(written))
        earlier = read_units(folder).units[0]
        assert earlier.words.endswith("b in 67% of its top images") and earlier.stands_out


def test_the_section_says_what_is_known(workspace: Path) -> None:
    found: Any = section(workspace)
    (explorer,) = found.parts
    (layer,) = explorer.data["layers"]
    listed, wide = layer["responses"], layer["wide"]
    assert listed["unit"] == [0, 1, 2] and listed["dead"] == [0, 0, 1]
    assert listed["peak"][:2] == [3.0, 2.0] and listed["class"][0] in "abc"
    image, place = listed["top"][0][:2]
    assert layer["images"][image] == "4.png" and divmod(place, wide) == (1, 2)
    peaks, maps, bottom, examples, counts, ends, near, spread, makeup = json.loads(layer["more"][0])
    assert peaks[0] == 3.0 and ends == [0.0, 3.0] and sum(counts) == 6
    assert len(examples) == 2 and len(bottom) == 6 and near[0][:2] == ["conv5", 1]
    assert spread["counts"][-1] > 0
    assert layer["classes"] == ["a", "b", "c"] and sorted(makeup) == [0, 1, 2, 2, 2, 2]
    zeros = re.sub("[g-z]", lambda run: "0" * (ord(run[0]) - 102), maps[0])
    assert len(zeros) == 16 and zeros[6] == "f"  # row 1, column 2
    unit, place, peak = layer["strongest"][image][:3]
    assert (unit, divmod(place, wide), peak) == (0, (1, 2), 3.0)
    keys = {f"images/{name}.webp" for name in explorer.data["files"]}
    assert keys == set(explorer.pictures) and len(keys) == 6
    assert [explorer.pictures[key].is_file() for key in keys] == [True] * 6
    assert section(workspace / "nowhere") is None


def test_every_image_stands_once_in_the_html(workspace: Path) -> None:
    html = write_report(workspace, sections()).read_text(encoding="utf-8")
    kept = re.findall(r'<image id="(\w+)" data-key="images/(\w+)\.webp" href="(data:[^"]+)"', html)
    assert kept and all(name == key for name, key, _ in kept)
    for name, _, source in kept:
        assert html.count(source) == 1 and f'<use href="#{name}"/>' in html
    boxes = re.findall(r'<svg class="see" viewBox="([^"]+)"[^>]*aria-label="4\.png"', html)
    assert "16 8 8 8" in boxes  # the field at (1, 2)


def test_a_unit_that_was_only_visualized_or_dissected_is_listed(tmp_path: Path) -> None:
    from .fake_workspace import make_workspace

    make_workspace(tmp_path / "ws", {"conv5": 5}, images=4)
    found: Any = section(tmp_path / "ws")
    known = {"facts": {}, "names": {}, "worst": {}, "responses": None}
    assert found.parts[0].data["layers"] == [{"name": "conv5", **known}]


def test_damaged_tables_are_named(workspace: Path) -> None:
    folder = workspace / "units" / "conv5"
    lines = (folder / "units.csv").read_text().splitlines()
    (folder / "units.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(Exception, match=r"units.csv is damaged: it has 2 rows"):
        read_units(folder)


def bare(workspace: Path) -> Path:
    (workspace / "units" / "conv5" / "pictures.h5").unlink()
    return workspace


def test_that_pictures_were_left_out_is_said(workspace: Path) -> None:
    said = "No pictures were kept of <span"
    assert said not in write_report(workspace, sections()).read_text()
    assert said in write_report(bare(workspace), sections()).read_text()


@needs_browser
def test_without_pictures_there_is_the_table_alone(workspace: Path, visit) -> None:
    tab = visit(write_report(bare(workspace), sections())).page
    assert tab.locator(".tile").count() == 0 and tab.locator("text=Tiles").count() == 0
    assert tab.locator(".units-table [role=row]").count() >= 3
    tab.click("a.number >> nth=0")
    assert tab.inner_text("#panel h2") == "Unit 0"


@needs_browser
def test_tiles_are_sorted_searched_and_opened(workspace: Path, visit) -> None:
    page = write_report(workspace, sections())
    tab = visit(page).page
    names = "[...document.querySelectorAll('.tile b')].map((b) => b.textContent)"
    assert tab.evaluate(names) == ["0", "1"]  # the dead one is hidden
    tab.select_option("[aria-label=Order]", label="by number")
    tab.check(".controls input[type=checkbox]")
    tab.wait_for_selector(".tile >> nth=2")
    assert tab.evaluate(names) == ["0", "1", "2"]
    tab.focus(".tile")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#unit=conv5:1"
    tab.keyboard.press("/")
    tab.keyboard.type("1")
    tab.wait_for_selector(".tile >> nth=1", state="detached")
    tab.click(".tile")
    assert tab.inner_text("#panel h2") == "Unit 1"
    assert tab.evaluate("location.hash") == "#unit=conv5:1"
    cells = "[...document.querySelectorAll('.nine svg.see')].map((s) => s.getAttribute('viewBox'))"
    crops = tab.evaluate(cells)
    assert len(crops) == 3 and crops[0] == "0 0 8 8"
    tab.keyboard.press("c")
    assert set(tab.evaluate(cells)) == {"0 0 32 32"}
    tab.keyboard.press("m")
    assert tab.evaluate("document.querySelectorAll('.nine .masked .mask').length") == 3
    outline = tab.evaluate("document.querySelector('.nine .mask').getAttribute('d')")
    there = re.findall(r"[\d.]+,[\d.]+", top_of(workspace, 1).outline())
    assert sorted(re.findall(r"[\d.]+,[\d.]+", outline)) == sorted(there)
    copied = "plainOf(panel_unit, panel_unit.layer.opened(panel_unit))"
    copied = copied.replace("panel_unit", "allUnits.find('conv5', 1)")
    head, values = tab.evaluate(f"csvOf({copied}[0])").strip().split("\n")
    row = dict(zip(head.split(","), values.split(","), strict=True))
    assert (row["layer"], row["unit"], row["peak_max"]) == ("conv5", "1", "2")
    top = tab.evaluate(f"{copied}[1].top[0]")
    assert top == {"image": "2.png", "peak": 2, "place": [0, 0]}
    tab.click("#panel .nine a")
    assert tab.inner_text("#panel h2") == "2.png"
    assert "Units that fire most" in tab.inner_text("#panel")
    tab.goto(f"{page.as_uri()}#unit=conv5:2")
    tab.wait_for_selector("#panel[open]")
    assert "never above 0" in tab.inner_text("#panel")


@needs_browser
def test_a_dissected_unit_shows_both(tmp_path: Path, photos: ImageSet, visit) -> None:
    from .fake_workspace import make_workspace

    make_workspace(tmp_path / "ws", {"conv5": 5}, images=4)
    respond(tmp_path / "ws", photos)
    page = write_report(tmp_path / "ws", sections())
    tab = visit(page, "#unit=conv5:1").page
    heads = "[...document.querySelectorAll('#panel h3')].map((one) => one.textContent)"
    found = tab.evaluate(heads)
    above = "Where it is above its threshold, on labelled images"
    assert found.index("Highest peaks") < found.index(above) < found.index("Its best concepts")
    assert "runner-up" in tab.inner_text("#panel")
    tab.goto(f"{page.as_uri()}#unit=conv5:4")  # of which nothing but the dissection is known
    tab.wait_for_timeout(200)
    assert "Highest peaks" not in tab.evaluate(heads)

"""What units show: crops, masks, the section and what opens from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.measure.units import units
from cnnlens.methods import sections
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Field
from cnnlens.report.figures import plane_seen
from cnnlens.report.figures.units import CELL, SMALL, sees_all, top_maps, write_pictures
from cnnlens.report.page import write_report
from cnnlens.report.unit_files import read_units, write_tables
from cnnlens.report.units import units as section
from cnnlens.settings import UnitsSettings
from tests.measure.test_units import Maps

SIDE = 32
HALF = (0.5, 0.5, 0.5)
PREPROCESS = Preprocess((SIDE, SIDE), HALF, HALF)
FIELDS = (Field(8.0, 8.0, 4.0), Field(8.0, 8.0, 4.0))  # a grid of 4 × 4, side by side
WIDE = (Field(8.0, 12.0, 4.0), Field(8.0, 12.0, 4.0))  # sticks out by 2 pixels
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


def draw(folder: Path, photos: ImageSet, fields: Any, maps: np.ndarray | None = None) -> Any:
    (found,) = units(Maps(planted()), photos, SETTINGS)
    folder.mkdir(parents=True)
    own = None if maps is None else np.stack([maps[found.top[u], u] for u in range(3)])
    assert list(write_pictures(folder, photos, found, fields, PREPROCESS, own)) == [3]
    write_tables(folder, found, photos.paths)
    return found


def cell(folder: Path, unit: int, kind: str = "pictures", at: tuple[int, int] = (0, 0)) -> Any:
    side = CELL if kind == "pictures" else SMALL
    with Image.open(folder / kind / f"{unit}.webp") as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    return pixels[at[0] * side : (at[0] + 1) * side, at[1] * side : (at[1] + 1) * side]


def test_a_cell_is_the_receptive_field_at_the_peak(photos: ImageSet, tmp_path: Path) -> None:
    found = draw(tmp_path / "x", photos, FIELDS)
    for unit, (image, y, x) in enumerate([(4, 1, 2), (2, 0, 0)]):
        inside = cell(tmp_path / "x", unit)[..., :3].astype(int)
        assert np.abs(inside - grey(image, y, x)).max() <= 8
    for unit in (0, 1):
        for bin in range(2):
            for down in range(2):
                row = found.examples[unit, bin, down]
                seen = cell(tmp_path / "x", unit, "examples", (down, bin))
                if row < 0:
                    assert not seen[..., 3].any()
                else:
                    y, x = found.example_position[unit, bin, down]
                    assert np.abs(seen[8:-8, 8:-8, :3].astype(int) - grey(row, y, x)).max() <= 16
    assert not (tmp_path / "x" / "pictures" / "2.webp").exists()  # dead


def test_what_a_field_sees_beyond_the_image_is_clear(photos: ImageSet, tmp_path: Path) -> None:
    draw(tmp_path / "x", photos, WIDE)
    corner = cell(tmp_path / "x", 1)  # at (0, 0): its field begins 2 of 12 pixels outside
    edge = round(CELL * 2 / 12)
    soft = 10  # pixels: one of the input's
    assert not corner[: edge - soft, :, 3].any() and not corner[:, : edge - soft, 3].any()
    assert (corner[edge + soft :, edge + soft :, 3] == 255).all()


def test_who_sees_the_whole_image_is_shown_by_its_mask(photos: ImageSet, tmp_path: Path) -> None:
    assert sees_all(WHOLE, (SIDE, SIDE)) and not sees_all(WIDE, (SIDE, SIDE))
    draw(tmp_path / "masked", photos, WHOLE, planted())
    draw(tmp_path / "plain", photos, WHOLE)
    masked, plain = (cell(tmp_path / name, 0)[..., :3].astype(int) for name in ("masked", "plain"))
    y, x = (CELL * 3) // 8, (CELL * 5) // 8  # the middle of field (1, 2)
    assert np.abs(masked[y, x] - plain[y, x]).max() <= 12
    outside = np.s_[-20:-4, 4:20]  # dimmed, and still to be seen
    share = masked[outside].mean() / plain[outside].mean()
    assert 0.55 < share < 0.75
    yellow = (masked[..., 0] - masked[..., 2] > 20).sum()  # the outline, a line thin
    assert yellow > 50 and (np.abs(plain[..., 0] - plain[..., 2]) <= 10).all()


def test_maps_of_top_images_are_read_from_the_store() -> None:
    maps = planted()

    class Kept:
        shape = maps.shape

        def batches(self) -> Any:
            for start in range(0, 6, 4):
                yield np.arange(start, min(start + 4, 6)), maps[start : start + 4]

    rows = np.array([[4, 0], [5, -1], [3, 3]])
    found = top_maps(Kept(), rows)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[0], maps[[4, 0], 0])
    np.testing.assert_array_equal(found[1, 0], maps[5, 1])
    assert not found[1, 1].any()


def test_channels_that_are_no_colours_are_shown_as_their_mean(photos: ImageSet) -> None:
    grey_net = Preprocess((SIDE, SIDE), (0.5,), (0.5,))
    shown = plane_seen(photos, 3, grey_net)
    assert shown.shape == (SIDE, SIDE, 3) and (shown == shown[..., :1]).all()
    np.testing.assert_array_equal(shown[12, 20], [grey(3, 1, 2)] * 3)


@pytest.fixture
def workspace(photos: ImageSet, tmp_path: Path) -> Path:
    folder = tmp_path / "ws" / "units" / "conv5"
    draw(folder, photos, FIELDS)
    (folder / "summary.json").write_text('{"layer": "conv5", "categories": ["a"], "dead_units": 1}')
    return tmp_path / "ws"


def test_the_section_says_what_is_known(workspace: Path) -> None:
    found: Any = section(workspace)
    (explorer,) = found.parts
    (layer,) = explorer.data["layers"]
    one = layer["units"][0]
    assert one["top"][0] == (layer["images"].index("4.png"), 3.0)
    assert one["category"] in "abc" and one["counts"] and sum(one["counts"]) == 6
    assert one["near"][0][0] == "0" and one["histogram"]["counts"][-1] > 0
    assert layer["units"][2]["dead"] and not layer["units"][2]["pictures"]
    assert set(explorer.pictures) == {
        f"units/conv5/{kind}/{unit}.webp" for kind in ("pictures", "examples") for unit in (0, 1)
    }
    assert section(workspace / "nowhere") is None


def test_damaged_tables_are_named(workspace: Path) -> None:
    folder = workspace / "units" / "conv5"
    lines = (folder / "units.csv").read_text().splitlines()
    (folder / "units.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(Exception, match=r"units.csv is damaged: it has 2 rows"):
        read_units(folder)


BROWSER = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_tiles_are_sorted_searched_and_opened(workspace: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    page = write_report(workspace, sections())
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page()
        wrong: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page.as_uri())
        names = "[...document.querySelectorAll('.tile b')].map((b) => b.textContent)"
        assert tab.evaluate(names) == ["0", "1"]  # the dead one is hidden
        tab.select_option(".responses select", label="by number")
        tab.check(".responses input[type=checkbox]")
        assert tab.evaluate(names) == ["0", "1", "2"]
        tab.fill(".responses input[type=search]", "1")
        tab.wait_for_function("document.querySelectorAll('.tile').length === 1")
        tab.click(".tile")
        assert tab.inner_text("#panel h2") == "Unit 1"
        assert tab.evaluate("location.hash") == "#unit=conv5:1"
        assert tab.evaluate("document.querySelectorAll('#panel .cells .cut').length") == 3
        tab.goto(f"{page.as_uri()}#unit=conv5:2")
        tab.wait_for_selector("#panel[open]")
        assert "never above 0" in tab.inner_text("#panel")
        browser.close()
    assert wrong == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_dissected_unit_shows_both(tmp_path: Path, photos: ImageSet) -> None:
    api = pytest.importorskip("playwright.sync_api")
    from .fake_workspace import make_workspace

    make_workspace(tmp_path / "ws", {"conv5": 5}, images=4)
    draw(tmp_path / "ws" / "units" / "conv5", photos, FIELDS)
    (tmp_path / "ws" / "units" / "conv5" / "summary.json").write_text('{"layer": "conv5"}')
    page = write_report(tmp_path / "ws", sections())
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page()
        wrong: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(f"{page.as_uri()}#unit=conv5:1")
        heads = "[...document.querySelectorAll('#panel h3')].map((one) => one.textContent)"
        found = tab.evaluate(heads)
        assert found.index("Highest peaks") < found.index("Where it is above its threshold")
        assert "Its best concepts" in found and "All its values, log counts" not in found
        tab.goto(f"{page.as_uri()}#unit=conv5:4")  # of which nothing but the dissection is known
        tab.wait_for_timeout(200)
        assert "Highest peaks" not in tab.evaluate(heads)
        browser.close()
    assert wrong == []

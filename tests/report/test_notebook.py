"""Units in a notebook: what stands in the fragment, that it needs nothing else, how large it is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.report.figures.units import tile
from cnnlens.report.notebook import read_units
from cnnlens.report.shown import LIMIT
from cnnlens.report.unit_page import UnitPage

from .fake_workspace import make_workspace
from .test_unit_page import optimize
from .test_units import WHOLE, photos, respond

__all__ = ["photos"]  # a fixture


@pytest.fixture
def workspace(photos: ImageSet, tmp_path: Path) -> Path:
    respond(tmp_path / "ws", photos)
    return tmp_path / "ws"


def test_a_unit_shows_its_page(workspace: Path) -> None:
    unit = read_units(workspace / "units" / "conv5")[0]
    html = unit._repr_html_()
    assert "Unit 0 of conv5" in html and "peak 3" in html
    assert "title='4.png, peak 3'" in html and "conv5:1" in html
    for heading in ("Highest peaks", "Over its whole range", "Lowest peaks", "respond alike"):
        assert heading in html
    shown = [*unit.top, *unit.bottom, *(one for bin in unit.bins for one in bin.examples)]
    near = [one for one in unit.neighbours if one[1] != 2]  # that is dead
    assert html.count("<img") == len(shown) + len(near)


def test_a_unit_that_was_measured_anew_since_shows_what_it_was(
    workspace: Path, photos: ImageSet
) -> None:
    unit = read_units(workspace / "units" / "conv5")[0]
    before = unit._repr_html_()
    shutil.rmtree(workspace / "units")
    respond(workspace, photos, fields=WHOLE)
    after = read_units(workspace / "units" / "conv5")[0]._repr_html_()
    assert unit._repr_html_() == before != after


def test_a_picture_written_anew_is_drawn_anew(tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (9, 9), colour).save(tmp_path / "strip.png")
        drawn = tile(UnitPage("conv5", 0, strip=tmp_path / "strip.png"))
        assert drawn.getpixel((0, 0)) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))


def test_what_other_methods_found_is_in_it(photos: ImageSet, tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    optimize(tmp_path, "conv5", 1)
    respond(tmp_path, photos)
    html = read_units(tmp_path / "units" / "conv5")[1]._repr_html_()
    assert "IoU 0." in html and "chance 0." in html and "second " in html
    assert "What it wants to see" in html


def test_it_needs_no_style_script_or_file(workspace: Path) -> None:
    found = read_units(workspace / "units" / "conv5")
    for html in (found._repr_html_(), found[0]._repr_html_()):
        assert not re.search(r"<(style|script|link)|class='", html)
        sources = re.findall(r"src='([^']{0,22})", html)
        assert sources and set(sources) == {"data:image/webp;base64"}
        assert str(workspace) not in html


def test_the_gallery_has_the_units_that_live(workspace: Path) -> None:
    html = read_units(workspace / "units" / "conv5")._repr_html_()
    assert "What the units of conv5 respond to" in html and "1 dead" in html
    assert html.count("<img") == 2 and html.index("<b>0</b>") < html.index("<b>1</b>")


def test_a_dead_unit_and_one_without_pictures_are_words(photos: ImageSet, tmp_path: Path) -> None:
    respond(tmp_path, photos)
    assert "dead" in read_units(tmp_path / "units" / "conv5")[2]._repr_html_()
    (tmp_path / "units" / "conv5" / "pictures.h5").unlink()
    html = read_units(tmp_path / "units" / "conv5")[0]._repr_html_()
    assert "<img" not in html and "4.png" in html


def test_it_stays_below_a_megabyte(workspace: Path) -> None:
    folder = workspace / "visualize" / "conv5"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    for number in range(12):
        Image.fromarray(noise).save(folder / f"{number}.png")
    entries = [{"file": f"{n}.png", "unit": 0, "initial": 1.0, "final": 2.0} for n in range(12)]
    (folder / "visualize.json").write_text(json.dumps({"layer": "conv5", "pictures": entries}))
    html = read_units(workspace / "units" / "conv5")[0]._repr_html_()
    assert len(html) <= LIMIT and "…" in html


def test_names_are_text(tmp_path: Path) -> None:
    names = tuple(f"{number}<script>.png" for number in range(6))
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(names):
        grey = np.full((32, 32, 3), 30 * number, np.uint8)
        Image.fromarray(grey).save(tmp_path / "photos" / name)
    data = ImageSet(tmp_path / "photos", names, "classes", ("<script>'",) * 6)
    respond(tmp_path / "ws", data)
    summary = tmp_path / "ws" / "units" / "conv5" / "summary.json"
    said = json.loads(summary.read_text())
    del said["category_counts"]  # what all images are of tells more, but for earlier versions
    summary.write_text(json.dumps(said))
    found = read_units(tmp_path / "ws" / "units" / "conv5")
    for html in (found._repr_html_(), found[0]._repr_html_()):
        assert "<script>" not in html and "&lt;script&gt;" in html

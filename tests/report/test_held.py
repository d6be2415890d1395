"""Results keep the pictures that they had when they were handed out."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.report import held
from cnnlens.report.held import Holder
from cnnlens.report.shown import PictureResults
from cnnlens.report.stability_files import StabilityResult, StabilityUnit

RED, BLUE = (255, 0, 0), (0, 0, 255)


def paint(file: Path, colour: tuple[int, int, int]) -> Path:
    """As methods write: a new file that takes the name."""
    Image.new("RGB", (8, 8), colour).save(file.with_suffix(".tmp"), "PNG")
    return file.with_suffix(".tmp").replace(file)


def pictures(folder: Path) -> PictureResults:
    return PictureResults(folder, [{"file": "0.png", "unit": 0}, {"file": "1.png", "unit": 1}])


@pytest.fixture
def found(tmp_path: Path) -> PictureResults:
    paint(tmp_path / "0.png", RED), paint(tmp_path / "1.png", RED)
    return pictures(tmp_path)


def test_later_pictures_of_the_same_names_are_not_shown(found, tmp_path):
    found.hold()
    page = found._repr_html_()
    paint(tmp_path / "0.png", BLUE), (tmp_path / "1.png").unlink()
    assert [one.getpixel((0, 0)) for one in found] == [RED, RED]
    assert found._repr_html_() == page
    paint(tmp_path / "1.png", BLUE)
    later = pictures(tmp_path)
    later.hold()
    assert later[0].getpixel((0, 0)) == BLUE and later._repr_html_() != page


def test_beyond_the_limit_a_result_says_that_they_are_others(found, tmp_path, monkeypatch):
    monkeypatch.setattr(held, "ROOM", (tmp_path / "0.png").stat().st_size)
    found.hold()
    assert found[1].getpixel((0, 0)) == RED  # it is what it was
    paint(tmp_path / "0.png", BLUE), paint(tmp_path / "1.png", BLUE)
    assert found[0].getpixel((0, 0)) == RED
    with pytest.raises(CnnlensError, match=r"1\.png is no longer the picture of this result"):
        found[1]
    html = found._repr_html_()
    assert html.count("<img") == 1 and "is no longer the picture of this result" in html


def test_results_of_the_same_files_hold_them_once(tmp_path):
    file = paint(tmp_path / "0.png", RED)
    first, second = Holder().hold(file), Holder().hold(file)
    assert first is second is not Holder().hold(paint(file, BLUE))


def test_units_keep_theirs(tmp_path):
    file = paint(tmp_path / "0.png", RED)
    fields = dict.fromkeys(StabilityUnit.__dataclass_fields__) | {"unit": 0, "picture": file}
    unit = StabilityUnit(**fields)
    layer = StabilityResult("conv5", tmp_path, {}, [unit])
    layer.hold()
    pages = layer._repr_html_(), unit._repr_html_()
    paint(file, BLUE)
    assert pages == (layer._repr_html_(), unit._repr_html_()) and "<img" in pages[1]

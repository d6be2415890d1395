from __future__ import annotations

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnnlens.errors import CnnlensError
from cnnlens.report.figures.dissect import write_detectors, write_summary_bars
from cnnlens.report.sheet import Apart, Column, Picture, Row, Text, read_apart, save_png, sheet


def test_the_sheet_and_the_bars_are_written_the_same_twice(workspace):
    folder = workspace / "dissect" / "features.12"
    path, bars = write_detectors(folder), write_summary_bars(workspace)
    assert (path, bars) == (folder / "detectors.png", workspace / "dissect" / "summary.png")
    first = path.read_bytes(), bars.read_bytes()
    write_detectors(folder)
    write_summary_bars(workspace)
    assert (path.read_bytes(), bars.read_bytes()) == first
    assert all(Image.open(picture).width > 400 for picture in (path, bars))
    assert not list(folder.glob(".*"))


def test_units_without_a_strip_are_left_out_and_none_makes_no_sheet(workspace):
    folder = workspace / "dissect" / "features.12"
    write_detectors(folder, units=40)
    tall = Image.open(folder / "detectors.png").height
    pictures = sorted((folder / "pictures").iterdir())
    for picture in pictures[:30]:
        picture.unlink()
    write_detectors(folder, units=40)
    assert Image.open(folder / "detectors.png").height < tall / 2
    for picture in pictures[30:]:
        picture.unlink()
    assert write_detectors(folder) is None


def test_distinct_shows_each_concept_once(workspace, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "cnnlens.report.figures.dissect.contact_sheet",
        lambda units, **_: shown.append(units) or Image.new("RGB", (9, 9)),
    )
    for distinct in (False, True):
        write_detectors(workspace / "dissect" / "features.12", 40, distinct)
    every, once = shown
    labels = [(unit.label, unit.category) for unit in once]
    assert len(labels) == len(set(labels)) < len(every)
    assert set(labels) == {(unit.label, unit.category) for unit in every}
    assert [unit.iou for unit in once] == sorted((unit.iou for unit in once), reverse=True)


def test_nothing_dissected_makes_no_bars(tmp_path):
    assert write_summary_bars(tmp_path) is None


def test_a_damaged_table_is_named(workspace):
    (workspace / "dissect" / "features.12" / "units.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(CnnlensError, match=r"units\.csv is damaged"):
        write_detectors(workspace / "dissect" / "features.12")


def test_a_sheet_says_which_parts_stand_apart_and_where(tmp_path):
    one, two = (Picture(Image.new("RGB", (30, 20), colour)) for colour in ("red", "blue"))
    row = Row(Apart(one, "the first"), Apart(two, "the\nsecond é"), gap=8)
    drawn = sheet(Column(Text("Both"), row))
    save_png(tmp_path / "sheet.png", drawn)
    found = read_apart(tmp_path / "sheet.png")
    assert [words for words, _ in found] == ["the first", "the second é"]
    for (_, (x, y, wide, high)), colour in zip(found, ((255, 0, 0), (0, 0, 255)), strict=True):
        part = drawn.crop((x, y, x + wide, y + high))
        assert (wide, high) == (30, 20) and part.getcolors() == [(600, colour)]


@pytest.mark.parametrize("apart", ["no JSON", "[[1]]", '[["a", "b"]]', "{}"])
def test_a_sheet_that_says_nonsense_is_one_picture(tmp_path, apart):
    about = PngInfo()
    about.add_text("apart", apart)
    Image.new("RGB", (9, 9)).save(tmp_path / "sheet.png", pnginfo=about)
    assert read_apart(tmp_path / "sheet.png") == []

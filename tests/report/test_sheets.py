from __future__ import annotations

import pytest
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.report.figures.dissect import write_detectors, write_summary_bars


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

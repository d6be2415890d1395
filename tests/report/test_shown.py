from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.report.dissect_files import detected, labels, read_dissection
from cnnlens.report.shown import LIMIT, PictureResults, Shown, spans
from cnnlens.report.stability_files import read_stability

from .fake_workspace import make_workspace


@pytest.fixture
def found(read_only_workspace):
    return read_dissection(read_only_workspace / "dissect" / "features.12")


def test_arrays_and_units_of_a_dissection_are_those_of_its_table(found):
    assert len(found) == 40 == len(found.iou) == len(found.labels)
    best = found.best(3)
    assert [u.iou for u in best] == sorted(found.iou.tolist(), reverse=True)[:3]
    assert found[5].unit == 5 and found[5].label == found.labels[5]
    assert found.is_detector.sum() == found.summary["detectors"]
    np.testing.assert_allclose(found.scores.max(axis=1), found.iou, rtol=1e-6)
    table = found.table()
    header = (found.folder / "units.csv").read_text().splitlines()[0].split(",")
    assert set(table[0]) <= set(header) and table[7]["iou"] == found.iou[7]


def every_kind(kind):
    return [one for sub in kind.__subclasses__() for one in (sub, *every_kind(sub))]


def test_a_result_prints_as_a_line(found):
    """Not as its arrays, whatever dataclass it is."""
    said = repr(found)
    assert said.startswith("DissectResult(features.12; 40 units; ")
    assert str(found.folder) in said and len(said) < 310 and "\n" not in said
    assert len(repr(found[5])) < 310 and found[5].label in repr(found[5])
    assert all(kind.__repr__ is Shown.__repr__ for kind in every_kind(Shown))


def test_labels_are_those_of_detectors(read_only_workspace, found):
    known = labels(read_only_workspace, "features.12")
    assert known == {u.unit: (u.label, u.category, u.iou) for u in found.units if u.is_detector}
    unit, (label, _, iou) = next(iter(known.items()))
    assert detected(read_only_workspace, "features.12")[unit] == f"{label}, IoU {iou:.2f}"
    assert labels(read_only_workspace, "nowhere") == {}


def test_a_dissection_shows_its_best_units_beside_chance_in_a_megabyte(found):
    html = found._repr_html_()
    assert "<b>" + str(found.summary["detectors"]) + "</b></td><td>chance 6.4" in html
    assert html.count("<img") == 12 and found.best()[0].label in html
    assert len(html) <= LIMIT
    assert "<img" in found[3]._repr_html_()


def test_what_does_not_fit_into_a_megabyte_is_left_out(tmp_path):
    noise = np.random.default_rng(0)
    for number in range(60):
        pixels = noise.integers(0, 255, (420, 420, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    entries = [{"file": f"{number}.png", "unit": number} for number in range(60)]
    html = PictureResults(tmp_path, entries)._repr_html_()
    assert 300_000 < len(html) <= LIMIT and 1 < html.count("<img") < 60


def test_names_in_a_notebook_are_text(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    html = PictureResults(tmp_path, [{"file": "a.png", "label": "<script>x"}])._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;x" in html


def test_pictures_are_found_by_unit_and_by_name(tmp_path):
    for name, colour in (("3", "red"), ("3@1,2", "green"), ("logit-cat", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    found = PictureResults(
        tmp_path,
        [
            {"file": "3@1,2.png", "unit": 3, "position": [1, 2], "trace": [1.0]},
            {"file": "3.png", "unit": 3},
            {"file": "logit-cat.png", "unit": None, "class": "cat", "class_index": 8},
        ],
    )
    assert found[3].getpixel((0, 0)) == found[np.int64(3)].getpixel((0, 0)) == (255, 0, 0)
    assert found[8].getpixel((0, 0)) == (0, 0, 255)
    assert found["cat"].getpixel((0, 0)) == found["logit-cat"].getpixel((0, 0)) == (0, 0, 255)
    assert [picture.size for picture in found] == [(8, 8)] * 3 == [(8, 8)] * len(found)
    assert found.table()[0] == {"file": "3@1,2.png", "unit": 3}
    with pytest.raises(KeyError, match="no picture of 7; there are 3@1,2, 3, logit-cat"):
        found[7]


def test_pictures_of_images_are_found_by_the_images_place(tmp_path):
    entries = [{"file": f"{name}.png", "image": f"{name}.jpg"} for name in "abc"]
    for entry, colour in zip(entries, ("red", "green", "blue"), strict=True):
        Image.new("RGB", (8, 8), colour).save(tmp_path / entry["file"])
    # the second image could not be read; of the third there are two pictures
    found = PictureResults(tmp_path, entries, {0: "a.png", 2: "b.png"})
    assert found[0] == found["a"] != found[2] == found["b.jpg"]
    with pytest.raises(KeyError, match=r"no picture of 1; there are 0 \(a\), 2 \(b\), c'"):
        found[1]


def test_spans_of_units_are_written_as_addresses():
    assert spans([]) == "" and spans([4]) == "4"
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert spans(range(0, 100, 2)) == ", ".join(map(str, range(0, 24, 2))) + ", …"


def test_tables_become_data_frames_where_pandas_is(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: rows))
    assert found.to_pandas() == found.table()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CnnlensError, match="pandas is not installed"):
        found.to_pandas()


def test_stability_is_read_with_its_arrays(tmp_path):
    folder = tmp_path / "stability" / "conv5"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (40, 20), "teal").save(folder / "pictures" / "2.webp")
    head = "unit,category,location_instability,p_value,centre_distance,selectivity,part,"
    rows = ["0,cat,,,,,,", "1,cat,0.2,0.5,0.1,0.75,head,0.25", "2,cat,0.1,0.01,0.1,,tail,"]
    text = "\n".join([head + "part_interpretability", *rows]) + "\n"
    (folder / "units.csv").write_text(text)
    summary = {"layer": "conv5", "location_instability": 0.15, "baselines": {"shuffled": 0.3}}
    (folder / "summary.json").write_text(json.dumps(summary))
    found = read_stability(folder)
    np.testing.assert_array_equal(found.instability, [np.nan, 0.2, 0.1])
    assert [unit.unit for unit in found.best()] == [2, 1]
    assert "its mask is the head in 25%" in found[1].words
    assert "steadiest from the tail" in found[2].words
    assert found.table()[1]["selectivity"] == 0.75
    html = found._repr_html_()
    assert re.search(r"location instability</th><td><b>0.150</b></td><td>chance 0.300", html)
    assert html.count("<img") == 1


def test_a_folder_with_another_spelling_of_the_layer_is_found(tmp_path: Path):
    make_workspace(tmp_path / "w", {"module_conv1": 4})
    assert labels(tmp_path / "w", "module:conv1") == labels(tmp_path / "w", "module_conv1")

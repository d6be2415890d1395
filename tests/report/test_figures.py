from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnnlens.errors import plain
from cnnlens.report import figures
from cnnlens.report.blocks import format_p, reach
from cnnlens.report.dissect_result import Unit
from cnnlens.report.figures import as_drawn, colours, new_figure, save_figure, short
from cnnlens.report.figures.dissect import category_bars, contact_sheet, lit
from cnnlens.report.figures.explained import _draw_distribution

IMAGE = np.full((20, 30, 3), 200, np.uint8)


def square() -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[5:15, 8:18] = True
    return mask


def test_lit_keeps_the_inside_darkens_the_outside_and_outlines_the_border():
    shown = lit(IMAGE, square())
    assert (shown[7:13, 10:16] == 200).all()
    outside = shown[~square()]
    assert (outside == outside[0]).all() and 120 < outside[
        0
    ].max() < 160  # the photo can still be seen
    border = square()
    border[7:13, 10:16] = False
    assert (shown[border] == shown[5, 8]).all()
    assert shown[5, 8].tolist() not in ([200] * 3, outside[0].tolist())
    assert (IMAGE == 200).all()  # the argument is left alone


def test_lit_of_everything_is_the_image_and_of_nothing_has_no_line():
    assert (lit(IMAGE, np.ones((20, 30), bool)) == IMAGE).all()
    dark = lit(IMAGE, np.zeros((20, 30), bool))
    assert (dark == dark[0, 0]).all()


def test_lit_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(20, 30, 3\), \(7, 7\)"):
        lit(IMAGE, np.ones((7, 7), bool))


def summary(unique: dict[str, int], chance: dict | None) -> dict:
    return {
        "unique_detectors": sum(unique.values()) - 1,
        "per_category": {k: {"unique_detectors": v, "detectors": v} for k, v in unique.items()},
        **({"chance": chance} if chance else {}),
    }


def test_bars_are_as_high_as_the_numbers_and_leave_matplotlib_alone():
    before = dict(mpl.rcParams)
    layers = {
        "a$b$": summary({"object": 7, "part": 3}, {"unique_detectors": 2.5}),
        "c": summary({"object": 4, "part": 6}, None),
    }
    figure = category_bars(layers)
    figure.canvas.draw()
    (axes,) = figure.axes
    heights = [bar.get_height() for group in axes.containers for bar in group]
    assert heights == [7, 4, 3, 6, 9, 9]  # object, part, all; each over both layers
    assert {line.get_segments()[0][0][1] for line in axes.collections} == {2.5}
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in str(type(figure.canvas))


def test_chance_by_category_is_drawn_where_the_summary_has_it():
    chance = {"unique_detectors": 2.5, "per_category": {"object": {"unique_detectors": 1.5}}}
    (axes,) = category_bars({"a": summary({"object": 7, "part": 3}, chance)}).axes
    assert {line.get_segments()[0][0][1] for line in axes.collections} == {1.5, 2.5}


DISSECTED: dict[str, tuple[dict, str, str]] = {
    "alike": ({}, "", "b"),
    "quantile": ({"quantile": 0.01}, "Not dissected alike", "b\nhighest 1 %"),
    "other data": ({"data": {"name": "x/cars"}}, "Not dissected alike", "b\non cars"),
    "more shuffles": ({"chance": {"shuffles": 9}}, "", "b\n9 shuffles"),
    "corrected labels": ({"made_from": {"data": "1", "labels": "y"}}, "Not of one state", "b"),
}


@pytest.mark.parametrize(("other", "title", "below"), DISSECTED.values(), ids=DISSECTED)
def test_bars_that_do_not_compare_say_so(other: dict, title: str, below: str) -> None:
    made_from = {"data": "1", "labels": "x"}
    usual = {"quantile": 0.005, "data": {"name": "shapes"}, "made_from": made_from}
    one = {**summary({"object": 7}, {"shuffles": 5}), **usual}
    (axes,) = category_bars({"a": one, "b": {**one, **other}}).axes
    assert axes.get_title().startswith(title) and bool(title) == bool(axes.get_title())
    assert axes.get_xticklabels()[1].get_text() == below


def test_contact_sheet_shows_each_strip_unscaled(tmp_path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (336, 112), colour).save(tmp_path / f"{name}.png")
    units = [
        Unit(3, 1.0, "x" * 200, "object", 0.2, True, 0.001, picture=tmp_path / "red.png"),
        Unit(4, 1.0, "собака\n犬", "</b>", 0.1, True, None, picture=tmp_path / "blue.png"),
        Unit(5, 1.0, "", "", 0.0, False, None),
    ]
    pixels = np.asarray(contact_sheet(units, columns=2, images=2)).reshape(-1, 3)
    for colour in ([255, 0, 0], [0, 0, 255]):
        assert (pixels == colour).all(1).sum() == 224 * 112


def test_contact_sheet_of_nothing_is_an_empty_picture():
    assert contact_sheet([]).width > 0


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.0312, "0.031"), (1e-4, "0.0001"), (9e-9, "< 0.0001")]
)
def test_p_values_are_short_and_never_zero(value, text):
    assert format_p(value) == text


def test_categories_keep_their_colours_whatever_else_there_is():
    alone = colours(["scene", "object"])
    more = colours(["mood", "object", "shape", "texture", "scene", "voice"])
    assert alone["scene"] == more["scene"] and alone["object"] == more["object"]
    assert len(set(more.values())) == len(more)
    assert list(more) == ["mood", "object", "shape", "texture", "scene", "voice"]
    assert len(colours([str(i) for i in range(40)])) == 40


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_every_colour_stands_out_from_both_grounds():
    names = ["object", "part", "scene", "material", "texture", "color", "a", "b", "c", "d"]
    for colour in colours(names).values():
        assert (luminance("#fdfdfb") + 0.05) / (luminance(colour.light) + 0.05) >= 3
        assert (luminance(colour.dark) + 0.05) / (luminance("#1e2022") + 0.05) >= 3


def drawn(path: Path, text: str = "a concept") -> str:
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#0072b2")
    axes.imshow(np.arange(4.0).reshape(2, 2))
    axes.set_title(short(text), bbox={"facecolor": "white"})
    save_figure(figure, path)
    return path.with_suffix(".svg").read_text("utf-8")


def test_a_figure_is_drawn_as_svg_too_clear_and_with_colours_for_a_dark_page(tmp_path):
    text = drawn(tmp_path / "one.png", "犬 & <b>cat</b>")
    assert "犬 &amp; &lt;b&gt;cat" in text  # words as words, in any script
    assert text == drawn(tmp_path / "two.png", "犬 & <b>cat</b>")
    root = ElementTree.fromstring(text)
    style = next(node.text for node in root.iter() if node.tag.endswith("}style"))
    dark = style[style.index("prefers-color-scheme: dark") :]
    turned = dict(re.findall(r'\*="fill: (#\w+)"\] \{ fill: (#\w+)', dark))
    assert turned["#ffffff"] == "#1a1a1a"  # about the page's ground
    line = re.search(r'\*="stroke: #0072b2"\] \{ stroke: (#\w+)', dark)[1]
    assert luminance(line) > 2 * luminance("#0072b2")
    patch = root.find(".//*[@id='patch_1']/*")  # the figure's ground
    assert "opacity: 0" in patch.get("style") or "fill: none" in patch.get("style")
    assert as_drawn(tmp_path / "one.png").suffix == ".svg"


def test_a_figure_of_very_many_dots_stays_a_png(tmp_path, monkeypatch):
    drawn(tmp_path / "one.png")
    monkeypatch.setattr(figures, "_LONGEST", 100)
    with pytest.raises(FileNotFoundError):
        drawn(tmp_path / "one.png")
    assert as_drawn(tmp_path / "one.png") == tmp_path / "one.png"


def test_peaks_of_copies_of_one_image_are_drawn_as_one_bar():
    peaks = np.full(8, 3.0, np.float32)
    peaks[0] = np.nextafter(peaks[0], np.float32(4))  # equal up to rounding
    picture = Image.new("L", (400, 120), 255)
    evidence = SimpleNamespace(activation=3.0, peaks=peaks)
    _draw_distribution(evidence, ImageDraw.Draw(picture), 0, 2)
    assert (np.asarray(picture)[30] < 255).sum() in range(1, 30)  # it is one of 24


def test_thousands_are_written_without_a_power_of_ten():
    numbers = {3831.2: "3830", 999.7: "1000", -1234: "-1230", 0.01234: "0.0123", 2.5e7: "2.5e+07"}
    assert {value: plain(value) for value in numbers} == numbers
    assert plain(float("nan")) == "nan" and plain(0) == "0"
    assert [plain(one, 4) for one in (31415.9, 1234.56, 0.25)] == ["31420", "1235", "0.25"]
    assert (reach([20.5, 3831.2, 30]), reach([3831.2])) == (
        "3830 to 20.5",
        "3830",
    )  # of projections

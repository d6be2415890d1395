"""Marks of parts: as many as CUB-200-2011 has can be told apart, on any ground."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnnlens.report.figures import new_figure
from cnnlens.report.figures.parts import add_legend, draw_mark, part_marks, plot_marks

PARTS = [f"part {k}" for k in range(24)]


def drawn(mark, ground: int) -> np.ndarray:
    picture = Image.new("RGB", (15, 15), (ground,) * 3)
    draw_mark(ImageDraw.Draw(picture), 7, 7, mark)
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_marks_differ_from_each_other_and_from_any_ground(ground):
    marks = list(part_marks(PARTS).values())
    pictures = [drawn(mark, ground) for mark in marks]
    for one, other in combinations(pictures, 2):
        assert (abs(one - other).max(axis=2) > 40).sum() > 8
    for picture in pictures:
        assert (abs(picture - ground).max(axis=2) > 120).sum() > 8


def test_a_part_keeps_its_mark_whatever_follows():
    few, many = part_marks(PARTS[:9]), part_marks(PARTS)
    assert few == {part: many[part] for part in PARTS[:9]}


def test_the_legend_of_many_parts_stays_on_a_narrow_figure():
    """Beside two birds there is room for three columns of names."""
    figure = new_figure(4.2, 4.9, layout="constrained")
    plot_marks(figure.subplots(), PARTS[:15], np.full((15, 2), 0.5))
    add_legend(figure, ["right wing"] * 15)
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1

"""The picture of one explained image: what was seen, and its path down its category's filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.report.sheet import MARK, PALE, Column, Drawing, Picture, Row, Text, font, sheet

_TILE, _CELL, _GAP, _MARGIN = 224, 56, 6, 22
_ROW, _TEXT, _CHART = _CELL + 26, 250, 170
_BAR = "#b9c9d6"
_BINS = 24


@dataclass(frozen=True)
class ForkPicture:
    """What is drawn of one fork.

    Attributes
    ----------
    head, words : str
        The filter and what it detects; images, distances.
    value : float or None
        The filter's peak on this image; None where the fork has no filter.
    others : numpy.ndarray
        (n,): its peaks on the category's images.
    share : str
        How many of them are lower.
    top : sequence of numpy.ndarray
        The data-set images that excite it most, (s, s, 3) uint8.
    """

    head: str
    words: str
    value: float | None
    others: np.ndarray
    share: str
    top: Sequence[np.ndarray]


@dataclass(frozen=True)
class ExplainedPicture:
    """What is drawn of one image.

    Attributes
    ----------
    title, note : str
        Above.
    seen : sequence of (numpy.ndarray, str)
        Pictures in the left column, (H, W, 3) uint8, and the line under each.
    forks : sequence of ForkPicture
        From the root down.
    last : str
        Below the forks: what was left out, where the way ends.
    """

    title: str
    note: str
    seen: Sequence[tuple[np.ndarray, str]]
    forks: Sequence[ForkPicture]
    last: str


def draw_explained(picture: ExplainedPicture, top: int = 5) -> Image.Image:
    """Lay out one explained image.

    Parameters
    ----------
    picture : ExplainedPicture
        What to draw.
    top : int
        Data-set images per node that there is room for.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    seen = [
        part
        for image, words in picture.seen
        for part in (
            Picture(Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.BICUBIC)),
            Drawing(_TILE, 4),
            Text(words, 12, 22, wide=_TILE),
        )
    ]
    wide = _TEXT + _CHART + _MARGIN + top * (_CELL + _GAP)
    forks = [_fork(fork, top) for fork in picture.forks]
    last = Text(picture.last, 12, 26, wide=wide)
    path = Column(*forks, Drawing(wide, 4), last, least=(wide, 0))
    head = Text(picture.title, 17, 25, bold=True), Text(picture.note, 12, 35)
    body = Row(Column(*seen), path, gap=2 * _MARGIN)
    return sheet(Column(*head, body), margin=_MARGIN, top=_MARGIN - 6, bottom=_MARGIN)


def _fork(fork: ForkPicture, top: int) -> Row:
    lines = [Text(words, 11, 15) for words in fork.words.split("\n")]
    said = Column(Text(fork.head, 13, 19, bold=True), *lines, least=(_TEXT - 10, 0))
    cells = [
        Picture(Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.BILINEAR))
        for image in fork.top[:top]
    ]

    def chart(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        if fork.value is not None:
            _draw_distribution(pen, fork, fork.value, x, y + 2)

    drawn = Drawing(_CHART + _MARGIN, _CELL, chart)
    return Row(Drawing(0, _ROW, _draw_path), said, Drawing(10, 0), drawn, Row(*cells, gap=_GAP))


def _draw_path(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.line([(x - 14, y + 8), (x - 14, y + _ROW + 2)], fill=_BAR, width=2)
    pen.ellipse([(x - 18, y + 4), (x - 10, y + 12)], fill=MARK)


def _draw_distribution(
    pen: ImageDraw.ImageDraw, fork: ForkPicture, value: float, x: int, y: int
) -> None:
    """Draw where this image's activation stands among those of its category."""
    low = min(float(fork.others.min()), value)
    high = max(float(fork.others.max()), value)
    high = high if high > low else low + 1
    counts, _ = np.histogram(fork.others, _BINS, (low, high))
    tall, step = _CELL - 18, _CHART / _BINS
    for number, count in enumerate(counts):
        top = y + tall - tall * int(count) / max(int(counts.max()), 1)
        pen.rectangle([x + number * step, top, x + (number + 1) * step - 1.5, y + tall], fill=_BAR)
    at = x + _CHART * (value - low) / (high - low)
    pen.line([(at, y - 2), (at, y + tall)], fill=MARK, width=2)
    pen.text((x, y + tall + 3), f"{value:.3g} · {fork.share}", fill=PALE, font=font(10))

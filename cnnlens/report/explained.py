"""The picture of one explained image: what was seen, and the way down its category's filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.report.figures import _cut, _font, framed

_TILE, _CELL, _GAP, _MARGIN, _HEAD = 224, 56, 6, 22, 54
_ROW, _TEXT, _CHART = _CELL + 26, 250, 170
_INK, _SOFT, _BAR, _MARK = "#1a1a1a", "#555555", "#b9c9d6", "#c95400"
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
        Data-set images per fork that there is room for.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    left = _MARGIN + _TILE + 2 * _MARGIN
    wide = left + _TEXT + _CHART + _MARGIN + top * (_CELL + _GAP) + _MARGIN
    high = max(len(picture.seen) * (_TILE + 26), len(picture.forks) * _ROW + 30)
    sheet = Image.new("RGB", (wide, _MARGIN + _HEAD + high + _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    bold, small = _font("DejaVuSans-Bold.ttf", 17), _font("DejaVuSans.ttf", 12)
    wide_text = sheet.width - 2 * _MARGIN
    title = _cut(pen, picture.title, bold, wide_text)
    pen.text((_MARGIN, _MARGIN - 6), title, fill=_INK, font=bold)
    note = _cut(pen, picture.note, small, wide_text)
    pen.text((_MARGIN, _MARGIN + 19), note, fill=_SOFT, font=small)
    y = _MARGIN + _HEAD
    for image, words in picture.seen:
        tile = Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        framed(sheet, tile, (_MARGIN, y))
        line = _cut(pen, words, small, _TILE)
        pen.text((_MARGIN, y + _TILE + 4), line, fill=_SOFT, font=small)
        y += _TILE + 26
    for number, fork in enumerate(picture.forks):
        _draw_fork(sheet, pen, fork, left, _MARGIN + _HEAD + number * _ROW, top)
    below = _MARGIN + _HEAD + len(picture.forks) * _ROW + 4
    last = _cut(pen, picture.last, small, wide - left - _MARGIN)
    pen.text((left, below), last, fill=_SOFT, font=small)
    return sheet


def _draw_fork(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, fork: ForkPicture, x: int, y: int, top: int
) -> None:
    bold, small = _font("DejaVuSans-Bold.ttf", 13), _font("DejaVuSans.ttf", 11)
    pen.line([(x - 14, y + 8), (x - 14, y + _ROW + 2)], fill=_BAR, width=2)
    pen.ellipse([(x - 18, y + 4), (x - 10, y + 12)], fill=_MARK)
    pen.text((x, y), _cut(pen, fork.head, bold, _TEXT - 10), fill=_INK, font=bold)
    for line, words in enumerate(fork.words.split("\n")):
        cut = _cut(pen, words, small, _TEXT - 10)
        pen.text((x, y + 19 + 15 * line), cut, fill=_SOFT, font=small)
    if fork.value is not None:
        _draw_distribution(pen, fork, x + _TEXT, y + 2)
    at = x + _TEXT + _CHART + _MARGIN
    for place, image in enumerate(fork.top[:top]):
        cell = Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.BILINEAR)
        framed(sheet, cell, (at + place * (_CELL + _GAP), y))


def _draw_distribution(pen: ImageDraw.ImageDraw, fork: ForkPicture, x: int, y: int) -> None:
    """Draw where this image's activation stands among those of its category."""
    assert fork.value is not None
    low = min(float(fork.others.min()), fork.value)
    high = max(float(fork.others.max()), fork.value)
    high = high if high > low else low + 1
    counts, _ = np.histogram(fork.others, _BINS, (low, high))
    tall, step = _CELL - 18, _CHART / _BINS
    for number, count in enumerate(counts):
        top = y + tall - tall * int(count) / max(int(counts.max()), 1)
        pen.rectangle([x + number * step, top, x + (number + 1) * step - 1.5, y + tall], fill=_BAR)
    at = x + _CHART * (fork.value - low) / (high - low)
    pen.line([(at, y - 2), (at, y + tall)], fill=_MARK, width=2)
    small = _font("DejaVuSans.ttf", 10)
    pen.text((x, y + tall + 3), f"{fork.value:.3g} · {fork.share}", fill=_SOFT, font=small)

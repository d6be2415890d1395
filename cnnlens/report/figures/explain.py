"""The picture of one explained image: what was seen, and its path down its category's filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.cluster.explanation import Explanation
from cnnlens.report.figures.cam import overlay
from cnnlens.report.sheet import MARK, PALE, Column, Drawing, Picture, Row, Text, font, sheet

_TILE, _CELL, _GAP, _MARGIN = 224, 56, 6, 22
_ROW, _TEXT, _CHART = _CELL + 26, 250, 170
_BAR = "#b9c9d6"
_BINS = 24


@dataclass(frozen=True)
class SplitPicture:
    """What is drawn of one split.

    Attributes
    ----------
    head, words : str
        The filter and what it detects; images, distances.
    value : float or None
        The filter's peak on this image; None where the split has no filter.
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
    splits : sequence of SplitPicture
        From the root down.
    last : str
        Below the splits: what was left out.
    """

    title: str
    note: str
    seen: Sequence[tuple[np.ndarray, str]]
    splits: Sequence[SplitPicture]
    last: str


def explained_picture(
    found: Explanation,
    pixels: np.ndarray,
    name: str,
    layer: str,
    detects: Mapping[int, str],
    as_seen: Callable[[int, int], np.ndarray],
) -> ExplainedPicture:
    """Say what is drawn of an explanation.

    Parameters
    ----------
    found : Explanation
        Of one image.
    pixels : numpy.ndarray
        The image, (C, H, W) uint8.
    name, layer : str
        The image's and the layer's.
    detects : mapping of int to str
        What filters detect, where that is known.
    as_seen : callable
        Gives an image of the data as the network sees it, by row and side: (side, side, 3) uint8.
    """
    rgb = (pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)).transpose(1, 2, 0)
    seen, predicted = [(rgb, "as the network saw it")], ""
    if prediction := found.prediction:
        seen.append((overlay(rgb, prediction.heat), f"Grad-CAM: {prediction.name}"))
        predicted = f"predicted {prediction.name} ({prediction.probability:.1%})"
    nearest = f"ends here, at distance {found.path.distance:.3f}"
    seen.append((as_seen(found.leaf, 224), nearest))
    chosen = found.path.main_splits(found.tree)
    left_out = len(found.path.splits) - len(chosen)
    return ExplainedPicture(
        title=f"{name}: {predicted}".rstrip(": "),
        note=f"its way down the filters of {found.category} in {layer}; the line marks its "
        "activation among the category's",
        seen=seen,
        splits=[_split_picture(found, number, detects, as_seen) for number in chosen],
        last=f"{left_out} further forks stand in the JSON" if left_out else "",
    )


def _split_picture(
    found: Explanation,
    number: int,
    detects: Mapping[int, str],
    as_seen: Callable[[int, int], np.ndarray],
) -> SplitPicture:
    split, evidence = found.path.splits[number], found.evidence[number]
    words = (
        f"{found.tree.sizes[split.merge]} images below, "
        f"{found.tree.reachable[split.merge]} filters left\n"
        f"nearer side {split.to_chosen:.3f}, other {split.to_other:.3f}"
    )
    if evidence is None or split.filter is None:
        return SplitPicture("no filter left", words, None, np.empty(0), "", [])
    label = detects.get(split.filter)
    return SplitPicture(
        head=f"filter {split.filter}" + (f" · {label}" if label else ""),
        words=words,
        value=evidence.activation,
        others=evidence.peaks,
        share=f"above {evidence.share_below_category:.0%}",
        top=[as_seen(row, 64) for row in evidence.top],
    )


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
    splits = [_split(split, top) for split in picture.splits]
    last = Text(picture.last, 12, 26, wide=wide)
    path = Column(*splits, Drawing(wide, 4), last, least=(wide, 0))
    head = Text(picture.title, 17, 25, bold=True), Text(picture.note, 12, 35)
    body = Row(Column(*seen), path, gap=2 * _MARGIN)
    return sheet(Column(*head, body), margin=_MARGIN, top=_MARGIN - 6, bottom=_MARGIN)


def _split(split: SplitPicture, top: int) -> Row:
    lines = [Text(words, 11, 15) for words in split.words.split("\n")]
    said = Column(Text(split.head, 13, 19, bold=True), *lines, least=(_TEXT - 10, 0))
    cells = [
        Picture(Image.fromarray(image).resize((_CELL, _CELL), Image.Resampling.BILINEAR))
        for image in split.top[:top]
    ]

    def chart(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        if split.value is not None:
            _draw_distribution(pen, split, split.value, x, y + 2)

    drawn = Drawing(_CHART + _MARGIN, _CELL, chart)
    return Row(Drawing(0, _ROW, _draw_path), said, Drawing(10, 0), drawn, Row(*cells, gap=_GAP))


def _draw_path(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.line([(x - 14, y + 8), (x - 14, y + _ROW + 2)], fill=_BAR, width=2)
    pen.ellipse([(x - 18, y + 4), (x - 10, y + 12)], fill=MARK)


def _draw_distribution(
    pen: ImageDraw.ImageDraw, split: SplitPicture, value: float, x: int, y: int
) -> None:
    """Draw where this image's activation stands among those of its category."""
    low = min(float(split.others.min()), value)
    high = max(float(split.others.max()), value)
    high = high if high > low else low + 1
    counts, _ = np.histogram(split.others, _BINS, (low, high))
    tall, step = _CELL - 18, _CHART / _BINS
    for number, count in enumerate(counts):
        top = y + tall - tall * int(count) / max(int(counts.max()), 1)
        pen.rectangle([x + number * step, top, x + (number + 1) * step - 1.5, y + tall], fill=_BAR)
    at = x + _CHART * (value - low) / (high - low)
    pen.line([(at, y - 2), (at, y + tall)], fill=MARK, width=2)
    pen.text((x, y + tall + 3), f"{value:.3g} · {split.share}", fill=PALE, font=font(10))

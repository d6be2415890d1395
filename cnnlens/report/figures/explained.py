"""An explained image: what the network says of it, and its path, in a reader's words and drawn.

All words follow from its JSON. The picture is narrow, so that it can be read on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.cluster.explanation import Evidence, Explanation
from cnnlens.report.figures.attribution import as_rgb, overlay
from cnnlens.report.sheet import (
    INK,
    MARK,
    PALE,
    Apart,
    Column,
    Drawing,
    Part,
    Picture,
    Row,
    Text,
    fitted,
    font,
    save_png,
    sheet,
)  # fmt: skip

_FAR = 10  # times its strength: a unit that had to answer more is not said to turn anything
Found = Mapping[str, Any]  # an image's JSON, see `Explanation.as_dict`, or one split of its path


def predicted(found: Found) -> str:
    """Say what the network says, what the image is, and whether that is right."""
    if found["class"] is None:
        said = "the network gives no class scores"
    else:
        second = found.get("second")
        said = f"the network says {_likely(found['class_name'], found['probability'])}"
        said += f", then {_likely(second['class_name'], second['probability'])}" if second else ""
    true = found.get("true")
    if true is None:
        return f"{said}; what it is, is not known (no class folder says it)"
    return (
        f"{said}; it is {true['category']}"
        + {True: ": right", False: ": wrong", None: ""}[found["right"]]
    )


def turned(found: Found) -> str:
    """Say without which unit of its path the network would say something else; empty: unknown."""
    units = {s["critical_filter"]: s["without"] for s in found["path"] if s.get("without")}
    if not units:
        return ""
    names = {s["critical_filter"]: s.get("detects") for s in found["path"]}
    others = [unit for unit in units if unit in found["turned"]]
    if others:
        words = [
            f"without {unit_name(unit, names[unit])} it says "
            f"{_likely(units[unit]['name'], units[unit]['probability'])}"
            for unit in others[:3]
        ]
        more = f", and {len(others) - 3} more" if len(others) > 3 else ""
        return f"What would have turned it: {'; '.join(words)}{more}"
    drops = {unit: one["kept"] for unit, one in units.items() if one["kept"] is not None}
    count = "the one unit" if len(units) == 1 else f"any one of the {len(units)} units"
    said = f"What would have turned it: nothing of this path alone; without {count} below it "
    said += f"still says {found['class_name']}"
    if not drops or found["probability"] is None:
        return said
    least = min(drops, key=lambda unit: drops[unit])
    return f"{said}, least surely ({drops[least]:.1%}) without {unit_name(least, names[least])}"


def unit_name(unit: int | None, detects: str | None) -> str:
    """Name a unit, with its label where it was dissected."""
    if unit is None:
        return "no unit left"
    return f"unit {unit}" + (f" · {detects}" if detects else "")


def step(split: Found, category: str) -> Iterator[str]:
    """Say of a split how strongly the unit answers, where the image goes, what had turned it."""
    if "activation" in split:
        own, every = (f"{split[key]:.0%}" for key in ("share_below_category", "share_below_data"))
        yield (
            f"It answers {split['activation']:.3g}: more than on {own} of the images of {category} "
            f"and on {every} of all."
        )
    yield (
        f"The image goes with {split['images_chosen']} of {split['images']} images, at distance "
        f"{split['to_chosen']:.3f}; to the others it is {split['to_other']:.3f}."
    )
    yield _turn(split)


def _turn(split: Found) -> str:
    """Say what of a unit would have sent the image to the other side, as far as that is near."""
    turn, easiest = (_near(split.get(key)) for key in ("turn", "easiest"))
    if turn:
        said = f"It would have gone the other way, had this unit answered {_times(turn['scale'])}"
        if easiest and easiest["unit"] != turn["unit"]:
            said += f"; the least that would: unit {easiest['unit']} at {_times(easiest['scale'])}"
        return f"{said}."
    if easiest:
        least = f"unit {easiest['unit']}, had it answered {_times(easiest['scale'])}"
        return f"Not this unit would have sent it the other way, but {least}."
    return f"No single unit would have sent it the other way, up to {_FAR} × its strength."


def _near(turn: Found | None) -> Found | None:
    return turn if turn and turn["scale"] <= _FAR else None


def _times(scale: float) -> str:
    return "nothing at all" if scale < 0.005 else f"{scale:.2g} × as much"


def _likely(name: str, probability: float | None) -> str:
    return name if probability is None else f"{name} ({probability:.1%})"


# -- the picture ----------------------------------------------------------------------------------

_WIDE, _EDGE, _BETWEEN = 640, 22, 6  # pixels
_TILE = (_WIDE - 2 * 14) // 3
_CELL, _CHART, _INDENT = 64, 150, 26
_BAR = "#b9c9d6"
_GOOD, _BAD = "#1a7f37", "#c0392b"
_BINS = 24
_TOP = 5  # images of the data at a split


def save_explained(path: Path, *what: Any) -> None:
    """Write the picture of one explained image, see `draw_explained`."""
    save_png(path, draw_explained(*what))


def draw_explained(
    found: Explanation,
    about: Mapping[str, Any],
    pixels: np.ndarray,
    name: str,
    as_seen: Callable[[int, int], np.ndarray],
    optimized: Mapping[int, Path],
) -> Image.Image:
    """Lay out one explained image, as RGB.

    `about` is its JSON. Its `pixels` are (C, H, W) uint8, its `name` is the file's. `as_seen` gives
    an image of the data as the network sees it, by row and side: (side, side, 3) uint8; `optimized`
    has the picture that excites a unit most, where one was made.
    """
    colour = {True: _GOOD, False: _BAD}.get(about["right"], INK)
    head: list[Part] = [Text(name, 17, 26, bold=True)]
    head += _lines(f"{_upper(predicted(about))}.", 13, colour)
    if why := turned(about):
        head += _lines(f"{why}.", 12)
    rgb = as_rgb(pixels)
    seen = [_tile(rgb, "as the network saw it")]
    if prediction := found.prediction:
        seen.append(_tile(overlay(rgb, prediction.heat), f"what speaks for {prediction.name}"))
    itself = found.path.distance < 1e-6  # an image of the data ends at itself
    last_seen = "where it ends: itself" if itself else f"its likest of {found.category}"
    seen.append(_tile(as_seen(found.leaf, _TILE), last_seen))
    chosen = found.path.main_splits(found.tree)
    steps = [_step(found, about, number, as_seen, optimized) for number in chosen]
    layer, made = about["layer"], any(found.path.splits[n].filter in optimized for n in chosen)
    way = f"Its way down the units of {layer}, as they part the images of {found.category}"
    key = (
        "bars: the unit on the images of the category, line: this image; beside them the images "
        "that excite it most" + (", and one made to" if made else "")
    )
    more = len(found.path.splits) - len(chosen)
    rest = "1 further step stands" if more == 1 else f"{more} further steps stand"
    last: list[Part] = [Text(f"{rest} in the JSON", 12, 20)] if more else []
    under: list[Part] = [
        Drawing(0, 12),
        Text(way, 14, 21, bold=True),
        *_lines(key, 11),
        Drawing(0, 8),
    ]
    parts = [*head, Drawing(0, 8), Row(*seen, gap=14), *under, *steps, *last]
    return sheet(Column(*parts, least=(_WIDE, 0)), margin=_EDGE, top=_EDGE - 6, bottom=_EDGE)


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


class _Line:
    """A line of text in a colour."""

    def __init__(self, words: str, points: int, colour: str) -> None:
        self.size = 0, points + 6
        self._words, self._points, self._colour = words, points, colour

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Write it."""
        ImageDraw.Draw(sheet).text((x, y), self._words, fill=self._colour, font=font(self._points))


def _lines(words: str, points: int, colour: str = PALE, wide: int = _WIDE) -> list[Part]:
    """Break a text into lines of at most so many pixels."""
    letters, lines = font(points), [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and letters.getlength(longer) > wide:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_Line(line, points, colour) for line in lines]


def _tile(image: np.ndarray, words: str) -> Column:
    tile = Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    return Column(Apart(Picture(tile), words), Drawing(_TILE, 4), Text(words, 12, 20, wide=_TILE))


def _step(
    found: Explanation,
    about: Mapping[str, Any],
    number: int,
    as_seen: Callable[[int, int], np.ndarray],
    optimized: Mapping[int, Path],
) -> Part:
    """Draw one split: its unit, the image among the category's, what excites the unit."""
    split, evidence, place = about["path"][number], found.evidence[number], number + 1
    unit = found.path.splits[number].filter
    name, said = unit_name(unit, split.get("detects")), list(step(split, found.category))
    words = [w for line in said for w in _words(line)]
    told = f"{place}. {name}. {' '.join(said)}"
    # without pictures a line stands for it: pages show its words below
    shown: list[Part] = [Apart(Drawing(_WIDE - _INDENT, 2, _line), told)]
    if evidence is not None and unit is not None:
        pictured = Row(*_shown(evidence, as_seen, optimized.get(unit)), gap=_BETWEEN)
        shown = [Drawing(_CHART + 8, _CELL, partial(_draw_distribution, evidence)),
                 Apart(pictured, told)]  # fmt: skip
    title = Text(name, 13, 20, bold=True)
    pictures: list[Part] = [Drawing(0, 4), Row(*shown, gap=_BETWEEN)]
    body = Column(title, *words, *pictures, Drawing(0, 16))
    mark = Drawing(_INDENT, body.size[1], partial(_mark, place, body.size[1]))
    return Row(mark, body)


def _line(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.rectangle([(x, y), (x + _WIDE - _INDENT, y + 1)], fill=_BAR)


def _words(line: str) -> list[Part]:
    return _lines(line, 11, wide=_WIDE - _INDENT)


def _shown(
    evidence: Evidence, as_seen: Callable[[int, int], np.ndarray], optimized: Path | None
) -> Iterator[Part]:
    for row in evidence.top[:_TOP]:
        yield Picture(Image.fromarray(as_seen(row, _CELL)))
    if optimized is not None:
        yield Picture(fitted(optimized, _CELL))


def _mark(place: int, high: int, pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """Draw a step's number on the path."""
    pen.line([(x + 8, y + 8), (x + 8, y + high + 8)], fill=_BAR, width=2)
    pen.ellipse([(x, y), (x + 16, y + 16)], fill=MARK)
    pen.text((x + 8, y + 8), str(place), fill="white", font=font(10, bold=True), anchor="mm")


def _draw_distribution(evidence: Evidence, pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """Draw where this image's activation stands among those of its category."""
    value, others = evidence.activation, evidence.peaks.astype(float)
    low, high = min(float(others.min()), value), max(float(others.max()), value)
    if high - low <= 1e-5 * max(abs(low), abs(high)):  # of copies of one image, up to rounding
        high = low + 1
    counts, _ = np.histogram(others, _BINS, (low, high))
    tall, step = _CELL - 16, _CHART / _BINS
    for number, count in enumerate(counts):
        top = y + tall - tall * int(count) / max(int(counts.max()), 1)
        pen.rectangle([x + number * step, top, x + (number + 1) * step - 1.5, y + tall], fill=_BAR)
    at = x + _CHART * (value - low) / (high - low)
    pen.line([(at, y - 2), (at, y + tall)], fill=MARK, width=2)
    pen.text((x, y + tall + 3), f"{low:.3g}", fill=PALE, font=font(10))
    pen.text((x + _CHART, y + tall + 3), f"{high:.3g}", fill=PALE, font=font(10), anchor="ra")

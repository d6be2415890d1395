"""Pictures laid out on white sheets: rows, columns and grids, sized by what is in them.

    sheet(Column(Text("conv5", 17, bold=True), Grid([Column(Picture(p), Text(name)) for …], 4)))

A part knows its size; it is drawn at a corner with some room to its right, which texts are cut to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from cnnlens.files import atomic
from cnnlens.voice import one_line

PACKED = 3  # zlib's level for PNG: of photos as small as the usual 6, and quicker

INK, PALE, MARK = "#1a1a1a", "#555555", "#c95400"
Size = tuple[int, int]  # pixels: wide, high


class Part(Protocol):
    """What can be laid out: it knows its size, wide and high, and draws itself at a corner."""

    size: Size

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Draw it with its upper left corner at (x, y), with so much room to the right."""


class Text:
    """A line of text in a box `high` pixels high, cut to `wide` or to the room there is.

    `right` stands at the right edge of the room.
    """

    def __init__(
        self,
        words: str,
        points: int = 12,
        high: int = 17,
        bold: bool = False,
        wide: int = 0,
        right: str = "",
    ) -> None:
        self.size = wide, high
        self._words, self._right = words, one_line(right)
        self._points, self._bold = points, bold

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Write it."""
        pen, letters = ImageDraw.Draw(sheet), font(self._points, self._bold)
        words = cut(self._words, self.size[0] or room, self._points, self._bold)
        pen.text((x, y), words, fill=INK if self._bold else PALE, font=letters)
        if self._right:
            pen.text((x + room, y), self._right, fill=INK, font=letters, anchor="ra")


class Picture:
    """A picture; a hairline around a framed one shows where a white one ends."""

    def __init__(self, image: Image.Image, frame: bool = True) -> None:
        self._image, self._frame, self.size = image, frame, image.size

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Paste it."""
        if self._frame:
            line = (x - 1, y - 1, x + self.size[0], y + self.size[1])
            ImageDraw.Draw(sheet).rectangle(line, outline="#dcdcdc")
        sheet.paste(self._image, (x, y))


class Apart:
    """A part that pages show by itself, whatever room and light there is, words below it."""

    def __init__(self, part: Part, words: str) -> None:
        self.part, self.words, self.size = part, one_line(words), part.size

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Draw it; the sheet then knows where."""
        sheet.info.setdefault("apart", []).append((self.words, (x, y, *self.size)))
        self.part.draw(sheet, x, y, room)


class Drawing:
    """Anything else: some room, and what draws into it, given a pen and the corner."""

    def __init__(
        self,
        wide: int,
        high: int,
        drawn: Callable[[ImageDraw.ImageDraw, int, int], None] | None = None,
    ) -> None:
        self.size, self._drawn = (wide, high), drawn

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Let it be drawn."""
        if self._drawn is not None:
            self._drawn(ImageDraw.Draw(sheet), x, y)


class Grid:
    """Parts in cells as large as the largest of them, row by row; None leaves a cell empty.

    Parameters
    ----------
    parts : sequence of Part or None
        In reading order.
    columns : int
        Cells in a row.
    gap : (int, int)
        Between columns, and between rows.
    """

    def __init__(self, parts: Sequence[Part | None], columns: int, gap: Size = (0, 0)) -> None:
        sizes = [(0, 0), *(part.size for part in parts if part)]
        self._parts, self._columns, self._gap = parts, columns, gap
        self._cell = max(wide for wide, _ in sizes), max(high for _, high in sizes)
        counts = min(columns, len(parts)), -(-len(parts) // columns)
        wide, high = (
            max(count * (side + gap) - gap, 0)
            for count, side, gap in zip(counts, self._cell, gap, strict=True)
        )
        self.size = wide, high

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Draw every part with the room of its cell."""
        (wide, high), (across, down) = self._cell, self._gap
        for place, part in enumerate(self._parts):
            row, column = divmod(place, self._columns)
            if part is not None:
                part.draw(sheet, x + column * (wide + across), y + row * (high + down), wide)


class Row:
    """Parts side by side, each as wide as it is; the last has what room is left."""

    def __init__(self, *parts: Part, gap: int = 0) -> None:
        self._parts, self._gap = parts, gap
        wide = sum(part.size[0] + gap for part in parts) - gap
        self.size = max(wide, 0), max((part.size[1] for part in parts), default=0)

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Draw the parts from left to right."""
        for place, part in enumerate(self._parts, 1):
            wide = part.size[0] if place < len(self._parts) else room
            part.draw(sheet, x, y, wide)
            x, room = x + wide + self._gap, room - wide - self._gap


class Column:
    """Parts one below the other, each with the room of all; of some size at least."""

    def __init__(self, *parts: Part, least: Size = (0, 0)) -> None:
        self._parts = parts
        wide = max((part.size[0] for part in parts), default=0)
        self.size = max(wide, least[0]), max(sum(part.size[1] for part in parts), least[1])

    def draw(self, sheet: Image.Image, x: int, y: int, room: int) -> None:
        """Draw the parts from top to bottom."""
        for part in self._parts:
            part.draw(sheet, x, y, room)
            y += part.size[1]


def sheet(part: Part, margin: int = 20, top: int = 20, bottom: int = 20) -> Image.Image:
    """Draw a part on a white sheet of its size, with margins in pixels around it."""
    wide, high = part.size
    drawn = Image.new("RGB", (wide + 2 * margin, top + high + bottom), "white")
    part.draw(drawn, margin, top, wide)
    return drawn


def cut(words: str, wide: int, points: int = 12, bold: bool = False) -> str:
    """Cut a text to a width in pixels; what is cut ends in an ellipsis."""
    # a file may be called anything, and the letters' layout fails on a new line
    words, letters = one_line(words), font(points, bold)
    while words and letters.getlength(words) > wide:
        words = words[: -2 if words.endswith("…") else -1].rstrip() + "…"
        if words == "…":
            break
    return words


@cache
def font(points: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Open the font of sheets, the one that comes with matplotlib."""
    import matplotlib

    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), points
    )


def fitted(source: Image.Image | Path, cell: int) -> Image.Image:
    """Bring a picture into a white square cell, its proportions kept."""
    return centred(scaled(source, cell), cell, (255, 255, 255))


def centred(picture: Image.Image, cell: int, around: tuple[int, int, int]) -> Image.Image:
    """Put a picture into the middle of a square cell of a colour."""
    square = Image.new("RGB", (cell, cell), around)
    square.paste(picture, ((cell - picture.width) // 2, (cell - picture.height) // 2))
    return square


def scaled(source: Image.Image | Path, cell: int) -> Image.Image:
    """Scale a picture to a longer side of `cell` pixels."""
    picture = opened(source)
    factor = cell / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    sampling = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    return picture.resize(size, sampling)


def opened(picture: Path | Image.Image) -> Image.Image:
    """Open a picture as RGB, a copy where it is open already."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    with Image.open(picture) as found:
        return found.convert("RGB")


def save_png(path: Path, picture: Image.Image) -> None:
    """Write a PNG, whole or not at all; that of a sheet says which parts stand `Apart`."""
    about = PngInfo()
    if found := picture.info.get("apart"):
        about.add_text("apart", json.dumps(found))
    with atomic(path) as temporary:
        picture.save(temporary, "PNG", pnginfo=about, compress_level=PACKED)


def read_apart(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Read which parts of a sheet stand `Apart`: their words and boxes (x, y, wide, high).

    Pictures that are no sheets, and damaged ones, have none.
    """
    if path.suffix != ".png":
        return []
    with suppress(OSError, SyntaxError, ValueError, TypeError), Image.open(path) as picture:
        found = json.loads(picture.info.get("apart", "[]"))
        return [(str(words), tuple(int(length) for length in box)) for words, box in found]
    return []

"""What a unit sees, cut out where no page can do it: for notebooks and for files."""

from __future__ import annotations

from PIL import Image, ImageDraw

from cnnlens.report.seen import Seen

_OUTLINE = (255, 225, 80)


def cell(seen: Seen, side: int, crop: bool = True) -> Image.Image:
    """Show what a unit sees of an image at its peak, as far as it lies in it; else the whole image.

    Where a unit sees all of the image, its mask is outlined. What lies outside is clear.
    """
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    if seen.picture is None or not seen.picture.is_file():
        return square
    with Image.open(seen.picture) as opened:
        picture = opened.convert("RGBA")
    x, y, wide = (share * picture.width for share in seen.window(crop))
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + wide, picture.width), min(y + wide, picture.height)
    size = [max(1, round(length * side / wide)) for length in (right - left, bottom - top)]
    shown = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC, (left, top, right, bottom))
    if seen.view is not None and (seen.view.whole or not crop):
        _draw_outline(shown, seen)
    square.paste(shown, (round((left - x) * side / wide), round((top - y) * side / wide)))
    return square


def _draw_outline(whole: Image.Image, seen: Seen) -> None:
    assert seen.view is not None
    pen, (high, wide) = ImageDraw.Draw(whole), seen.view.size
    for line in seen.lines():
        points = [(x * whole.width / wide, y * whole.height / high) for x, y in line]
        pen.line(points, fill=_OUTLINE, width=2)

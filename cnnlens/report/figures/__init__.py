"""Pictures that methods leave beside their numbers, one file per kind: arrays in, pictures out.

Colours of categories are the same on the page and in every figure, for all sight.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from colorsys import hls_to_rgb, rgb_to_hls
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.files import atomic, write_text
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.sheet import PACKED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 112  # pixels: side of one image in a unit's strip


def new_figure(wide: float, high: float, dpi: int = 110, **more: Any) -> Figure:
    """Open a figure of so many inches with its own Agg canvas; pyplot's state stays untouched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=dpi, **more)
    FigureCanvasAgg(figure)
    return figure


_DRAWN: Any = {"svg.hashsalt": "cnnlens", "svg.fonttype": "none"}  # words as words, in any script
_LONGEST = 1_000_000  # characters of an SVG; longer ones are many dots, better as PNG


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, and as SVG beside it, which is sharp at any size and fits a dark page;
    each whole or not at all, equal figures give equal bytes.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawn = BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with atomic(path) as temporary, warnings.catch_warnings(), rc_context(_DRAWN):
        # scripts that no font at hand has are drawn as boxes; SVG, JSON and page have them whole
        warnings.filterwarnings("ignore", message=".*missing from font")
        # straight from the canvases: `Figure.savefig` draws everything once more for the layout
        FigureCanvasAgg(figure).print_png(
            temporary, metadata={"Software": None}, pil_kwargs={"compress_level": PACKED}
        )
        figure.set_layout_engine("none")  # both have the one that the first has found
        with _transparent(figure, image_dpi=200):
            FigureCanvasSVG(figure).print_svg(drawn, metadata=nothing)
    text = drawn.getvalue().decode("utf-8")
    text = text.replace("</style>", f"{_dark(text)}</style>", 1)
    beside = path.with_suffix(".svg")
    if len(text) <= _LONGEST:
        write_text(beside, text)
    else:
        beside.unlink(missing_ok=True)


@contextmanager
def _transparent(figure: Figure, image_dpi: int) -> Iterator[None]:
    """Within this block a figure has no ground of its own, and images in it are so fine."""
    grounds = [figure.patch, *(axes.patch for axes in figure.axes)]
    before = figure.dpi, [ground.get_visible() for ground in grounds]
    figure.dpi = image_dpi
    for ground in grounds:
        ground.set_visible(False)
    yield
    figure.dpi = before[0]
    for ground, visible in zip(grounds, before[1], strict=True):
        ground.set_visible(visible)


def _dark(text: str) -> str:
    """Style an SVG for a dark ground: lines and words light, hues kept; images stay as they are."""
    rules = [
        f'[style*="{what}: {colour}"] {{ {what}: {_turned(colour)} !important }}'
        for what, colour in sorted(set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", text)))
    ]
    unsaid = f"svg {{ fill: {_turned('#000000')} }}"
    return " ".join(["@media (prefers-color-scheme: dark) {", unsaid, *rules, "}"])


def _turned(colour: str) -> str:
    """Make a light colour dark and a dark one light; white becomes the page's ground."""
    from matplotlib.colors import to_hex, to_rgb

    hue, light, full = rgb_to_hls(*to_rgb(colour))
    return to_hex(hls_to_rgb(hue, 0.92 - 0.82 * light, full))


def rendered(figure: Figure) -> Image.Image:
    """Draw a figure as pixels."""
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]


def as_drawn(path: Path) -> Path:
    """Name the SVG beside a figure, where there is one."""
    beside = path.with_suffix(".svg")
    return beside if beside.is_file() else path


def save_image(path: Path, picture: Image.Image, kind: str, **how: Any) -> None:
    """Write a picture as PNG or WEBP, whole or not at all."""
    with atomic(path) as temporary:
        picture.save(temporary, kind, **how)


def short(name: str, most: int = 26) -> str:
    """Cut a name to what fits, and keep matplotlib from reading it as mathematics."""
    text = "".join(c if c.isprintable() else "�" for c in name)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


def as_seen(
    images: ImageSet, position: int, preprocess: Preprocess, cell: int = CELL
) -> np.ndarray:
    """Return an image as the network sees it, (cell, cell, 3) uint8; grey where it is gone."""
    pixels = plane_seen(images, position, preprocess)
    return np.asarray(Image.fromarray(pixels).resize((cell, cell), Image.Resampling.BILINEAR))


def plane_seen(images: ImageSet, position: int, preprocess: Preprocess) -> np.ndarray:
    """Return a network's input plane for people, (H, W, 3) uint8; grey where the image is gone.

    Of channels that are no colours the mean is shown. Where all images are away that is an error,
    since grey pictures would stay when they are back.
    """
    try:
        if preprocess.channels in images.bands:
            planes = images.pixels(position, preprocess).transpose(1, 2, 0)  # (H, W, C) in [0, 1]
            pixels = np.rint(planes.clip(0, 1) * 255).astype(np.uint8)
        else:
            pixels = preprocess.pixels(images.load(position), images.aligned)  # (H, W, C)
    except DamagedImage:
        images.check_there()
        return np.full((*preprocess.size, 3), 128, np.uint8)
    if pixels.shape[2] != 3:
        pixels = pixels.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    return pixels


def rows_seen(
    images: ImageSet, rows: Sequence[int] | np.ndarray, preprocess: Preprocess, cell: int = CELL
) -> Callable[..., np.ndarray]:
    """Give images by their row in a store, `as_seen`; `rows` says which image each row is of."""

    def seen(row: int, cell: int = cell) -> np.ndarray:
        return as_seen(images, int(rows[row]), preprocess, cell)

    return seen


def sprite(thumbnails: Sequence[np.ndarray], side: int, columns: int) -> Image.Image:
    """Put thumbnails (s, s, 3) uint8 into one picture, so many to a row, for the page's script."""
    sheet = Image.new("RGB", (columns * side, -(-len(thumbnails) // columns) * side), "white")
    for number, thumbnail in enumerate(thumbnails):
        cell = Image.fromarray(thumbnail).resize((side, side), Image.Resampling.BILINEAR)
        sheet.paste(cell, (number % columns * side, number // columns * side))
    return sheet


# -- colours ---------------------------------------------------------------------------------------


class Colour(NamedTuple):
    """A category's colour on a light and on a dark ground (both at least 3:1 against it)."""

    light: str
    dark: str


# After Okabe and Ito, darkened where their hues are too pale for a white page.
_KNOWN = {
    "object": Colour("#0072b2", "#5aa9e0"),
    "part": Colour("#3390c7", "#9ad4f5"),
    "scene": Colour("#008f68", "#2cc29a"),
    "material": Colour("#b07400", "#e8a71a"),
    "texture": Colour("#c95400", "#ff8a4c"),
    "color": Colour("#b0508c", "#e39cc3"),
}
_ALIASES = {
    "colour": "color",
    "shape": "object",
    "color-shape": "scene",
    "colors": "color",
    "shapes": "object",
}
_SPARE = (
    Colour("#5b4a9f", "#b0a3f0"),
    Colour("#6b6b6b", "#b5b5b5"),
    Colour("#7a5230", "#c9a27e"),
    Colour("#2f6f73", "#7fc7cb"),
)


def colours(categories: Sequence[str]) -> dict[str, Colour]:
    """Choose a colour for each category: Broden's always have theirs, others take what is left.

    Parameters
    ----------
    categories : sequence of str
        Category names in the data's order.

    Returns
    -------
    dict of str to Colour
        In the same order. Colours repeat once there are more categories than colours.
    """
    chosen = {name: _KNOWN[name] for name in categories if name in _KNOWN}
    for name in categories:
        wanted = _KNOWN.get(_ALIASES.get(name, ""))
        if name not in chosen and wanted is not None and wanted not in chosen.values():
            chosen[name] = wanted
    taken = set(chosen.values())
    free = [colour for colour in (*_SPARE, *_KNOWN.values()) if colour not in taken]
    free = free or list(_SPARE)
    rest = [name for name in categories if name not in chosen]
    chosen |= {name: free[index % len(free)] for index, name in enumerate(rest)}
    return {name: chosen[name] for name in categories}

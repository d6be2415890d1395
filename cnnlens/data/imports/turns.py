"""Labels of photos that bear an EXIF turn: do they lie on the pixels as stored, or as shown?

Where a photo's sides change places the size of its labels tells. Of squares, half turns and
mirrored photos it does not: these are taken as those of the same set that tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cnnlens.data.imports.source import Size, Unusable
from cnnlens.data.tables import Cells

# what brings a label plane, drawn on the upright image, back to the image as it is stored
BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_SWAPS = (5, 6, 7, 8)  # orientations that make width of height

# what is done about an EXIF turn, as notes say it
STORED = "lie on the pixels as stored"
TURNED = "were turned back to the pixels as stored"
_AS_THOSE = {
    frozenset({STORED}): "lie on the pixels as stored, as those do whose sizes tell",
    frozenset({TURNED}): "were turned back to the pixels as stored, as those whose sizes tell",
    frozenset({STORED, TURNED}): "are taken to lie on the pixels as stored, though of those whose "
    "sizes tell some do and some do not",
    frozenset[str](): "are taken to lie on the pixels as stored, as no size tells whether they do",
}


class Unsure(Exception):  # noqa: N818
    """Labels fit a photo both as stored and turned."""


@dataclass(frozen=True)
class Laid:
    """Labels on the image as it is stored.

    Attributes
    ----------
    cells : Cells
        Their planes.
    said : str
        What was done about an EXIF turn; empty where there is none.
    tells : bool
        Whether sizes say so.
    """

    cells: Cells
    said: str
    tells: bool


def laid(cells: Cells, size: Size, turn: int, as_those: frozenset[str] | None = None) -> Laid:
    """Lay labels on an image as it is stored.

    Parameters
    ----------
    cells : Cells
        Of one image.
    size : (int, int)
        The image's as stored, (height, width).
    turn : int
        Its EXIF orientation; 1: none.
    as_those : frozenset of str, optional
        What was done about labels of the same set whose sizes tell, see `shown_by`; left out: not
        known yet.

    Raises
    ------
    Unusable
        When they fit it in no way.
    Unsure
        When they fit it in both ways, and those of others are not known yet.
    """
    sides = sides_of(cells)
    if sides is None or turn == 1:
        if sides is not None and not _alike(sides, size):
            raise _unfit(sides, size)
        return Laid(cells, STORED if turn != 1 else "", False)
    upright = sides[::-1] if turn in _SWAPS else sides
    fits = _alike(sides, size), _alike(upright, size)
    if not any(fits):
        raise _unfit(sides, size)
    if not all(fits):
        return Laid(_back(cells, turn), TURNED, True) if fits[1] else Laid(cells, STORED, True)
    if as_those is None:
        raise Unsure
    back = as_those == {TURNED}
    return Laid(_back(cells, turn) if back else cells, _AS_THOSE[as_those], False)


def shown_by(found: Iterable[Laid]) -> frozenset[str]:
    """Say what was done about those labels whose sizes tell."""
    return frozenset(one.said for one in found if one.tells)


def notes_of(found: Iterable[Laid]) -> list[str]:
    """Say how many photos bear a turn, and what was done about each kind."""
    counted = Counter(one.said for one in found if one.said)
    return [
        f"{count} images bear an EXIF turn; their labels {what}; the tag was removed"
        for what, count in sorted(counted.items())
    ]


def sides_of(cells: Cells) -> Size | None:
    """Size of the label planes, the same for all; None where there are none."""
    sizes = {item.shape for items in cells.values() for item in items if not isinstance(item, int)}
    if len(sizes) > 1:
        raise Unusable(f"its masks are of {len(sizes)} sizes")
    return next(iter(sizes), None)


def _unfit(sides: Size, size: Size) -> Unusable:
    return Unusable(
        f"its mask is {sides[0]}×{sides[1]} pixels, the image {size[0]}×{size[1]}: "
        "neither the same size nor the same shape"
    )


def _alike(sides: Size, size: Size) -> bool:
    """Whether two sizes are one shape, but for rounding."""
    (sh, sw), (ih, iw) = sides, size
    return abs(sw - iw * sh / ih) <= max(1, iw / ih)


def _back(cells: Cells, turn: int) -> Cells:
    return {
        category: [i if isinstance(i, int) else _turned(i, BACK[turn]) for i in items]
        for category, items in cells.items()
    }


def _turned(plane: np.ndarray, way: Image.Transpose) -> np.ndarray:
    return np.asarray(Image.fromarray(plane.astype(np.int32)).transpose(way)).astype(np.uint16)

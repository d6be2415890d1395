"""Pictures of a generator beside the photos that they come nearest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.report.figures.visualize import SheetCell, as_picture, sheet, title_of
from cnnlens.report.sheet import save_png


def write_nearest(
    folder: Path, entry: Mapping[str, Any], image: np.ndarray, photos: Sequence[np.ndarray]
) -> None:
    """Write the photo nearest by pixels, and a row of the picture with this and that by code.

    Parameters
    ----------
    folder : pathlib.Path
        The layer's.
    entry : mapping
        Of ``visualize.json``, with its ``nearest``.
    image : numpy.ndarray
        (C, H, W) in [0, 1].
    photos : sequence of numpy.ndarray
        By pixels and by code, (C, h, w) in [0, 1].
    """
    pictures = [as_picture(one) for one in (image, *photos)]
    found = entry["nearest"]
    cells = [SheetCell(pictures[0], title_of(entry), "generated")]
    for kind, picture in zip(("pixels", "code"), pictures[1:], strict=True):
        cells.append(SheetCell(picture, f"nearest by {kind}", said(found[kind])))
    for name, drawn in (("nearest", pictures[1]), ("beside", sheet(cells))):
        save_png(folder / name / entry["file"], drawn)


def said(near: Mapping[str, Any]) -> str:
    """Say how far a photo is, beside what is usual among photos."""
    usual = near["photos_distance"]
    of_photos = "" if usual is None else f" (photos {usual:.2g})"
    return f"{near['distance']:.2g} away{of_photos}"

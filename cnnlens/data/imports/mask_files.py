"""Masks in picture files: numbers, palettes, colours, and the tables of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.data.decode import reason_of
from cnnlens.data.imports.source import Read, Unusable
from cnnlens.data.unread import UnreadFile, patiently

_FORMATS = ("PNG", "BMP", "TIFF", "GIF", "WEBP")
MOST_LABEL = 65535  # two bytes of a label plane
VOID = 255  # of masks of 8 bits, where no name says otherwise
NOTHING = frozenset(
    ("background", "_background_", "void", "unlabeled", "unlabelled", "ignore", "nothing", "none")
)

Colour = tuple[int, int, int]


def read_mask(path: Path, colours: bool = False) -> np.ndarray:
    """Read a mask.

    Parameters
    ----------
    path : pathlib.Path
        A PNG, BMP, TIFF, GIF or WebP file.
    colours : bool
        What a palette stands for, instead of its indices.

    Returns
    -------
    numpy.ndarray
        (h, w) uint16 numbers; or (h, w, 3) uint8 where the file has colours.

    Raises
    ------
    Unusable
        When it is missing, damaged, a JPEG, holds something else than label numbers, or holds them
        in its transparency.
    UnreadFile
        When it cannot be read for now.
    """

    def read() -> np.ndarray:
        with Image.open(path, formats=(*_FORMATS, "JPEG")) as image:
            if image.format == "JPEG":
                raise Unusable(f"{path.name} is a JPEG, which changes label numbers: masks are PNG")
            _check_opaque(image, path.name)
            return np.asarray(_plain(image, colours))

    try:
        values = patiently(path, read)
    except FileNotFoundError:
        raise Unusable(f"{path.name} is missing") from None
    except (Unusable, UnreadFile):
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise Unusable(f"{path.name} cannot be read: {reason_of(error)}") from error
    return values if values.ndim == 3 else _numbers(values, path.name)


def _check_opaque(image: Image.Image, name: str) -> None:
    """Refuse a picture of one colour whose shape is in its transparency, which is left out."""
    if image.mode in ("LA", "RGBA"):
        varies = np.ptp(np.asarray(image), axis=(0, 1)) > 0  # (channels,)
        if varies[-1] and not varies[:-1].any():
            raise Unusable(f"{name} has its shapes in its transparency: save them as values")


def _plain(image: Image.Image, colours: bool) -> Image.Image:
    """Leave transparency out, and palettes as they are or as their colours."""
    if colours or image.mode in ("RGBA", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB")
    return image.getchannel("L") if image.mode == "LA" else image


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    whole = values.astype(np.int64)
    if (whole != values).any() or whole.min(initial=0) < 0 or whole.max(initial=0) > MOST_LABEL:
        raise Unusable(f"{name} holds something else than whole numbers from 0 to 65535")
    return whole.astype(np.uint16)


def grey(values: np.ndarray) -> np.ndarray | None:
    """Numbers of a mask whose three channels are equal; None where they are colours."""
    if values.ndim == 2:
        return values
    equal = (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all()
    return values[..., 0].astype(np.uint16) if equal else None


def packed(colours: np.ndarray) -> np.ndarray:
    """One integer for every colour of (…, 3)."""
    r, g, b = np.moveaxis(colours.astype(np.int64), -1, 0)
    return (r << 16) | (g << 8) | b


@dataclass(frozen=True, eq=False)
class Table:
    """What the numbers or the colours of masks mean.

    Attributes
    ----------
    meaning : mapping
        Label number by value of a mask, or by colour; 0 is nothing, said so.
    coloured : bool
        Whether masks are read as colours.
    """

    meaning: Mapping[int, int] | Mapping[Colour, int]
    coloured: bool = False

    def read(self, path: Path) -> Read:
        """Read the mask of one image: a plane of label numbers, and values that have no name."""
        values = read_mask(path, self.coloured)
        if not self.coloured:
            numbers = grey(values)
            if numbers is None:
                raise Unusable(f"{path.name} is coloured, and nothing says what its colours mean")
            values = numbers
        return self.of(values)

    def of(self, values: np.ndarray) -> Read:
        """Look up the values (h, w), or colours (h, w, 3), of a mask."""
        if self.coloured:
            values = packed(values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2))
        known, numbers = self._sorted
        places = np.searchsorted(known, values).clip(max=len(known) - 1)
        named = known[places] == values
        plane = np.where(named, numbers[places], np.uint16(0))  # (sh, sw)
        odd = [] if named.all() else np.unique(values[~named]).tolist()
        return Read({"object": [plane]}, tuple(_said(value, self.coloured) for value in odd))

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Values or packed colours in order, and the label number of each."""
        keys = np.array(list(self.meaning))
        codes = packed(keys) if self.coloured else keys
        order = np.argsort(codes)
        return codes[order], np.array(list(self.meaning.values()), np.uint16)[order]


def _said(value: int, coloured: bool) -> str:
    return (
        f"colour {value >> 16},{value >> 8 & 255},{value & 255}" if coloured else f"value {value}"
    )


def is_nothing(name: str) -> bool:
    """Whether a name says that nothing is there."""
    return name.strip().lower() in NOTHING


def table_of(named: Sequence[tuple[int | Colour, str]]) -> tuple[Table, dict[int, str]]:
    """Make the table, and the labels by number: a mask's own numbers where it has some.

    Values of one name are one label; what is called background, void or the like is nothing, and
    so are 0 and 255 where they have no name. Where 0 has one, all numbers are one higher.
    """
    coloured = bool(named) and isinstance(named[0][0], tuple)
    meaning: dict[Any, int] = {} if coloured else {0: 0, VOID: 0}
    labels: dict[str, int] = {}
    shift = int(any(value == 0 and not is_nothing(name) for value, name in named))
    for value, name in named:
        own = len(labels) + 1 if isinstance(value, tuple) else value + shift
        if own < 0 or own > MOST_LABEL:
            continue  # no mask holds it
        clean = " ".join(name.split()) or f"label {value}"
        meaning[value] = 0 if is_nothing(clean) else labels.setdefault(clean, own)
    return Table(meaning, coloured), {number: name for name, number in labels.items()}

"""Pictures that Pillow cannot read whole: TIFFs of many bands, and samples deeper than 8 bits.

A detector of 12 bits writes files of 16, so that a file's type says little of its values: which of
them become black and white is the data set's (see `cnnlens.data.survey`), the same for all files of
one type.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.data.paths import file_source
from cnnlens.data.ranges import Bounds, Ranges
from cnnlens.data.unread import may_pass

_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BANDS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_ORIENTATION = 274
_COLOURS = (2, 5, 6, 8)  # what a TIFF's samples are: RGB, CMYK, YCbCr, Lab
_WHITE_IS_0 = 0
_MISSING = 42113  # GDAL's tag of the value that marks missing ones


@dataclass(frozen=True)
class Header:
    """What a file says of its samples.

    Attributes
    ----------
    dtype : str
        Their type, as numpy names it.
    bands : int
        Of every pixel.
    axis : int
        Which axis of a TIFF's samples is the bands', where there are some; -1 of a PNG.
    paged : bool
        Whether every band is a page of its own.
    alpha : bool
        Whether the last band says how opaque a pixel is.
    colours : bool
        Whether the first bands are colours, as the file says.
    orientation : int
        How a picture is to be turned, of a TIFF.
    missing : float or None
        The value of pixels that are missing.
    negative : bool
        Whether low values are light, of deep ones: Pillow minds it of 8 bits alone.
    """

    dtype: str
    bands: int = 1
    axis: int = -1
    paged: bool = False
    alpha: bool = False
    colours: bool = False
    orientation: int = 1
    missing: float | None = None
    negative: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether samples have more than 8 bits."""
        return self.dtype not in ("uint8", "bool")

    @property
    def is_ordinary(self) -> bool:
        """Whether Pillow reads the picture whole."""
        if self.bands == 1:
            return self.dtype in ("uint8", "uint16", "int16", "int32", "float32", "bool")
        return self.dtype in ("uint8", "bool") and self.bands in (2, 3, 4) and not self.paged

    @property
    def is_frames(self) -> bool:
        """Whether its pages are frames, of which the first counts, when it is shown."""
        return self.paged and self.bands != 3

    @property
    def shows_colours(self) -> bool:
        """Whether the picture is one of greys or colours."""
        with_alpha = self.alpha and self.bands in (2, 4)
        return (
            self.is_frames
            or self.bands in (1, 3)
            or with_alpha
            or (self.colours and self.bands == 4)
        )


class UnreadBands(Exception):  # noqa: N818
    """A file whose samples cannot be read here, and why."""


def header_of(path: Path) -> Header | None:
    """Read what a PNG, TIFF or deep JPEG 2000 says of its samples; None for any other file."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
        return None
    with path.open("rb") as file:
        start = file.read(26)
    if start.startswith(_PNG) and len(start) == 26:
        deep = start[24] == 16
        bands = _PNG_BANDS.get(start[25], 1)
        return Header("uint16" if deep else "uint8", bands, alpha=bands in (2, 4))
    if start.startswith(_JPEG_2000):
        return _grey_header(path)
    return _tiff_header(path) if start.startswith(_TIFF) else None


def _grey_header(path: Path) -> Header | None:
    """Of a file whose deep greys Pillow gives as they are, and deep colours in 8 bits."""
    try:
        with Image.open(file_source(path), formats=("JPEG2000",)) as image:
            return Header("uint16") if image.mode.startswith("I;16") else None
    except Exception as error:  # whatever is wrong with it is said when it is decoded
        if may_pass(error, path):
            raise
        return None


def _tiff_header(path: Path) -> Header | None:
    import tifffile

    try:
        with tifffile.TiffFile(file_source(path)) as tiff:
            page, series = tiff.pages.first, tiff.series[0]
            axes, shape = series.axes, series.shape
            dtype, missing = page.dtype, _number(page.tags.get(_MISSING))
            turn = int(getattr(page.tags.get(_ORIENTATION), "value", 1))
    except Exception as error:  # whatever is wrong with it, Pillow says it
        if may_pass(error, path):
            raise
        return None
    name = "uint8" if dtype is None else dtype.name
    more: dict[str, Any] = {"orientation": turn, "missing": missing}
    more["negative"] = int(page.photometric) == _WHITE_IS_0 and name not in ("uint8", "bool")
    if "S" in axes and page.samplesperpixel > 1:
        # pages of several samples each are frames, of which the first counts
        alpha = any(int(extra) in (1, 2) for extra in page.extrasamples)
        more |= {"alpha": alpha, "colours": int(page.photometric) in _COLOURS}
        return Header(name, page.samplesperpixel, page.axes.index("S"), **more)
    if len(shape) != 3:
        return Header(name, axis=2, **more)
    # an array that was written as it is has its bands where it is short
    last = axes[0] == "Q" and shape[2] < shape[0]
    bands, axis = (shape[2], 2) if last else (shape[0], 0)
    return Header(name, bands, axis, paged=not last, **more)


def _number(tag: Any) -> float | None:
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def read_samples(path: Path, header: Header) -> np.ndarray:
    """Read a file's samples as they are stored, (H, W, C); (H, W) where there is one.

    Raises
    ------
    UnreadBands
        When they are compressed in a way that cannot be read here.
    """
    if header.axis == -1:
        return _png_samples(path)
    import tifffile

    try:
        with tifffile.TiffFile(file_source(path)) as tiff:
            whole = header.paged or (header.axis == 2 and tiff.pages.first.ndim == 2)
            values = tiff.series[0].asarray() if whole else tiff.pages.first.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            how = re.sub(r"<?COMPRESSION\.(\w+)(: \d+>)?", r"compressed as \1", str(error))
            what = how.split(" requires")[0]
            raise UnreadBands(f"{what}: needs imagecodecs (pip install imagecodecs)") from error
        raise
    return np.moveaxis(values, header.axis, -1) if values.ndim == 3 else values


def _png_samples(path: Path) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_image

    data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    return decode_image(data, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()  # (H, W, C)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array (H, W) or (H, W, C) as an orientation tag says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def as_picture(values: np.ndarray, ranges: Ranges, alpha: bool = False) -> Image.Image:
    """Show samples (H, W) or (H, W, C): of more than three bands the first three, as colours."""
    kind = sample_type(values)
    if alpha:
        opaque = eight_bits(values[:, :, -1:], ranges.of(kind + ALPHA))
        colours = eight_bits(values[:, :, :-1], ranges.of(kind))
        return Image.fromarray(np.concatenate([colours, opaque], axis=2))
    pixels = eight_bits(values, ranges.of(kind))
    if pixels.ndim == 3:
        pixels = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def as_planes(values: np.ndarray, ranges: Ranges) -> np.ndarray:
    """Return samples (H, W, C) as planes (C, H, W) float32 in [0, 1]."""
    kind = sample_type(values)
    bounds = [known for name in (kind, kind + ALPHA) if (known := ranges.of(name))]
    widest = (min(b[0] for b in bounds), max(b[1] for b in bounds)) if bounds else None
    return unit_range(values, widest).transpose(2, 0, 1)


# -- samples of any depth to 8 bits, or to [0, 1] -------------------------------------------------

_BAND = 256  # rows
_MOST_BITS = 16
_ENDLESS = 1e30  # beyond it lie marks of missing values
ALPHA = " alpha"  # in the name of a type of samples: only how opaque a pixel is


def sample_type(values: np.ndarray) -> str:
    """Name the type of a picture's samples, (H, W) or (H, W, C): ``int32``, ``uint16×13``."""
    bands = values.shape[2] if values.ndim == 3 else 1
    return values.dtype.name + (f"×{bands}" if bands > 1 else "")


def present(values: np.ndarray, missing: float | None = None) -> np.ndarray:
    """Return the values without those that mark missing ones."""
    if values.dtype.kind == "f":
        wide = values.astype(np.result_type(values, np.float32), copy=False)
        values = values[np.isfinite(wide) & (np.abs(wide) < _ENDLESS)]
    return values if missing is None else values[values != missing]


def extent(values: np.ndarray) -> Bounds | None:
    """Return the lowest and the highest of some values; None where there are none."""
    return (float(values.min()), float(values.max())) if values.size else None


def full_range(low: float, high: float, is_float: bool) -> Bounds:
    """Choose the bounds for values that run from `low` to `high`.

    Numbers from 0 on are taken to have as many bits as the highest needs, 8 at least: 0 to 4095 for
    12 bits. Floats up to 1 run to 1. What has a sign, or more than 16 bits, runs as it does.
    """
    if low < 0:
        return low, high
    if is_float and high <= 1:
        return 0.0, 1.0
    for bits in range(8, _MOST_BITS + 1):
        if high <= 2**bits - 1:
            return 0.0, float(2**bits - 1)
    return 0.0, high


def eight_bits(values: np.ndarray, bounds: Bounds | None) -> np.ndarray:
    """Bring samples (H, W) or (H, W, C) of any type to uint8.

    Whole numbers of 9 to 15 bits lose their lowest bits, as a picture of 8 bits has lost them;
    everything else is rounded. Without bounds: those of the type's own.
    """
    low, high = _usual(values) if bounds is None else bounds
    bits = int(high + 1).bit_length() - 1
    exact = values.dtype.kind in "iu" and low == 0 and high == 2**bits - 1 and 8 <= bits < 16
    scaled = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _BAND):  # in bands: float64 of a large picture is gigabytes
        band = np.nan_to_num(values[first : first + _BAND].astype(np.float64), nan=low)
        band = np.clip(band, low, high) - low
        step = band // 2 ** (bits - 8) if exact else np.rint(band * (255 / ((high - low) or 1.0)))
        scaled[first : first + _BAND] = step
    return scaled


def unit_range(values: np.ndarray, bounds: Bounds | None) -> np.ndarray:
    """Bring samples of any type to float32 in [0, 1]."""
    low, high = _usual(values) if bounds is None else bounds
    numbers = np.nan_to_num(values.astype(np.float32), nan=low)
    return np.clip((numbers - low) / ((high - low) or 1.0), 0, 1).astype(np.float32)


def _usual(values: np.ndarray) -> Bounds:
    """The range that a file's type alone speaks for."""
    if values.dtype == np.uint8:
        return 0.0, 255.0
    top = float(values.max(initial=0, where=np.isfinite(values)))
    if values.dtype.kind != "f":
        return 0.0, 65535.0 if top <= 65535 else 2.0**31 - 1
    return 0.0, next((full for full in (1.0, 255.0, 65535.0) if top <= full), top)

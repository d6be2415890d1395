"""One picture from disk, whatever its format, as 8-bit RGB or grey; damage is named, never met.

Colour profiles are ignored, as the training pipelines of the published networks ignore them.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from cnnlens.data.bands import (
    Header,
    UnreadBands,
    as_picture,
    as_planes,
    eight_bits,
    header_of,
    read_samples,
    sample_type,
    turned,
)
from cnnlens.data.formats import readable_formats
from cnnlens.data.paths import file_source, held
from cnnlens.data.ranges import NO_RANGES, Ranges
from cnnlens.data.unread import UnreadFile, may_pass, patiently

# Pillow's readers log what is wrong with a file; here it is said once, in one line
logging.getLogger("PIL").addHandler(logging.NullHandler())

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_EXIF_HOLDERS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


class DamagedImage(Exception):  # noqa: N818  (named after what it is about, as all code that meets it reads)
    """An image that cannot be read: skipped, counted and named, never shown as a traceback.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    reason : str
        What is wrong with it, in a few words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


Turned = Callable[[tuple[int, int], tuple[int, int]], bool]
Found = TypeVar("Found")


def load_image(
    path: Path,
    mode: str = "RGB",
    ranges: Ranges = NO_RANGES,
    is_turned: Turned = lambda stored, turned: True,
) -> Image.Image:
    """Decode a picture: the first frame, upright, opaque, 8 bits per channel.

    Parameters
    ----------
    path : pathlib.Path
        A JPEG, PNG, WebP, BMP, TIFF, GIF or Netpbm file, or what else `readable_formats` names,
        recognised by its contents.
    mode : {"RGB", "L"}
        Colour or grey.
    ranges : Ranges
        Which values of files deeper than 8 bits become black and white.
    is_turned : callable
        Whether the picture is turned as its orientation tag says, by its height and width as
        stored and as turned.

    Returns
    -------
    PIL.Image.Image
        Transparent pictures lie on white. Without `ranges` 16 bits are divided by 257, and floats
        are taken to run to 1, 255 or 65535, whichever is the first that holds their maximum.

    Raises
    ------
    DamagedImage
        When the file is missing, empty, truncated, no image, or too large to be decoded safely.
    UnreadFile
        When it cannot be read for now.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f"mode must be 'RGB' or 'L', not {mode!r}")
    return _read(path, lambda file: _picture(file, mode, ranges, is_turned))


def _picture(path: Path, mode: str, ranges: Ranges, is_turned: Turned) -> Image.Image:
    header = header_of(path)
    if header is not None and not header.is_ordinary and not header.is_frames:
        samples = _samples(path, header, is_turned)
        whole = as_picture(samples, ranges, header.alpha)
        if header.axis == -1 and header.bands == 3:  # of a PNG, one of whose colours may be clear
            with opened(path) as image:
                whole = _without(whole, samples, image.info.get("transparency"))
        return _positive(flat(whole, mode), header)
    with opened(path) as image:
        image.load()
        return _positive(flat(upright(image, is_turned), mode, ranges), header)


def _read(path: Path, read: Callable[[Path], Found]) -> Found:
    """Read a file that has bytes; tell damage from what may pass."""

    def once() -> Found:
        _check_file(path)
        return read(held(path))

    try:
        return patiently(path, once)
    except (DamagedImage, UnreadFile):
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise DamagedImage(path, reason_of(error)) from error


def load_planes(
    path: Path,
    channels: int,
    ranges: Ranges = NO_RANGES,
    is_turned: Turned = lambda stored, turned: True,
) -> np.ndarray | None:
    """Read a picture of as many bands as a network has channels.

    Returns
    -------
    numpy.ndarray or None
        (C, H, W) float32 in [0, 1]; None for a picture of greys or colours.

    Raises
    ------
    DamagedImage
        When it is damaged, or has another number of bands.
    UnreadFile
        When it cannot be read for now.
    """
    return _read(path, lambda file: _planes(file, channels, ranges, is_turned))


def _planes(path: Path, channels: int, ranges: Ranges, is_turned: Turned) -> np.ndarray | None:
    header = header_of(path)
    if header is None or (
        header.shows_colours and (channels in (1, 3) or header.bands != channels)
    ):
        return None
    if header.bands == channels:
        planes = as_planes(_samples(path, header, is_turned), ranges)
        return 1 - planes if header.negative else planes
    raise DamagedImage(path, f"{header.bands} bands, and the network takes {channels} channels")


def _positive(image: Image.Image, header: Header | None) -> Image.Image:
    """Turn a deep negative, whose low values are light, into what it shows."""
    return ImageChops.invert(image) if header and header.negative else image


def _samples(path: Path, header: Header, is_turned: Turned) -> np.ndarray:
    """Read samples (H, W) or (H, W, C), upright."""
    values = read_samples(path, header)
    stored, orientation = (values.shape[0], values.shape[1]), header.orientation
    if header.axis == -1:  # a PNG, whose tag may stand behind its pixels
        with opened(path) as image:
            image.load()
            orientation = orientation_of(image)
    if orientation > 1 and is_turned(stored, sides(stored, orientation)):
        return turned(values, orientation)
    return values


def sides(stored: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return height and width of a picture once it is turned."""
    return stored[::-1] if orientation in (5, 6, 7, 8) else stored


def opened(path: Path) -> Image.Image:
    """Open a picture of a format that is read here; only its header is read yet."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
        raise FileNotFoundError(path)
    return Image.open(file_source(path), formats=tuple(readable_formats()))


def _check_file(path: Path) -> None:
    """Turn away what has no bytes to decode; opening a pipe would wait forever."""
    try:
        found = path.stat()
    except FileNotFoundError:
        gone = "a link to nothing" if path.is_symlink() else "missing"
        raise DamagedImage(path, gone) from None
    except (OSError, ValueError) as error:
        if may_pass(error, path):
            raise
        raise DamagedImage(path, getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedImage(path, "not a file")
    if found.st_size == 0:
        raise DamagedImage(path, "empty file")


def reason_of(error: Exception) -> str:
    """Say in a few words why Pillow could not read a file."""
    if isinstance(error, UnreadBands):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too large to decode"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    if isinstance(error, PermissionError):
        return f"may not be read ({text})"
    return "truncated" if "truncated" in text.lower() else f"damaged ({text})"


def upright(image: Image.Image, is_turned: Turned = lambda stored, turned: True) -> Image.Image:
    """Turn the picture as its orientation tag says; most have none, which costs nothing to see."""
    orientation = orientation_of(image)
    if (turn := _TURNS.get(orientation)) is None:
        return image
    stored = image.height, image.width
    return image.transpose(turn) if is_turned(stored, sides(stored, orientation)) else image


def orientation_of(image: Image.Image) -> int:
    """Return a picture's orientation tag; 1 where it has none that can be read."""
    if image.format != "TIFF" and not any(key in image.info for key in _EXIF_HOLDERS):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken tag does not make the picture unreadable
        return 1
    return orientation if isinstance(orientation, int) else 1


def flat(image: Image.Image, mode: str, ranges: Ranges = NO_RANGES) -> Image.Image:
    """Bring any of Pillow's pixel modes to ``RGB`` or ``L``, opaque, 8 bits per channel."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)  # (H, W)
        shown = Image.fromarray(eight_bits(values, ranges.of(sample_type(values))))
        return _without(shown, values, image.info.get("transparency")).convert(mode)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG to be Adobe's inverted kind
    if image.has_transparency_data:
        image = _on_white(image)
    return image.convert(mode)


def _without(shown: Image.Image, samples: np.ndarray, clear: Any) -> Image.Image:
    """Lay a deep picture on white where its samples (H, W) or (H, W, 3) are the one value or colour
    that is transparent, which a PNG may name: Pillow minds it of 8 bits alone.
    """
    if not isinstance(clear, int | tuple) or np.size(clear) != (samples.shape[2:] or (1,))[0]:
        return shown
    same = samples == np.array(clear)
    pixels = np.array(shown)
    pixels[same.all(axis=2) if same.ndim == 3 else same] = 255
    return Image.fromarray(pixels)


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")

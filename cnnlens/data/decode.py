"""One picture from disk, whatever its format, as 8-bit RGB or grey; damage is named, never met.

Colour profiles are ignored, as the training pipelines of the published networks ignore them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

# a closed list: some of Pillow's other readers start programs or read other files
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")

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
_BAND = 256  # rows
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


def load_image(path: Path, mode: str = "RGB") -> Image.Image:
    """Decode a picture: the first frame, upright, opaque, 8 bits per channel.

    Parameters
    ----------
    path : pathlib.Path
        A JPEG, PNG, WebP, BMP or TIFF file, recognised by its contents.
    mode : {"RGB", "L"}
        Colour or grey.

    Returns
    -------
    PIL.Image.Image
        Transparent pictures lie on white, 16 bits are divided by 257, floats are taken to run to
        1, 255 or 65535, whichever is the first that holds their maximum.

    Raises
    ------
    DamagedImage
        When the file is missing, empty, truncated, no image, or too large to be decoded safely.
    """
    if mode not in ("RGB", "L"):
        raise ValueError(f"mode must be 'RGB' or 'L', not {mode!r}")
    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            return flat(_upright(image), mode)
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise DamagedImage(path, reason_of(error)) from error


def _check_file(path: Path) -> None:
    """Turn away what has no bytes to decode; opening a pipe would wait forever."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DamagedImage(path, "missing") from None
    except (OSError, ValueError) as error:
        raise DamagedImage(path, getattr(error, "strerror", None) or str(error)) from error
    if not path.is_file():
        raise DamagedImage(path, "not a file")
    if size == 0:
        raise DamagedImage(path, "empty file")


def reason_of(error: Exception) -> str:
    """Say in a few words why Pillow could not read a file."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too large to decode"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return "truncated" if "truncated" in text.lower() else f"damaged ({text})"


def _upright(image: Image.Image) -> Image.Image:
    """Turn the picture as its orientation tag says; most have none, which costs nothing to see."""
    if image.format != "TIFF" and not any(key in image.info for key in _EXIF_HOLDERS):
        return image
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken tag does not make the picture unreadable
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def flat(image: Image.Image, mode: str) -> Image.Image:
    """Bring any of Pillow's pixel modes to ``RGB`` or ``L``, opaque, 8 bits per channel."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bits(image).convert(mode)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG to be Adobe's inverted kind
    if image.has_transparency_data:
        image = _on_white(image)
    return image.convert(mode)


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float greys to 8 bits (Pillow would clip them)."""
    values = np.asarray(image)  # (H, W)
    top = float(values.max(initial=0, where=np.isfinite(values)))
    if image.mode != "F":
        full = 65535.0 if top <= 65535 else 2.0**31 - 1
    else:
        full = next((full for full in (1.0, 255.0, 65535.0) if top <= full), top)
    scaled = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _BAND):  # in bands: float64 of a large picture is gigabytes
        band = np.nan_to_num(values[first : first + _BAND].astype(np.float64), nan=0.0)
        scaled[first : first + _BAND] = np.rint(np.clip(band, 0, full) * (255 / full))
    return Image.fromarray(scaled)

"""What Python gives to a method, brought to what the command line gives: paths and opened data."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnnlens.data.decode import upright
from cnnlens.data.memory import opened_images
from cnnlens.data.memory_item import (
    bands_of,
    check_item,
    check_whole,
    is_deep,
    picture_of,
    planes_of,
)
from cnnlens.data.planes_file import ENDING, planes_bytes
from cnnlens.data.ranges import Bounds, Ranges
from cnnlens.errors import UsageError
from cnnlens.files import atomic
from cnnlens.settings.option import Field, plain

if TYPE_CHECKING:
    from cnnlens.model.preprocess import Preprocess


@dataclass
class PythonValues:
    """Brings the values of one call to what the command line gives.

    Attributes
    ----------
    folder : pathlib.Path
        Where pictures in memory that are named one by one become files.
    labels : sequence or None
        Those of data in memory.
    bounds : (float, float) or None
        The range that was asked for.
    fed : callable
        Gives how the network takes pixels, None where there is no one network; asked only of
        images in memory.
    """

    folder: Path
    labels: Sequence[Any] | None = None
    bounds: Bounds | None = None
    fed: Callable[[], Preprocess | None] = lambda: None

    def typed(self, field: Field, value: Any) -> Any:
        """Bring one value there."""
        if value is None:
            return None
        if field.keyword in ("data", "negatives"):
            if isinstance(value, (str, Path)):
                return Path(value).expanduser()
            labels = self.labels if field.keyword == "data" else None
            return opened_images(value, labels, self.fed(), self.bounds)
        if field.type is not Path and _is_image(value):  # where a word or an image may be named
            return str(self.file(value, 0))
        several = _several(value)
        if field.type is Path:
            files = tuple(self.file(one, number) for number, one in enumerate(several))
            if not field.repeats and len(files) != 1:
                raise UsageError(f"{field.keyword} is {len(files)} images", "give one")
            return files if field.repeats else files[0]
        return tuple(str(plain(one)) for one in several) if field.repeats else value

    def file(self, image: Any, number: int) -> Path:
        """Write an image, named by its place in a list and by what it shows; say where.

        One that has a file stays there.
        """
        if isinstance(image, (str, Path)):
            return Path(image).expanduser()
        check_item(image, number)
        check_whole(image, number)
        content, ending = _as_file(image, number, self.fed(), self.bounds)
        path = self.folder / f"{number:04d}-{hashlib.sha256(content).hexdigest()[:6]}{ending}"
        if not path.is_file():
            with atomic(path) as temporary:
                temporary.write_bytes(content)
        return path


def _is_image(value: Any) -> bool:
    return isinstance(value, Image.Image) or getattr(value, "ndim", 0) > 1


def _several(value: Any) -> list[Any]:
    """Return what is given as a list: the images of a batch (N, C, H, W), the numbers of an array
    (N,), too.
    """
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) in (1, 4):
        return list(value)
    return [value]


def _as_file(
    image: Any, number: int, preprocess: Preprocess | None, bounds: Bounds | None
) -> tuple[bytes, str]:
    """Return the content of a file that is read as the image, and its ending.

    A picture of 8 bits is a PNG; a PIL image of more, or of inks, a TIFF; what only the network's
    input plane holds, a file of planes.
    """
    if isinstance(image, Image.Image):
        try:
            image.load()
        except Exception as error:
            raise UsageError(
                f"image {number} cannot be read: {error}", "load it before its file is closed"
            ) from error
        return _of_pillow(image, number, preprocess)
    ranges = Ranges((), bounds)
    if preprocess is not None:
        planes = planes_of(image, number, preprocess, ranges)
        if planes is not None and not _is_picture(planes, preprocess):
            return planes_bytes(planes), ENDING
    if bands_of(image) not in (1, 3, 4):
        raise UsageError(
            f"image {number} has {bands_of(image)} channels, and no one network is named that "
            "takes as many",
            "give greys or colours",
        )
    return _saved(picture_of(image, number, ranges=ranges), "PNG"), ".png"


def _of_pillow(image: Image.Image, number: int, preprocess: Preprocess | None) -> tuple[bytes, str]:
    if is_deep(image):
        values = np.asarray(upright(image))
        own = values.astype(values.dtype.newbyteorder("="))
        return _saved(Image.fromarray(own), "TIFF"), ".tif"
    if image.mode == "CMYK" and bands_of(image) == 4:
        return _saved(upright(image), "TIFF"), ".tif"
    if image.mode in ("RGBA", "LA") and bands_of(image) != 3:
        return _saved(upright(image), "PNG"), ".png"
    # greys are made of what it is, as of a file: by way of colours they are rounded twice
    grey = preprocess is not None and preprocess.channels == 1 and image.mode != "RGB"
    try:
        return _saved(picture_of(image, number, "L" if grey else None), "PNG"), ".png"
    except ValueError as error:  # as Pillow has no way from Lab to colours
        raise UsageError(f"image {number} is no picture of colours: {error}") from error


def _is_picture(planes: np.ndarray, preprocess: Preprocess) -> bool:
    """Whether 8 bits hold planes (C, H, W) of greys or colours without loss."""
    if preprocess.done or len(planes) not in (1, 3):
        return False
    pixels = np.rint(planes * 255).astype(np.uint8)
    return np.array_equal(pixels / np.float32(255), planes)


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    if not is_deep(image):  # the samples alone: a profile or a tag would say more of them
        image = Image.frombytes(image.mode, image.size, image.tobytes())
    image.save(buffer, kind)
    return buffer.getvalue()

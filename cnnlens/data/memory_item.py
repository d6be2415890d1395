"""One image in memory, a PIL image, an array or a tensor: as a network takes it, and as a picture.

What it becomes is what a file of the same samples in a folder becomes.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from cnnlens.data.bands import header_of, sample_type, unit_range
from cnnlens.data.decode import flat, upright
from cnnlens.data.ranges import NO_RANGES, Ranges
from cnnlens.errors import UsageError

if TYPE_CHECKING:
    from cnnlens.model.preprocess import Preprocess

_FORMS = (
    "an image may be a PIL image, a uint8 array (H, W, C), or a uint8 or [0, 1] float tensor "
    "(C, H, W)"
)
_LABELS = ("label", "labels", "target", "class", "category", "y")  # keys of dicts
_PIL_BANDS = {"RGBA": 4, "CMYK": 4, "LA": 2}  # what a PNG or TIFF of them has; others are colours
_COLOURS = (1, 3)  # channels of greys and of colours


def is_float(item: Any) -> bool:
    """Whether an image is made of floats, which keep their precision."""
    return isinstance(item, torch.Tensor) and item.is_floating_point()


def is_deep(item: Any) -> bool:
    """Whether an image is a PIL image of more than 8 bits."""
    return isinstance(item, Image.Image) and (item.mode == "F" or item.mode.startswith("I"))


def check_item(item: Any, index: int) -> None:
    """Raise UsageError for what is no image, naming it and the way out."""
    if isinstance(item, Image.Image):
        return
    if not isinstance(item, (np.ndarray, torch.Tensor)):
        raise _no_image(index, _described(item), _way_out(item))
    shape, kind = tuple(item.shape), str(item.dtype).removeprefix("torch.")
    if isinstance(item, torch.Tensor):
        if item.ndim != 3 or 0 in shape:
            raise _no_image(index, f"a tensor {shape}, not (C, H, W)", _FORMS)
        if not (item.is_floating_point() or item.dtype == torch.uint8):
            raise _no_image(index, f"a tensor of {kind} {shape}", f"x.to(torch.uint8): {_FORMS}")
    elif item.dtype != np.uint8 or item.ndim not in (2, 3) or 0 in shape:
        raise _no_image(index, f"{kind} {shape}", _way_out(item))


def check_whole(item: Any, index: int) -> None:
    """Raise UsageError for colours of 16 bits, of which Pillow keeps the upper 8: of a film of 12
    bits next to nothing.
    """
    file = getattr(item, "filename", None)
    if not file or getattr(item, "format", None) != "PNG":
        return
    with suppress(OSError, TypeError):
        header = header_of(Path(file))
        if header is not None and header.bands > 1 and header.dtype != "uint8":
            raise UsageError(
                f"image {index} has colours of 16 bits, of which Pillow keeps 8",
                f"name its file or its folder instead: {file}",
            )


def _no_image(index: int, what: str, hint: str) -> UsageError:
    return UsageError(f"image {index} is {what}", hint)


def _described(item: Any) -> str:
    if item is None:
        return "None"
    if isinstance(item, (str, Path)):
        return f"a path, '{item}'"
    return f"a {type(item).__name__}"


def _way_out(item: Any) -> str:
    if isinstance(item, (str, Path)):
        return "name a folder of images by its path alone, or open each: PIL.Image.open(path)"
    if isinstance(item, dict):
        return f"make pairs of items, {_pair_of(item)}; {_FORMS}"
    if isinstance(item, np.ndarray) and item.ndim in (2, 3) and item.dtype.kind in "uif":
        if item.dtype.kind == "f":
            return f"torch.from_numpy(x).permute(2, 0, 1), with values in [0, 1]; {_FORMS}"
        return f"x.astype('uint8'), or of one channel PIL.Image.fromarray(x); {_FORMS}"
    return _FORMS


def _pair_of(item: dict[Any, Any]) -> str:
    """Write how an image and its label are taken out of a dict, by the keys that it has."""
    images = [
        key
        for key, value in item.items()
        if isinstance(value, Image.Image) or getattr(value, "ndim", 0) in (2, 3)
    ]
    labels = [key for key, value in item.items() if isinstance(value, (int, str, np.integer))]
    named = [key for key in labels if str(key).lower() in _LABELS]
    image, label = [*images, "image"][0], [*named, *labels, "label"][0]
    return f"(item[{image!r}], item[{label!r}])"


def bands_of(item: Any) -> int:
    """Return how many bands a file of the image would have."""
    if isinstance(item, Image.Image):
        # what a JPEG or WebP holds are colours, whatever their mode
        has_bands = item.format in (None, "PNG", "TIFF")
        return _PIL_BANDS.get(item.mode, 3) if has_bands else 3
    if isinstance(item, torch.Tensor):
        return int(item.shape[0])
    return int(item.shape[2]) if item.ndim == 3 else 1


def planes_of(
    item: Any, index: int, preprocess: Preprocess, ranges: Ranges = NO_RANGES
) -> np.ndarray | None:
    """Return an image as it is fed, where it is not fed as a picture of 8 bits.

    Parameters
    ----------
    item : PIL image, array or tensor
        As `check_item` lets it pass.
    index : int
        Its number, for messages.
    preprocess : Preprocess
        Of the network. Of tensors that are `done` the pixels are returned that `normalize` turns
        into them, to float32's rounding.
    ranges : Ranges
        `everything`, where a range was asked for: which values of floats become 0 and 1.

    Returns
    -------
    numpy.ndarray or None
        (C, H, W) float32 in units of [0, 1], of the image's own size; None for greys and colours,
        but for floats of the network's size and channels.

    Raises
    ------
    UsageError
        When it has neither greys or colours nor as many channels as the network.
    """
    bands, channels = bands_of(item), preprocess.channels
    if is_float(item):
        tensor = item.detach().cpu().float()  # (C, H, W)
        if preprocess.done:
            return _undone(tensor, index, preprocess)
        tensor = _in_unit(tensor, index, ranges)
        fits = bands == channels and tuple(tensor.shape[1:]) == preprocess.size
        if fits or (bands == channels and channels not in _COLOURS):
            return np.ascontiguousarray(tensor.numpy())
    elif bands == channels and channels not in _COLOURS:
        return np.ascontiguousarray(unit_range(_samples(item), None).transpose(2, 0, 1))
    if not isinstance(item, Image.Image) and bands not in (*_COLOURS, 4):
        raise _other_channels(item, index, preprocess)
    return None


def picture_of(
    item: Any,
    index: int = 0,
    mode: str | None = None,
    preprocess: Preprocess | None = None,
    ranges: Ranges = NO_RANGES,
) -> Image.Image:
    """Return an image as a picture of 8 bits.

    Parameters
    ----------
    item : PIL image, array or tensor
        As `check_item` lets it pass.
    index : int
        Its number, for messages.
    mode : {"RGB", "L"}, optional
        Left out: as the samples are, which may be RGBA.
    preprocess : Preprocess, optional
        Of the network: four channels are colours with alpha, unless it takes four; and what is
        `done` already is turned back.
    ranges : Ranges
        Which values become black and white, of what is deeper than 8 bits.
    """
    if isinstance(item, Image.Image):
        _check_range_known(item, index, ranges)
        item.load()
        return flat(upright(item), mode or ("L" if item.mode in ("L", "1") else "RGB"), ranges)
    if is_float(item):
        tensor = item.detach().cpu().float()
        if preprocess is not None and preprocess.done:
            tensor = torch.from_numpy(_undone(tensor, index, preprocess, sized=False)).clamp(0, 1)
        else:
            tensor = _in_unit(tensor, index, ranges)
        item = (tensor * 255).round().to(torch.uint8)
    values = _samples(item)
    count = values.shape[2]
    if count != 4 or (preprocess is not None and preprocess.channels == 4):
        values = values[:, :, :3] if count >= 3 else values[:, :, 0]
    picture = Image.fromarray(np.ascontiguousarray(values))
    return picture if mode is None else flat(picture, mode)


def _samples(item: Any) -> np.ndarray:
    """The samples of an image of 8 bits, (H, W, C) uint8."""
    if isinstance(item, Image.Image):
        item.load()
        return np.asarray(upright(item))
    if isinstance(item, torch.Tensor):
        return item.detach().cpu().permute(1, 2, 0).numpy()
    array = np.ascontiguousarray(item)
    return array if array.ndim == 3 else array[:, :, None]


def _in_unit(tensor: torch.Tensor, index: int, ranges: Ranges) -> torch.Tensor:
    """Floats in [0, 1], brought there where a range was asked for."""
    low, high = float(tensor.min()), float(tensor.max())
    if low >= 0 and high <= 1 and ranges.everything is None:
        return tensor
    if low != low or high != high or ranges.everything is None:  # NaN has no place in a range
        raise UsageError(
            f"image {index} has values from {low:.3g} to {high:.3g}, floats are expected in [0, 1]",
            "if they are normalised already, say so: Preprocess(..., done=True); "
            "range='LOW,HIGH' says which values are 0 and 1",
        )
    return torch.from_numpy(unit_range(tensor.numpy(), ranges.everything))


def _undone(
    tensor: torch.Tensor, index: int, preprocess: Preprocess, sized: bool = True
) -> np.ndarray:
    """Turn what is normalised already back into pixels (C, H, W)."""
    wanted = (preprocess.channels, *preprocess.size)
    if tuple(tensor.shape[: 3 if sized else 1]) != wanted[: 3 if sized else 1]:
        raise UsageError(
            f"image {index} is {tuple(tensor.shape)}, the network's input is {wanted}",
            "tensors that are normalised already (done=True) are fed as they are, not resampled",
        )
    return preprocess.unnormalize(tensor[None])[0].numpy()


def _other_channels(item: Any, index: int, preprocess: Preprocess) -> UsageError:
    shape, kind = tuple(item.shape), str(item.dtype).removeprefix("torch.")
    return UsageError(
        f"image {index} is {kind} {shape}: {bands_of(item)} channels, and the network takes "
        f"{preprocess.channels}",
        f"arrays are (H, W, C), tensors (C, H, W); {_FORMS}",
    )


def _check_range_known(item: Image.Image, index: int, ranges: Ranges) -> None:
    """Refuse to guess how deep an image is that the others say nothing of."""
    if is_deep(item) and ranges.of(kind := sample_type(np.asarray(item))) is None:
        raise UsageError(
            f"image {index} is deeper than 8 bits ({kind}), and those that were looked at are not",
            "say which values become black and white: range='LOW,HIGH'",
        )

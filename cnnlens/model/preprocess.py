"""From a decoded picture to the tensor a network expects: size, range, mean and deviation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnnlens.errors import UsageError, counted
from cnnlens.settings.option import plain

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_MOST_PIXELS = 1 << 25  # that an image is resized to; of a longer strip only the middle is


@dataclass(frozen=True)
class Preprocess:
    """How pixels become network input.

    Attributes
    ----------
    size : (int, int)
        Height and width of the network's input, in pixels.
    mean, std : tuple of float
        Per channel, in units of pixel values scaled to [0, 1]; as many as there are channels.
    resize : int, float or None
        Length of the shorter side before the centre crop of plain photos; None: the crop's own.
        Of an input that is not square it may be no whole number: what either side becomes is cut
        to one, as timm does.
    interpolation : {"bilinear", "bicubic", "nearest", "lanczos"}
        Resampling filter (antialiased, as Pillow does it).
    scale : float
        Factor after scaling to [0, 1]: 255 for networks of the Caffe era.
    bgr : bool
        Channels in the order blue, green, red (Caffe); mean and std are then in that order too.
    done : bool
        Tensors of data in memory are normalised already, by these mean and std (and scale, bgr).
        They reach the network as they are; pictures, which are not, are normalised as ever.
    stretch : bool
        Plain photos too are stretched, as transformers' ViT has it: to the input size, or so that
        their sides are `resize` before the crop, as timm squashes them.
    floor : bool
        A crop that would begin half way between two pixels begins at the first, as transformers'
        does; else at the even one, as torchvision's.
    source : str
        Where these settings come from, for people: "torchvision", "checkpoint", "assumed".
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: float | None = None
    interpolation: str = "bilinear"
    scale: float = 1.0
    bgr: bool = False
    done: bool = False
    stretch: bool = False
    floor: bool = False
    source: str = "assumed"

    def __post_init__(self) -> None:
        """Take one side for both, and lists, arrays and tensors for tuples."""
        size: Any = plain(self.size)
        size = (size, size) if isinstance(size, int) else size
        object.__setattr__(self, "size", _numbers("size", size, int))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), float))
        for name in ("resize", "scale"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if len(self.size) != 2 or len(self.mean) != len(self.std):
            raise ValueError(
                f"size {self.size}, {len(self.mean)} means, {len(self.std)} deviations"
            )
        if min(self.size) < 1 or 0 in self.std:
            raise ValueError(f"size {self.size}, std {self.std}: none may be 0")

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    @property
    def is_assumed(self) -> bool:
        """Whether nobody has said the size, above all."""
        return self.source.startswith("assumed")

    def with_channels(self, channels: int) -> Preprocess:
        """Return these settings for a network of another number of input channels: assumed then,
        whoever they are from.
        """
        if channels == self.channels:
            return self
        mean = tuple([sum(self.mean) / len(self.mean)] * channels)
        std = tuple([sum(self.std) / len(self.std)] * channels)
        return replace(self, mean=mean, std=std, source="assumed")

    def overridden(
        self,
        size: tuple[int, int] | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> Preprocess:
        """Return these settings with those of size, mean and deviation that a user gives.

        Raises
        ------
        UsageError
            For numbers of pixels from 0 to 255, or for other than the network's channels.
        """
        if size is None and mean is None and std is None:
            return self
        if self.scale == 1:
            check_unit(mean, std)
        source = self.source.removesuffix(", overridden")
        changed = replace(self, source=f"{source}, overridden")
        if size is not None:
            changed = replace(changed, size=size, resize=None)
        if mean is not None:
            changed = replace(changed, mean=_per_channel("--mean", mean, self.channels))
        if std is not None:
            changed = replace(changed, std=_per_channel("--std", std, self.channels))
        return changed

    def pixels(self, image: Image.Image, squash: bool) -> np.ndarray:
        """Resample a decoded picture to the input plane.

        Parameters
        ----------
        image : PIL.Image.Image
            Mode "RGB" or "L".
        squash : bool
            True: stretch to the input size, so that label maps stay aligned. False: shorter side
            to `resize`, then the centre crop. An image already at the input size is not resampled.

        Returns
        -------
        numpy.ndarray
            (H, W, 3) uint8, or (H, W, 1) for one input channel.
        """
        height, width = self.size
        if image.size != (width, height):
            image = self._resampled(image, squash)
        if self.channels == 1 and image.mode != "L":
            image = image.convert("L")
        array = np.asarray(image, dtype=np.uint8)
        return array if array.ndim == 3 else array[:, :, None]  # (H, W, C)

    def planes(self, values: np.ndarray, squash: bool) -> np.ndarray:
        """Resample bands (C, h, w), float32 in [0, 1], to the input plane (C, H, W)."""
        height, width = self.size
        if values.shape[1:] == (height, width):
            return np.ascontiguousarray(values)
        bands = [self._resampled(Image.fromarray(band), squash) for band in values]
        return np.stack([np.clip(np.asarray(band), 0, 1) for band in bands])

    def _resampled(self, image: Image.Image, squash: bool) -> Image.Image:
        height, width = self.size
        filter_ = getattr(Image.Resampling, self.interpolation.upper())
        ratio = max(1, (self.resize or 1) / min(height, width))
        if squash or (self.stretch and ratio == 1):
            return image.resize((width, height), filter_)
        if self.stretch:
            down, across = self._enlarged()
            return self._middle_of(image.resize((across, down), filter_))
        # the shorter side, measured against the crop's shape, so that the crop always fits
        factor = ratio * max(width / image.width, height / image.height)
        if image.width * image.height * factor**2 > _MOST_PIXELS:
            image = _middle(image, width, height)
        return self._middle_of(image.resize(self._grown(image), filter_))

    def _grown(self, image: Image.Image) -> tuple[int, int]:
        """Width and height before the crop: of a square, the very numbers of torchvision's Resize,
        which cuts the longer side to whole pixels; of others those of timm's ResizeKeepRatio.
        """
        height, width = self._enlarged()
        if height == width:
            longer = int(height * max(image.size) / min(image.size))
            return (height, longer) if image.width <= image.height else (longer, height)
        ratio = min(image.height / height, image.width / width)
        return max(width, round(image.width / ratio)), max(height, round(image.height / ratio))

    def _enlarged(self) -> tuple[int, int]:
        """Height and width in the crop's own shape that a photo has to fill before it."""
        height, width = self.size
        ratio = max(1, (self.resize or 1) / min(height, width))
        nearly = 1e-9  # what is whole but for the rounding of the ratio
        return math.floor(height * ratio + nearly), math.floor(width * ratio + nearly)

    def _middle_of(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        whole = math.floor if self.floor else round  # round takes a half to the even number
        left, top = whole((image.width - width) / 2), whole((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels (N, C, H, W), uint8 in [0, 255] or float in [0, 1], into network input.

        Fewer pixel channels than the network has (grey or RGB into 6 channels) are repeated.
        """
        import torch

        x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels  # (N, C, H, W)
        if x.shape[1] != self.channels:
            x = x.repeat(1, -(-self.channels // x.shape[1]), 1, 1)[:, : self.channels]
        if self.bgr:
            x = x.flip(1)
        mean, std = self._plane(x)
        return (x * self.scale - mean) / std

    def unnormalize(self, x: torch.Tensor) -> torch.Tensor:
        """Turn network input (N, C, H, W) back into pixels, in units of [0, 1]."""
        mean, std = self._plane(x)
        pixels = (x * std + mean) / self.scale
        return pixels.flip(1) if self.bgr else pixels

    def _plane(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from cnnlens.model.streams import constant

        mean, std = (constant(v, x)[:, None, None] for v in (self.mean, self.std))
        return mean, std

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, for JSON, HDF5 attributes and checkpoints."""
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        # as before there were such things, for stores made then
        for name in ("done", "stretch", "floor"):
            if not settings[name]:
                del settings[name]
        return settings

    @property
    def key(self) -> dict[str, Any]:
        """What results depend on, of `as_dict`: all but where it comes from."""
        known = {k: v for k, v in self.as_dict().items() if k != "source"}
        # before, some photos were cropped a pixel beside where torchvision crops them
        return known if self.stretch and not self.resize else {**known, "crop": "as torchvision"}

    def __str__(self) -> str:
        size = "×".join(map(str, self.size))
        mean, std = (",".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return f"input {size}, mean {mean}, std {std} ({self.source})"

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preprocess:
        """Build from :meth:`as_dict`'s result, out of a file; unknown keys are ignored.

        Raises
        ------
        TypeError, ValueError
            When they are no settings.
        """
        known: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v
            for k, v in settings.items()
            if k in cls.__dataclass_fields__
        }
        read = cls(**known)
        read._check()
        return read

    def _check(self) -> None:
        """Refuse what a damaged file says in the place of numbers and names."""
        numbers = (*self.mean, *self.std, self.scale)
        sides = [*self.size, *([] if self.resize is None else [self.resize])]
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers):
            raise ValueError(f"mean {self.mean}, std {self.std}, scale {self.scale}")
        if not all(isinstance(side, int | float) and 0 < side <= _MOST_PIXELS for side in sides):
            raise ValueError(f"size {self.size}, resize {self.resize}")
        if not hasattr(Image.Resampling, str(self.interpolation).upper()):
            raise ValueError(f"interpolation {self.interpolation!r}")


def whole_for(size: tuple[int, int], side: float) -> float:
    """Cut the shorter side that photos are resized to, before `size` is cut out, to whole pixels;
    of sizes that are not square timm cuts both sides afterwards.
    """
    return math.floor(side) if size[0] == size[1] else side


def _numbers(name: str, values: Any, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Return numbers as Python has them, which JSON can write."""
    try:
        numbers = [plain(v) for v in values]
    except TypeError:
        what = "height and width" if kind is int else "one number per channel"
        raise ValueError(f"{name}={values!r}: {what} are needed, ({values!r}, …)") from None
    wrong = [v for v in numbers if not isinstance(v, (int, float)) or (kind is int and v % 1)]
    if wrong:
        raise ValueError(f"{name}={tuple(numbers)}: {wrong[0]!r} is no {kind.__name__}")
    return tuple(int(v) if kind is int else v for v in numbers)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut the middle out of a long strip: ten times what a crop of this shape leaves."""
    across = min(image.width, max(1, 10 * image.height * width // height))
    down = min(image.height, max(1, 10 * image.width * height // width))
    left, top = (image.width - across) // 2, (image.height - down) // 2
    return image.crop((left, top, left + across, top + down))


_MOST = 8.0  # of a mean or deviation of pixels in [0, 1]; those of 0 to 255 lie far above


def check_unit(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Refuse a mean or deviation of pixels from 0 to 255 for pixels from 0 to 1."""
    given = {flag: v for flag, v in (("--mean", mean), ("--std", std)) if v is not None}
    wrong = [flag for flag, values in given.items() if max(map(abs, values)) > _MOST]
    if wrong:
        meant = [f"{flag} {_listed(v / 255 for v in values)}" for flag, values in given.items()]
        raise UsageError(
            f"{wrong[0]} {_listed(given[wrong[0]])} is meant for pixels from 0 to 255; here they "
            "run from 0 to 1",
            f"divide by 255: {' '.join(meant)}",
        )


def _listed(values: Iterable[float]) -> str:
    return ",".join(f"{value:.6g}" for value in values)


def _per_channel(option: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) != channels:
        raise UsageError(
            f"{option} has {counted(len(values), 'number')}, but the network takes "
            f"{counted(channels, 'channel')}",
            f"one for each: {option} {_listed((list(values) * channels)[:channels])}",
        )
    return tuple(float(v) for v in values)

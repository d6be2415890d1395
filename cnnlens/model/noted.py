"""How a network is fed and was built, as its training script noted it beside the weights.

timm and torchvision's references keep their options under ``args``, Lightning under
``hyper_parameters``, ultralytics under ``train_args``, a safetensors file as texts in its header.
Read are plain numbers and known names; what is there and not read is named, so that nobody takes it
for read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from cnnlens.model.architectures import Options
from cnnlens.model.preprocess import whole_for

PLACES = ("args", "hyper_parameters", "hparams", "config", "cfg", "train_args")
# the first that is there counts: of torchvision's references, of timm, of everybody, ultralytics
_SIZES = ("val_crop_size", "input_size", "img_size", "image_size", "imgsz")
_FILTERS = ("bilinear", "bicubic", "nearest", "lanczos")
_POOLS = ("avg", "max", "avgmax", "catavgmax", "fast", "fastavg", "fastmax")
_LARGEST = 8192  # pixels
_BYTES = 8.0  # means and deviations above are of pixels from 0 to 255
_LOADING = ("pretrained", "checkpoint", "cache")  # how arguments begin that choose other weights


@dataclass
class Noted:
    """What a file notes.

    Attributes
    ----------
    place : str
        Where: ``args``.
    fed : dict
        Fields of `Preprocess`: size (int, int), mean and std (one number per channel), resize,
        interpolation.
    builder : dict
        Arguments of timm's that build a network otherwise.
    read : list of str
        Keys that `fed` was read from.
    unread : list of str
        Keys with values that say how it is fed, but cannot be read: ``mean [0.5]``.
    share : float or None
        Of a resized image's shorter side, what its crop takes.
    shorter : int or None
        The shorter side of a resized image, in pixels.
    """

    place: str = ""
    fed: dict[str, Any] = field(default_factory=dict)
    builder: Options = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    share: float | None = None
    shorter: int | None = None

    def resize(self, size: tuple[int, int]) -> float | None:
        """To how many pixels the shorter side is resized before `size` is cut out, if at all."""
        if self.share is not None:
            return whole_for(size, min(size) / self.share)
        known = self.shorter is not None and self.shorter >= min(size)
        return self.shorter if known else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is noted."""
        known = (self.fed, self.builder, self.unread, self.share, self.shorter)
        return not any(known)


def noted_in(content: Any, channels: int) -> Noted:
    """Read what is noted in a file's content, for a network of so many input channels."""
    for place, options in _places(content):
        noted = Noted(place)
        _size(noted, options)
        _normalization(noted, options, channels)
        _resampling(noted, options)
        _builder(noted, options)
        if not noted.is_empty:
            return noted
    return Noted()


def _places(content: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place in PLACES:
        found = _options(_options(content).get(place))
        if found:
            yield place, found
    yield "the file", {k: v for k, v in _options(content).items() if isinstance(k, str)}


def _options(content: Any) -> Mapping[str, Any]:
    if isinstance(content, Mapping):
        return content
    found = getattr(content, "__dict__", None)  # an argparse.Namespace
    return found if isinstance(found, Mapping) else {}


def _plain(value: Any) -> Any:
    """A value as plain Python: arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _take(noted: Noted, key: str, what: str, value: Any, given: Any) -> None:
    if value is None:
        noted.unread.append(f"{key} {str(given)[:40]}")
    else:
        noted.fed[what] = value
        noted.read.append(key)


def _given(options: Mapping[str, Any], *keys: str) -> tuple[str, Any] | None:
    """The first of some keys that says something."""
    for key in keys:
        if (value := _plain(options.get(key))) not in (None, "", [], ()):
            return key, value
    return None


def _size(noted: Noted, options: Mapping[str, Any]) -> None:
    if (given := _given(options, *_SIZES)) is None:
        return
    key, value = given
    sides = list(value)[-2:] if isinstance(value, list | tuple) else [value, value]
    fits = len(sides) == 2 and all(_is_whole(side) and 0 < side <= _LARGEST for side in sides)
    _take(noted, key, "size", tuple(sides) if fits else None, value)


def _normalization(noted: Noted, options: Mapping[str, Any], channels: int) -> None:
    found = {key: given[1] for key in ("mean", "std") if (given := _given(options, key))}
    read = {key: _numbers(value, channels) for key, value in found.items()}
    known = [v for values in read.values() for v in values or ()]
    scale = 255.0 if known and max(map(abs, known)) > _BYTES else 1.0
    if min(read.get("std") or (1.0,)) <= 0 or (scale > 1 and None in (*read.values(),)):
        read = dict.fromkeys(read)
    for key, values in read.items():
        scaled = None if values is None else tuple(v / scale for v in values)
        _take(noted, key, key, scaled, found[key])


def _numbers(value: Any, channels: int) -> tuple[float, ...] | None:
    values = list(value) if isinstance(value, list | tuple) else [value]
    good = all(_is_number(one) and math.isfinite(one) for one in values)
    return tuple(map(float, values)) if good and len(values) == channels else None


def _resampling(noted: Noted, options: Mapping[str, Any]) -> None:
    """What only counts beside another thing is not missed where it cannot be read."""
    name = options.get("interpolation")
    if isinstance(name, str) and name in _FILTERS:
        noted.fed["interpolation"] = name
        noted.read.append("interpolation")
    share, shorter = options.get("crop_pct"), options.get("val_resize_size")
    if _is_number(share) and 0.1 <= share <= 1:
        noted.share = share
        noted.read.append("crop_pct")
    elif _is_whole(shorter) and 0 < shorter <= _LARGEST:
        noted.shorter = shorter
        noted.read.append("val_resize_size")
    if (size := noted.fed.get("size")) is not None:
        noted.fed["resize"] = noted.resize(size)


def _builder(noted: Noted, options: Mapping[str, Any]) -> None:
    """Read arguments of timm's ``train.py``: its pooling, and those for the network itself."""
    if options.get("gp") in _POOLS:
        noted.builder["global_pool"] = options["gp"]
    given = options.get("model_kwargs")
    for key, value in (given if isinstance(given, Mapping) else {}).items():
        if isinstance(key, str) and _is_safe(value) and not key.startswith(_LOADING):
            noted.builder[key] = value


def _is_safe(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_safe, value))
    return isinstance(value, bool | int | float | str)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)

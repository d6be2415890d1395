"""How transformers' image processors make input of a photo, from ``preprocessor_config.json``.

Each type has its own way, and its own defaults for what its file leaves out. The types below were
compared with transformers' own output; the file of any other is read as most are, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnlens.model.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

FILE = "preprocessor_config.json"
Told = dict[str, Any]
# Pillow's numbers of resampling filters
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_KIND = re.compile(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def preprocessing(
    config: Mapping[str, Any], processor: Mapping[str, Any]
) -> tuple[Preprocess, str]:
    """Read how pixels become input.

    Parameters
    ----------
    config, processor : mapping
        What the folder's ``config.json`` and ``preprocessor_config.json`` hold; the latter empty
        where there is none.

    Returns
    -------
    (Preprocess, str)
        The settings, and who says so; "assumed" is their source where that is not quite known.
    """
    processor = processor.get("image_processor") or processor
    size = config.get("image_size") or 224
    known = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    if not processor:
        said = f"there is no {FILE}: ImageNet's mean and std are assumed"
        return Preprocess(known).with_channels(config.get("num_channels", 3)), said
    name, kind = _kind(config, processor)
    geometry, why = _geometry(told := kind.told(processor), kind, known)
    filter_ = _FILTERS.get(told["resample"])
    why = kind.why or why or ("" if filter_ else "resamples in a way of its own")
    settings = Preprocess(
        **geometry,
        **_values(told, kind),
        interpolation=filter_ or "bilinear",
        source="assumed" if why else FILE,
    )
    return settings, f"preprocessing assumed: {name} of {FILE} {why}" if why else (
        f"preprocessing from {FILE}"
    )


# ---- types


def _as_told(told: Told) -> Told:
    return told


@dataclass(frozen=True)
class _Kind:
    """A type of image processors: its defaults, and what it makes of its settings.

    Attributes
    ----------
    models : str
        The model types whose processor it is, where a file does not name any.
    size, crop : int
        Sides of the resize and of the centre crop, in pixels.
    whole : bool
        Whether a bare `size` is that of both sides (a stretch), not of the shorter one.
    crops, normalizes : bool
        Whether it does that where its file does not say.
    resample : int
        Pillow's number of the filter.
    values : (mean, std)
    bgr : bool
        Whether it hands on blue, green, red, after all else.
    plainly : callable
        Its settings -> the same said with no more than `size`, `crop_size` and `do_center_crop`.
    why : str
        What it does that is not followed.
    """

    models: str = ""
    size: int = 224
    crop: int = 224
    whole: bool = True
    crops: bool = False
    normalizes: bool = True
    resample: int = 3
    values: tuple[tuple[float, ...], tuple[float, ...]] = _HALF
    bgr: bool = False
    plainly: Callable[[Told], Told] = _as_told
    why: str = ""

    def told(self, processor: Mapping[str, Any]) -> Told:
        """Complete a file's settings by the defaults; a step of null is one it does not name."""
        named = {k: v for k, v in processor.items() if v is not None or not k.startswith("do_")}
        side = {"height": self.size, "width": self.size} if self.whole else self.size
        defaults = {
            "do_resize": True,
            "size": side,
            "resample": self.resample,
            "do_center_crop": self.crops,
            "crop_size": self.crop,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": self.normalizes,
            "image_mean": self.values[0],
            "image_std": self.values[1],
            "do_flip_channel_order": self.bgr,
        }
        return defaults | named


def _scaled(told: Told, factor: float | None) -> Told:
    """Tell a `size` that a factor makes larger before the crop, at the photo's own shape."""
    sides, whole = _sides(told["size"], False)
    if factor is None or not sides or (whole and sides[0] != sides[1]):
        return told
    return {**told, "size": _edge(sides[0] / factor)}


def _edge(side: float) -> Told:
    return {"shortest_edge": int(side)}


def _convnext(told: Told) -> Told:
    """From 384 pixels on it stretches; below, it crops what it has made larger."""
    sides, _ = _sides(told["size"], False)
    if not sides or sides[0] >= 384:
        return {**told, "size": sides}
    return {**_scaled(told, told.get("crop_pct") or 224 / 256),
            "do_center_crop": True, "crop_size": sides[0]}  # fmt: skip


def _levit(told: Told) -> Told:
    sides, whole = _sides(told["size"], False)
    return told if whole or not sides else {**told, "size": _edge((256 / 224) * sides[0])}


def _pp_lcnet(told: Told) -> Told:
    if told.get("size_divisor", 1) not in (1, None):
        return {**told, "size": None}
    short = told.get("resize_short", 256)
    return told if short is None else {**told, "size": _edge(short)}


def _perceiver(told: Told) -> Told:
    """It crops first and then resizes, which comes to nearly the same."""
    sides, _ = _sides(told["crop_size"], True)
    return {**told, "size": _edge(min(sides)) if sides else None, "crop_size": told["size"]}


_ELSE = _Kind(values=_IMAGENET, why="is not known here")
_KINDS = {
    "Beit": _Kind("beit data2vec-vision"),
    "Bit": _Kind("bit dinov2 dinov2_with_registers focalnet hiera", whole=False, crops=True,
                 values=_CLIP),
    "CLIP": _Kind("clip metaclip_2", whole=False, crops=True, values=_CLIP),
    "ConvNext": _Kind("convnext convnextv2 cvt regnet resnet van", 384, whole=False,
                      plainly=_convnext),
    "DINOv3ViT": _Kind("dinov3_vit dinov3_convnext", resample=2, values=_IMAGENET),
    "DeiT": _Kind("deit", 256, crops=True),
    "EfficientNet": _Kind("efficientnet", 346, 289),
    "Levit": _Kind("levit", whole=False, crops=True, values=_IMAGENET, plainly=_levit),
    "MobileNetV1": _Kind("mobilenet_v1", 256, whole=False, crops=True, resample=2),
    "MobileNetV2": _Kind("mobilenet_v2", 256, whole=False, crops=True, resample=2),
    "MobileViT": _Kind("mobilevit mobilevitv2", 224, 256, whole=False, crops=True,
                       normalizes=False, bgr=True),
    "PPLCNet": _Kind("pp_lcnet", 256, whole=False, crops=True, resample=2, bgr=True,
                     values=(IMAGENET_MEAN[::-1], IMAGENET_STD[::-1]), plainly=_pp_lcnet),
    "Perceiver": _Kind("perceiver", crop=256, crops=True, values=_IMAGENET, plainly=_perceiver,
                       why="crops before it resizes"),
    "PoolFormer": _Kind("poolformer", whole=False, crops=True, values=_IMAGENET,
                        plainly=lambda told: _scaled(told, told.get("crop_pct", 0.9))),
    "Pvt": _Kind("pvt pvt_v2", values=_IMAGENET),
    "Segformer": _Kind("segformer", 512, resample=2, values=_IMAGENET),
    "Siglip": _Kind("siglip"),
    "ViT": _Kind("vit vit_mae vit_msn swin swinv2 dinat ijepa swiftformer", resample=2),
}  # fmt: skip


def _kind(config: Mapping[str, Any], processor: Mapping[str, Any]) -> tuple[str, _Kind]:
    """The type that a file names, or else its network's; with what it is called."""
    name = processor.get("image_processor_type") or processor.get("feature_extractor_type")
    if name:
        return str(name), _KINDS.get(_KIND.sub("", str(name)), _ELSE)
    model = str(config.get("model_type"))
    own = (kind for kind in _KINDS.values() if model in kind.models.split())
    return f"the processor of {model}", next(own, _ELSE)


# ---- settings


def _values(told: Told, kind: _Kind) -> dict[str, Any]:
    """Mean and deviation in units of [0, 1], the factor behind them, and the channels' order."""
    factor = told["rescale_factor"] if told["do_rescale"] else 1
    mean, std = _per_channel(told["image_mean"]), _per_channel(told["image_std"])
    normalizes = told["do_normalize"] and kind.normalizes
    means, deviations = (mean, std) if normalizes else ((0.0,) * 3, (1.0,) * 3)
    if told.get("include_top", kind is _KINDS["EfficientNet"]):  # divided by it once more
        deviations = tuple(a * b for a, b in zip(deviations, std, strict=True))
    if told["do_rescale"] and told.get("rescale_offset"):  # pixels from -1 on
        means = tuple(a + 1 for a in means)
    bgr = bool(told["do_flip_channel_order"])
    step = -1 if bgr else 1  # told for the order that the photo's channels have
    return {"mean": means[::step], "std": deviations[::step], "scale": round(255 * factor, 6),
            "bgr": bgr}  # fmt: skip


def _per_channel(value: Any) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(value)


def _geometry(told: Told, kind: _Kind, known: tuple[int, int]) -> tuple[dict[str, Any], str]:
    """Input size, the resize before it and how, and what is not followed."""
    if not told["do_resize"]:
        return {"size": known}, "does not resize photos"
    told = kind.plainly(told)
    sides, whole = _sides(told["size"], kind.whole)
    crop, _ = _sides(told["crop_size"], True) if told["do_center_crop"] else (sides, True)
    if not sides or not crop:
        return {"size": known}, "resizes in a way of its own"
    if told.get("do_pad"):
        return {"size": crop, "stretch": whole}, "pads photos"
    if not told["do_center_crop"]:
        return {"size": sides, "stretch": whole}, "" if whole else "keeps the shape of each photo"
    square = crop[0] == crop[1] and sides[0] == sides[1]
    fits = "" if square and crop[0] <= sides[0] else "crops another shape than it resizes to"
    return {"size": crop, "resize": min(sides), "stretch": whole, "floor": True}, fits


def _sides(size: Any, whole: bool) -> tuple[tuple[int, int] | None, bool]:
    """Height and width of what transformers calls a size, and whether it means both of them."""
    if isinstance(size, int):
        return (size, size), whole
    if isinstance(size, Mapping):
        size = {k: v for k, v in size.items() if v is not None}
        if size.keys() == {"height", "width"}:
            return (int(size["height"]), int(size["width"])), True
        short = size.get("shortest_edge") if size.keys() == {"shortest_edge"} else None
        return (None if short is None else (int(short), int(short))), False
    two = isinstance(size, list | tuple) and len(size) == 2
    return ((int(size[0]), int(size[1])) if two else None), True

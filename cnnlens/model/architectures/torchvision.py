"""The classification networks of torchvision as architectures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial
from types import ModuleType
from typing import Any
from urllib.error import URLError

from torch import nn

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.architectures import Architecture, Options, Shapes, first_convolution
from cnnlens.model.compiler_later import imported
from cnnlens.model.preprocess import Preprocess

PREFIX = "torchvision:"
_AUXILIARY = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}
# a piece of a parameter's name that gives a family away -> how the family's names begin
_FAMILIES = {
    "layer1.0.conv1.": ("resnet", "resnext", "wide_resnet"),
    "denseblock1.": ("densenet",),
    "inception3a.": ("googlenet",),
    "Mixed_5b.": ("inception",),
    ".squeeze.": ("squeezenet",),
    "trunk_output.": ("regnet",),
    "MBconv": ("maxvit",),
    "encoder_layer_0.": ("vit",),
    "relative_position_bias_table": ("swin",),
    "relative_coords_table": ("swin_v2",),
    "stage2.0.branch2.": ("shufflenet",),
    "layers.8.0.layers.": ("mnasnet",),
    ".layer_scale": ("convnext",),
    "features.1.conv.": ("mobilenet_v2",),
    ".block.0.0.weight": ("mobilenet_v3", "efficientnet"),
    "features.0.weight": ("alexnet", "vgg"),
}


def _models() -> ModuleType:
    """Import torchvision's networks where one is asked for: the zoo and factories do without."""
    return imported("torchvision.models")


@cache
def names() -> tuple[str, ...]:
    """Names of all classification networks of the installed torchvision."""
    return tuple(_models().list_models(module=_models()))


def likely(keys: Iterable[str]) -> list[str]:
    """Names of the families whose marks are among a state dict's keys; no other network fits."""
    text = "\n".join(keys)
    beginnings = [b for mark, family in _FAMILIES.items() if mark in text for b in family]
    return [n for n in names() if n.startswith(tuple(beginnings))] if beginnings else []


def architecture(name: str) -> Architecture:
    """Look up a network by its torchvision name.

    Raises
    ------
    UsageError
        When torchvision has no classification network of that name.
    """
    if name not in names():
        raise UsageError(
            f"torchvision has no classification network '{name}'",
            did_you_mean(name, names()) or f"it has {', '.join(names()[:6])}, …",
        )
    return Architecture(
        name=PREFIX + name,
        make=partial(_make, name),
        outputs=1000,
        options=partial(_options, name),
        preprocess=partial(_preprocess, name),
        class_names=partial(_class_names, name),
        finish=partial(_finish, name),
        lazy=True,
    )


def pretrained(name: str, weights: str) -> tuple[nn.Module, Preprocess]:
    """Build a network with torchvision's own weights, downloading them where they are not cached.

    Raises
    ------
    UsageError
        When the network has no weights of that name.
    CnnlensError
        When they cannot be downloaded.
    """
    known = _models().get_model_weights(name)
    if weights not in known.__members__:
        raise UsageError(
            f"torchvision:{name} has no weights '{weights}'",
            f"it has {', '.join(known.__members__)}",
        )
    entry = known[weights]
    try:
        net = _models().get_model(name, weights=entry, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise CnnlensError(
            f"cannot get the weights {name}@{weights}: {error}",
            "download them elsewhere and give the file as MODEL",
        ) from error
    return net, from_transforms(entry.transforms())


def _make(name: str, **options: Any) -> nn.Module:
    if name in _AUXILIARY:
        options.setdefault("init_weights", True)  # unset, torchvision warns about its default
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _models().get_model(name, weights=None, **options)


def _options(name: str, shapes: Shapes) -> Iterable[Options]:
    if name in _AUXILIARY:
        present = any(k.startswith(_AUXILIARY[name]) for k in shapes)
        return ({"aux_logits": present, "init_weights": False},)
    if name.startswith("vit"):
        position = shapes.get("encoder.pos_embedding", ())
        patch = shapes.get("conv_proj.weight", ())
        if len(position) == 3 and len(patch) == 4:
            # position embeddings grow with the picture: one per patch and one for the class
            return ({"image_size": math.isqrt(max(position[1] - 1, 1)) * patch[-1]},)
    return ({},)


def from_transforms(settings: Any) -> Preprocess:
    """Read what a weights entry's ``transforms()`` do to a picture."""
    crop = int(settings.crop_size[0])
    return Preprocess(
        size=(crop, crop),
        mean=tuple(settings.mean),
        std=tuple(settings.std),
        resize=int(settings.resize_size[0]),
        interpolation=settings.interpolation.value,
        source="torchvision",
    )


def _preprocess(name: str, net: nn.Module) -> Preprocess:
    known = [from_transforms(weights.transforms()) for weights in _models().get_model_weights(name)]
    fixed = getattr(net, "image_size", None)
    if not isinstance(fixed, int):
        return known[0]
    fitting = [settings for settings in known if settings.size == (fixed, fixed)]
    return fitting[0] if fitting else replace(known[0], size=(fixed, fixed), resize=None)


def _class_names(name: str, outputs: int) -> list[str] | None:
    for weights in _models().get_model_weights(name):
        categories = weights.meta.get("categories") or []  # VGG-16's features have none
        if len(categories) == outputs:
            return list(categories)
    return None


def _finish(name: str, net: nn.Module) -> list[str]:
    """Switch on the input transform of GoogLeNet and Inception, which no state dict records.

    torchvision's pretrained weights, and whatever was fine-tuned from them, need it.
    """
    first = first_convolution(net)
    if name not in _AUXILIARY or first is None or first[1].in_channels != 3:
        return []  # the transform is for three channels
    net.transform_input = True  # type: ignore[assignment]
    return [
        f"{name}: transform_input=True is assumed, as in torchvision's own weights and networks "
        "fine-tuned from them; for one trained from scratch give --arch file.py:factory"
    ]

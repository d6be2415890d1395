"""The networks of timm as architectures, where timm is installed."""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from torch import nn

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.architectures import Architecture, Options, Shapes, built_for
from cnnlens.model.class_names import imagenet_classes
from cnnlens.model.preprocess import Preprocess, whole_for

PREFIX = "timm:"
# arguments of timm's that choose weights, not a network
_LOADING = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
}
_FILTERS = ("bilinear", "bicubic", "nearest", "lanczos")


@cache
def names() -> tuple[str, ...]:
    """Names of all networks of timm; none where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        return ()
    import timm

    return tuple(timm.list_models())


def likely(keys: Iterable[str]) -> list[str]:
    """Names of the networks whose code knows the names of modules in a state dict.

    Each is an attribute that the network's own module sets, or one of timm's that it builds upon.
    Words of the layers that all networks share tell nothing. Numbers at the ends of names may have
    been made (``layer1``), and do not count.
    """
    if not names():
        return []
    paths = [key.split(".")[:-1] for key in keys]
    outer = {_stem(path[0]) for path in paths if path}
    inner = {_stem(part) for path in paths for part in path if not part.isdigit()}
    wanted = outer | (inner - _words("timm.layers"))
    return [name for name in names() if wanted <= _words(_module_of(name))]


def _stem(word: str) -> str:
    return word.rstrip("0123456789_").lstrip("_")


def _module_of(name: str) -> str:
    import timm

    return str(timm.model_entrypoint(name).__module__)


@cache
def _words(module: str) -> set[str]:
    """All words in the code of a module, and of those of timm's that it imports."""
    seen: set[str] = set()
    ahead = [module]
    found: set[str] = set()
    while ahead:
        name = ahead.pop()
        if name in seen or name not in sys.modules:
            continue
        seen.add(name)
        words, beside = _read_code(name)
        found |= words
        ahead += beside
    return found


@cache
def _read_code(module: str) -> tuple[set[str], list[str]]:
    """Words of one module's code, and the modules beside it that it imports."""
    text = inspect.getsource(sys.modules[module])
    file = inspect.getsourcefile(sys.modules[module]) or ""
    package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
    beside = re.findall(r"^from (?:timm\.models)?\.([a-z]\w*|_\w+_\w+) import", text, re.MULTILINE)
    # attributes, and texts that names are made of
    words = {_stem(word) for word in re.findall(r"(?:self\.|['\"])([A-Za-z]\w*)", text)}
    return words, [f"{package}.{other}" for other in beside]


def architecture(name: str) -> Architecture:
    """Look up a network by its timm name.

    Raises
    ------
    UsageError
        When timm is not installed, or has no network of that name.
    """
    if not names():
        raise UsageError(
            f"{PREFIX}{name} needs timm, which is not installed", 'pip install "cnnlens[timm]"'
        )
    if name not in names():
        raise UsageError(f"timm has no network '{name}'", did_you_mean(name, names()))
    return Architecture(
        name=PREFIX + name,
        make=partial(_make, name),
        outputs=1000,
        options=partial(_options, name),
        preprocess=_preprocess,
        class_names=_class_names,
        lazy=True,
        builder=_builder(name),
    )


def _builder(name: str) -> object:
    import timm

    return timm.models.model_entrypoint(name)


def _make(name: str, **options: Any) -> nn.Module:
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return timm.create_model(name, pretrained=False, **options)


def pretrained(name: str, tag: str) -> tuple[nn.Module, Preprocess | None]:
    """Build a network with one of timm's own sets of weights, downloading them.

    Raises
    ------
    UsageError
        When the network has no weights of that name.
    CnnlensError
        When they cannot be downloaded.
    """
    import timm

    known = [n.partition(".")[2] for n in timm.list_pretrained(f"{name}.*")]
    if tag not in known:
        has = f"it has {', '.join(known[:8])}" if known else "it has none"
        raise UsageError(f"timm:{name} has no weights '{tag}'", has)
    try:
        net = timm.create_model(f"{name}.{tag}", pretrained=True)
    except Exception as error:  # whatever the hub's client raises
        raise CnnlensError(
            f"cannot get the weights {name}@{tag}: {error}",
            "download them elsewhere and give the file as MODEL",
        ) from error
    return net, _preprocess(net)


def _options(name: str, shapes: Shapes) -> Iterable[Options]:
    sizes = [{"img_size": size} for size in _sizes(shapes)] if name.startswith(_SIZED) else []
    for size in (*sizes, {}):
        yield {"num_classes": 1000, **size}
        yield {"num_classes": 0, **size}


# families that can be built for any size of images, one position embedding per patch
_SIZED = ("vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge", "deit", "beit", "cait")
_AHEAD = (1, 0, 2, 5)  # class and register tokens that an embedding may begin with


def _sizes(shapes: Shapes) -> list[int]:
    """Sides of square images that an embedding of positions is for; empty where there is none."""
    places = shapes.get("pos_embed", ())
    patch = shapes.get("patch_embed.proj.weight", ())
    if len(places) != 3 or len(patch) != 4:
        return []
    sides = [math.isqrt(max(places[1] - ahead, 0)) for ahead in _AHEAD]
    fits = [s for s, ahead in zip(sides, _AHEAD, strict=True) if s and s * s == places[1] - ahead]
    return [side * patch[-1] for side in fits]


def _preprocess(net: nn.Module) -> Preprocess:
    from timm.data import resolve_model_data_config

    settings, size = from_config(resolve_model_data_config(net)), built_for(net)
    if size is None or size == settings.size:
        return settings
    ratio = (settings.resize or min(settings.size)) / min(settings.size)
    return replace(settings, size=size, resize=whole_for(size, min(size) * ratio))


def from_config(settings: Mapping[str, Any]) -> Preprocess:
    """Read a data config of timm's: input_size, mean, std, interpolation, crop_pct, crop_mode."""
    height, width = settings["input_size"][-2:]
    wanted = settings.get("interpolation", "bilinear")
    scaled = min(height, width) / (settings.get("crop_pct") or 1)
    return Preprocess(
        size=(height, width),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        resize=whole_for((height, width), scaled),
        interpolation=wanted if wanted in _FILTERS else "bilinear",
        stretch=settings.get("crop_mode") == "squash",
        source="timm" if settings.get("crop_mode") in _CROPS else "assumed",
    )


_CROPS = (None, "center", "squash")  # the others put borders around photos


def arguments(config: Mapping[str, Any]) -> Options:
    """Read what timm's hub hands to the builder of a network from a folder's ``config.json``."""
    given = {k: v for k, v in (config.get("model_args") or {}).items() if k not in _LOADING}
    settings = config.get("pretrained_cfg") or config
    outputs = config.get("num_classes", settings.get("num_classes"))
    if outputs is not None:
        given.setdefault("num_classes", outputs)
    if (size := settings.get("input_size")) and is_fixed(config):
        given.setdefault("img_size", size[-2:])
    return {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}


def is_fixed(config: Mapping[str, Any]) -> bool:
    """Whether a folder's network takes images of one size only, as timm has it."""
    settings, given = config.get("pretrained_cfg") or config, config.get("model_args") or {}
    free = given.get("dynamic_img_size") or given.get("strict_img_size") is False
    return bool(settings.get("fixed_input_size")) and not free


def from_folder(config: Mapping[str, Any], net: nn.Module) -> tuple[Preprocess, str]:
    """Read the preprocessing of a folder's ``config.json``; that of timm's own weights, if none.

    Returns
    -------
    (Preprocess, str)
        The settings, and what of them is not followed; "assumed" is their source then.
    """
    from timm.data import resolve_data_config

    settings = dict(config.get("pretrained_cfg") or config)  # older ones have one level
    if not settings.keys() & {"input_size", "mean", "std"}:
        said = "config.json does not say how it is fed: as timm's own weights of it is assumed"
        return replace(_preprocess(net), source="assumed"), said
    if size := (config.get("model_args") or {}).get("img_size"):
        settings["input_size"] = (3, *((size, size) if isinstance(size, int) else size))
    resolved = resolve_data_config({}, pretrained_cfg=settings)
    read = from_config(resolved)
    if read.is_assumed:
        mode = resolved["crop_mode"]
        return (
            read,
            f"a centre crop is assumed: config.json says crop_mode {mode}, which pads photos",
        )
    return replace(read, source="config.json"), ""


def label_names(config: Mapping[str, Any]) -> list[str] | None:
    """Read the class names of a folder's ``config.json``: words, where it has them, for labels."""
    settings = config.get("pretrained_cfg") or {}
    names = config.get("label_names") or settings.get("label_names") or config.get("labels")
    words = config.get("label_descriptions") or settings.get("label_descriptions") or {}
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names, key=int)]
    if not names:
        return None
    return [str(words.get(name, name)) for name in names]


def _class_names(outputs: int) -> list[str] | None:
    return imagenet_classes() if outputs == 1000 else None

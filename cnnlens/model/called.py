"""What a file calls its architecture, as training scripts note it beside the weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cnnlens.model.architectures import registry

_PLACES = ("args", "hyper_parameters", "config")
_KEYS = ("arch", "model_name", "architecture")
_LOOSE = ("model", "backbone")  # may name a method, or a part, as well
# what names say beside the network's: whose weights they are, of which data, in which state
_HARMLESS = {
    "b", "best", "cifar", "classifier", "finetuned", "ft", "gluon", "imagenet", "in", "k", "last",
    "model", "net", "places", "pretrained", "pytorch", "ssl", "swsl", "timm", "torch",
    "torchvision", "tv", "v", "weights",
}  # fmt: skip


def called_in(content: Any) -> str | None:
    """Read what a training script noted as its architecture: ``arch``, or ``args.model``."""
    return next(_names(content, (*_KEYS, *_LOOSE)), None)


def _names(content: Any, keys: tuple[str, ...]) -> Iterator[str]:
    for place in (content, *(_get(content, k) for k in _PLACES)):
        yield from (name for key in keys if isinstance(name := _get(place, key), str))


def _get(place: Any, key: str) -> Any:
    return place.get(key) if isinstance(place, Mapping) else getattr(place, key, None)


def plain_name(name: str) -> str:
    """Take off a name what hubs put around it: of ``hf_hub:timm/efficientnet_b0.ra_in1k`` is left
    ``efficientnet_b0``.
    """
    return name.rpartition(":")[2].rpartition("/")[2].partition(".")[0]


def called_otherwise(content: Any, arch: str) -> list[str]:
    """Say that a file's own name for its architecture is none of the one that its tensors fit.

    Parameters
    ----------
    content : any
        What the file says.
    arch : str
        What it was opened as: ``torchvision:resnet18``.

    Returns
    -------
    list of str
        Empty where the names agree, or the file's is no name of an architecture.
    """
    name = called_in(content)
    if name is None or _agree(name, arch):
        return []
    family = re.match(r"[a-z]*", _squeezed(arch.partition(":")[2]))
    if name not in _names(content, _KEYS) and family and family[0] not in _squeezed(name):
        return []
    return [
        f"the file calls it {name[:60]}; {arch}, which has these tensors, is assumed: --arch "
        "file.py:factory builds another"
    ]


def _agree(name: str, arch: str) -> bool:
    opened = arch.partition(":")[2]
    if _squeezed(name) in _squeezed(opened):
        return True
    said, known = _words(plain_name(name)), _words(opened)
    if known <= said and all(word in _HARMLESS or word.isdigit() for word in said - known):
        return True
    return any(one.name == arch for one in registry.named(plain_name(name)))


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\d+", name.casefold()))

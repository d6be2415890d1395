"""Every name that stands for an architecture, whoever keeps it."""

from __future__ import annotations

from torch import nn

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model import factory, timm_nets, torchvision_nets, zoo
from cnnlens.model.architecture import Architecture
from cnnlens.model.preprocess import Preprocess

REGISTRIES = {
    "torchvision": torchvision_nets.architecture,
    "timm": timm_nets.architecture,
    "zoo": zoo.architecture,
}


def is_spec(text: str) -> bool:
    """Whether a text has the form of a registry name or a factory, rather than of a file."""
    return text.startswith(tuple(f"{r}:" for r in REGISTRIES)) or factory.is_factory(text)


def architecture(spec: str) -> Architecture:
    """Look up ``torchvision:NAME``, ``timm:NAME``, ``zoo:NAME``, a factory or a bare name.

    Raises
    ------
    UsageError
        When nothing of that name exists.
    """
    prefix, colon, name = spec.partition(":")
    if colon and prefix in REGISTRIES:
        return REGISTRIES[prefix](name)
    if factory.is_factory(spec):
        return factory.architecture(spec)
    return _bare(spec)


def _bare(name: str) -> Architecture:
    known = {
        "torchvision": torchvision_nets.names(),
        "zoo": tuple(zoo.ZOO),
        "timm": timm_nets.names(),
    }
    for prefix, names in known.items():
        if name in names:
            return REGISTRIES[prefix](name)
    everything = [n for names in known.values() for n in names]
    raise UsageError(
        f"no architecture '{name}'",
        did_you_mean(name, everything)
        or "give torchvision:NAME, timm:NAME, zoo:NAME or file.py:factory",
    )


def pretrained(spec: str, weights: str) -> tuple[nn.Module, Preprocess | None]:
    """Build ``torchvision:NAME`` or ``timm:NAME`` with weights of the registry's own.

    Raises
    ------
    UsageError
        When there are no such weights, or the registry has none at all.
    CnnlensError
        When they cannot be downloaded.
    """
    prefix, _, name = architecture(spec).name.partition(":")
    if prefix == "torchvision":
        return torchvision_nets.pretrained(name, weights)
    if prefix == "timm":
        return timm_nets.pretrained(name, weights)
    raise UsageError(f"{spec} has no weights to choose from", f"leave out @{weights}")

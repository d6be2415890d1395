"""What a name like ``torchvision:resnet18`` stands for: a way to build it and to feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnnlens.model.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
Options = dict[str, Any]


def _no_options(_: Shapes) -> Iterable[Options]:
    return ({},)


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Architecture:
    """A network that can be built by name.

    Attributes
    ----------
    name : str
        Its canonical spec, which opens it again: ``torchvision:resnet18``.
    make : callable
        Builds it with random weights; keyword arguments are the registry's own.
    outputs : int or None
        Number of classes `make` gives it unless told ``num_classes``; None: it cannot be told.
    options : callable
        Shapes of a state dict -> the keyword arguments worth trying to fit it.
    preprocess : callable
        The built network -> how to feed it, or None where nobody knows.
    class_names : callable
        Number of outputs -> their names, or None.
    finish : callable
        Sets what a state dict does not say; returns notes for the user.
    lazy : bool
        Whether it can be built without memory and then be given its weights.
    source : str
        What else decides how it computes (the text of a factory's file), for the fingerprint.
    """

    name: str
    make: Callable[..., nn.Module]
    outputs: int | None = None
    options: Callable[[Shapes], Iterable[Options]] = _no_options
    preprocess: Callable[[nn.Module], Preprocess | None] = _nothing
    class_names: Callable[[int], list[str] | None] = _nothing
    finish: Callable[[nn.Module], list[str]] = field(default=lambda net: [])
    lazy: bool = False
    source: str = ""

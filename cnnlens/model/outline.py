"""What the building of an architecture shows: its layers' shapes, its tensors' names.

A state dict is held against hundreds of architectures, most of which differ within their first few
layers. What was seen of one is kept while the process lasts, so that the next state dict is held
against that, and the architecture is built only from there on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from torch import nn

from cnnlens.model.architectures import (
    Architecture,
    Options,
    Shapes,
    first_convolution,
    seeded,
    shapes_of,
    weightless,
)


class UnlikeError(Exception):
    """The network being built is not the one whose shapes were asked for."""


class ShapeMatcher:
    """Stops the building of a network as soon as its layers are not those of a state dict.

    That makes a thousand candidates affordable: most differ within their first few layers.

    Parameters
    ----------
    shapes : mapping
        Names and shapes of the state dict.
    outputs : int or None
        Number of classes the network is built with, which may differ from the state dict's.
    """

    # some builders make a layer or two on trial, or tables that no state dict holds
    PATIENCE = 3

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], outputs: int | None) -> None:
        self.outputs = outputs
        self.known = Counter(shapes.values())
        self.heads = {shape[1:] for shape in self.known}
        self.stems = {shape[:1] + shape[2:] for shape in self.known}
        self.matched = self.surplus = 0
        self.strange: set[tuple[int, ...]] = set()

    def see(self, shape: tuple[int, ...]) -> None:
        """Count one layer's weight; raise :class:`UnlikeError` after too many strangers."""
        if len(shape) < 2:
            return
        if self.known[shape] > 0 or self._adaptable(shape):
            self.known[shape] -= 1  # a deeper network has more layers of the same shape
            self.matched += 1
            return
        if len(shape) == 4 and shape[1] == 1:
            # timm's fixed filters that blur before a stride are no parameters, of whatever width
            self.strange.add(shape[1:])
        elif shape in self.known:
            self.surplus += 1
        else:
            self.strange.add(shape)
        if self.surplus + len(self.strange) > self.PATIENCE:
            raise UnlikeError

    def _adaptable(self, shape: tuple[int, ...]) -> bool:
        """Whether the shape differs by nothing but the number of classes or input channels."""
        if shape[0] == self.outputs and shape[1:] in self.heads:
            return True
        return shape[1] == 3 and shape[:1] + shape[2:] in self.stems


@dataclass
class Outline:
    """What is known of an architecture, built with certain options.

    Attributes
    ----------
    layers : list of tuple of int
        Shapes of what its layers allocate, in that order, as far as it was built.
    tensors : mapping
        Names and shapes of its state dict, where it was built to its end.
    watched : bool
        Whether `layers` are all of them: who builds it for its names alone sees none.
    stem : str
        The weight of its first convolution; empty where it has none.
    """

    layers: list[tuple[int, ...]] = field(default_factory=list)
    tensors: Shapes = field(default_factory=dict)
    watched: bool = False
    stem: str = ""

    def complete(self, net: nn.Module) -> None:
        """Note what the whole network shows."""
        first = first_convolution(net)
        self.stem = f"{first[0]}.weight" if first else ""
        self.tensors = shapes_of(net.state_dict())


_KEPT: dict[Any, Outline] = {}
_ONE_AT_A_TIME = RLock()  # two threads that build one network would note its layers twice


def outline(
    architecture: Architecture, options: Options, watch: ShapeMatcher | None = None
) -> Outline:
    """Build an architecture for its names and shapes, as far as that was not done before.

    Raises
    ------
    UnlikeError
        By `watch`, to whom every layer is shown.
    """
    with _ONE_AT_A_TIME:
        return _outline(architecture, options, watch)


def _outline(architecture: Architecture, options: Options, watch: ShapeMatcher | None) -> Outline:
    found = Outline()
    key = (architecture.name, architecture.builder, repr(sorted(options.items())))
    if architecture.lazy:  # of a registry; code of the user's own may change meanwhile
        found = _KEPT.setdefault(key, found)
    if watch is not None:
        for shape in found.layers:
            watch.see(shape)
        if not found.watched:
            found.complete(_watched(architecture, options, watch, found.layers))
            found.watched = True
    elif not found.tensors:
        found.complete(skeleton(architecture, options))
    return found


def _watched(
    architecture: Architecture,
    options: Options,
    watch: ShapeMatcher,
    known: list[tuple[int, ...]],
) -> nn.Module:
    """Build while `watch` looks on, who has been shown the `known` layers; more join them."""
    before, made = len(known), 0

    def see(shape: tuple[int, ...]) -> None:
        nonlocal made
        made += 1
        if made > before:
            known.append(shape)
            watch.see(shape)

    with weightless(see):
        return architecture.make(**options)


def skeleton(architecture: Architecture, options: Options) -> nn.Module:
    """Build an architecture for its names and shapes; its numbers mean nothing."""
    if architecture.lazy:
        try:
            with weightless():
                return architecture.make(**options)
        except (RuntimeError, NotImplementedError):
            pass  # its builder reads what it has just allocated
    with seeded():
        return architecture.make(**options)

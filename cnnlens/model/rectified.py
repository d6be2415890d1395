"""Where masks and another convolution can go: rectified maps that one call of a module returns.

What is put behind a module runs whenever the module does. A rectifier that a network calls several
times (``layer4.1.relu`` in torchvision's ResNets, one ``self.relu`` for all convolutions) is
therefore no place for it; the block around it is, where the block runs once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.blocks import ACTIVATIONS
from cnnlens.model.convolutions import find_convolutions
from cnnlens.model.hooks import read
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model

_OWN = "give it an nn.ReLU of its own, used once, in the network's code"


class RectifiedLayers:
    """The rectified maps of a network's convolutions, at modules that can be replaced.

    Parameters
    ----------
    model : Model
        The network; it is run to see what its modules return.

    Raises
    ------
    CnnlensError
        When it does not run on its input size.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._layers = model, find_layers(model)
        self._convolutions = find_convolutions(model)
        self._modules = {row.place.path: row for row in self._layers if row.place.path}

    def named(self, name: str) -> Layer:
        """Find the maps that a name stands for.

        Raises
        ------
        UsageError
            When the layer is not known or no convolution, or its maps are not rectified, or no
            module that is called once returns them.
        """
        layer = self._layers.resolve(name)
        for c in self._convolutions:
            if layer.place.path and layer.place.path in (c.path, c.norm):
                layer = self._layers.resolve(c.alias)
        if why := self._not_at_a_module(layer):
            block = self._block_around(layer)
            raise UsageError(
                f"layer '{name}': {why}",
                _OWN if block is None else f"name the block that it is in: {block.name}",
            )
        if layer.alias is None and not self._convolves(layer.place.path):
            raise UsageError(
                f"layer '{name}' is no convolution, nor a block of them",
                "choose one like conv5, or a block; `cnnlens layers` lists them",
            )
        if not self._is_rectified(layer):
            raise UsageError(
                f"the maps of layer '{name}' are not rectified: they fall below 0, or are all 0",
                "name the block whose output is, such as layer4.1, or the rectifier's module",
            )
        return replace(layer, name=name)

    def last(self, head: str) -> Layer:
        """Find the last convolution of which they can be had, else those of a block around it.

        Parameters
        ----------
        head : str
            The module that gives the logits, which does not count.

        Raises
        ------
        UsageError
            When there is none; what is wrong with the last convolution is said.
        """
        why: UsageError | None = None
        for c in reversed(self._convolutions):
            if c.path == head:
                continue
            try:
                return self.named(c.alias)
            except UsageError as error:
                why = why or error
            if (block := self._block_around(self._layers.resolve(c.alias), head)) is not None:
                return block
        own = why is not None and why.hint == _OWN
        raise UsageError(
            f"{self._model.spec} has no rectified convolution"
            + (f": {why.message}" if why else ""),
            _OWN if own else "--method cgl, and none without --insert, need none",
        )

    def _not_at_a_module(self, layer: Layer) -> str:
        """Say why nothing can be put behind a layer; empty where it can be."""
        place = layer.place
        if place.path and (times := self._layers.times(place.path)) > 1:
            return f"{place.path}, which returns its maps, is called {times} times in a pass"
        if place.op_name in ACTIVATIONS:
            return f"its activation is a function ({place.op_name}), no module"
        is_plain = place.path and not place.channels_last
        return "" if is_plain else "no module of its own returns its maps"

    def _block_around(self, layer: Layer, head: str = "") -> Layer | None:
        """Find the smallest module around a convolution, called once, whose maps are rectified."""
        at = next((c.path for c in self._convolutions if c.alias == layer.alias), layer.place.path)
        for block in (self._modules.get(path) for path in _around(at)):
            if block is None or self._not_at_a_module(block) or within(head, block.place.path):
                continue
            pooled = block.shape[1:] == (1, 1) != layer.shape[1:]  # nothing is left to mask
            if not pooled and self._is_rectified(block):
                return block
        return None

    def _convolves(self, path: str) -> bool:
        return any(isinstance(m, nn.Conv2d) for m in self._model.net.get_submodule(path).modules())

    @torch.no_grad()
    def _is_rectified(self, layer: Layer) -> bool:
        maps = read(self._model.net, self._model.example(seed=1), [layer.place])[0]
        return float(maps.min()) >= 0 < float(maps.max())  # a norm whose weights begin at 0 gives 0


def _around(path: str) -> Iterator[str]:
    """Paths of the modules around one, the nearest first."""
    while path := path.rpartition(".")[0]:
        yield path


def within(name: str, path: str) -> bool:
    """Whether a module is another one, or lies in it."""
    return name == path or name.startswith(f"{path}.")

"""Concept group learning beside any forward pass: it listens to the convolutions, changing nothing.

`ConceptGroups` is a module of two numbers, P1 and P2, that reads the pre-activations of chosen
convolutions while the network runs and turns them into the losses of `cgl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.errors import UsageError
from cnnlens.interpretable import cgl
from cnnlens.interpretable.cgl import Groups, draw_pairs, split
from cnnlens.interpretable.reductions import Reduce, identity
from cnnlens.model.convolutions import convolutions_of
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.streams import sent
from cnnlens.model.trace import hooked
from cnnlens.settings.finetune import CglSettings


@dataclass(frozen=True)
class GroupedLayer:
    """A convolution whose filters are grouped."""

    name: str  #: as it was typed, or its alias
    path: str  #: the module that convolves
    norm: str  #: the batch norm after it, else empty
    groups: Groups  #: of its filters

    @property
    def read_at(self) -> str:
        """The module whose output makes the soft receptive field."""
        return self.norm or self.path


def grouped_layers(
    model: Model, names: Sequence[str], groups: int, head: str = ""
) -> list[GroupedLayer]:
    """Group the filters of convolutions.

    Parameters
    ----------
    model : Model
        The network.
    names : sequence of str
        Of layers; all convolutions but the `head`, where none is named.
    groups : int
        Of each layer.
    head : str
        The module that gives the class scores: alike ones would be classes that are taken for
        each other.

    Raises
    ------
    UsageError
        When a layer is not known or no convolution, has fewer filters than groups, or gives maps
        several times in a pass.
    """
    found = [
        GroupedLayer(layer.name, c.path, c.norm, split(c.units, groups, layer.name))
        for layer, c in convolutions_of(model, names)
        if names or c.path != head
    ]
    if not found:
        raise UsageError(
            "the network has no convolution below its classifier", "name another MODEL"
        )
    _check_single(model, found)
    return found


def _check_single(model: Model, found: Sequence[GroupedLayer]) -> None:
    """See that every layer has the fields of one call: the filters of two calls see other maps."""
    times = find_layers(model).times
    often = [layer for layer in found if times(layer.read_at) > 1]
    if often:
        layer, rest = often[0], [one.name for one in found if one not in often]
        others = f"name others: {' '.join(f'-l {name}' for name in rest)}" if rest else ""
        raise UsageError(
            f"layer '{layer.name}': {layer.read_at} is called {times(layer.read_at)} times in a "
            "pass, and groups are of the maps of one call",
            others or "give each call a module of its own, in the network's code",
        )


class ConceptGroups(nn.Module):
    """The method's own parameters and losses.

    Parameters
    ----------
    layers : sequence of GroupedLayer
        In the order of the forward pass.
    settings : CglSettings
        Weights of the losses.
    seed : int
        Of the pairs that are drawn.

    Attributes
    ----------
    p1, p2 : torch.nn.Parameter
        Scale and offset of the soft receptive fields, 1 and 0 before training; the scale stays
        at least 1, the offset at most 0.
    """

    def __init__(
        self, layers: Sequence[GroupedLayer], settings: CglSettings, seed: int = 0
    ) -> None:
        super().__init__()
        self.layers, self.settings = tuple(layers), settings
        self.p1 = nn.Parameter(torch.tensor(1.0), requires_grad=settings.learn_field)
        self.p2 = nn.Parameter(torch.tensor(0.0), requires_grad=settings.learn_field)
        self.generator = torch.Generator().manual_seed(seed)
        self._outputs: dict[str, Tensor] = {}

    @contextmanager
    def hooks(self, net: nn.Module) -> Iterator[None]:
        """Keep what the grouped layers give during forward passes of `net`."""
        hooks = [
            (net.get_submodule(layer.read_at), partial(self._keep, layer.path))
            for layer in self.layers
            if self._needs_fields
        ]
        try:
            with hooked(hooks):
                yield
        finally:
            self._outputs.clear()

    @property
    def _needs_fields(self) -> bool:
        s = self.settings
        return s.group_weight > 0 or s.spatial_weight > 0

    def _keep(self, path: str, module: nn.Module, args: Any, output: Tensor) -> None:
        if torch.is_grad_enabled():
            # a rectifier may overwrite it in place; and sums of half precision run over
            self._outputs[path] = output.float() if output.dtype.itemsize < 4 else output.clone()

    def fields(self, net: nn.Module, reduce: Reduce = identity) -> list[Tensor]:
        """Soft receptive fields (N, C, H, W) per layer, of the last forward pass."""
        self._keep_apart()
        found = []
        for layer in self.layers:
            value = self._outputs.pop(layer.path)
            if layer.norm:
                gamma: Any = net.get_submodule(layer.norm).weight  # None where it does not scale
                gamma = value.new_ones(value.shape[1]) if gamma is None else gamma
                found.append(cgl.soft_field_of_norm(value, gamma, self.p1, self.p2))
            else:
                found.append(cgl.soft_field(value, self.p1, self.p2, reduce))
        return found

    @torch.no_grad()
    def _keep_apart(self) -> None:
        """Keep P1 from falling below 1 and P2 from rising above 0.

        Nothing but these losses sees them, and there is a way out: at P1 = 0, or with P2 large,
        all fields are alike and the group loss is 0 whatever the filters do.
        """
        self.p1.clamp_(min=1.0)
        self.p2.clamp_(max=0.0)

    def terms(self, net: nn.Module, reduce: Reduce = identity) -> dict[str, Tensor]:
        """Return the losses of the last forward pass, before their weights.

        Parameters
        ----------
        net : torch.nn.Module
            The network that has just run.
        reduce : callable
            Adds up over the processes that share the minibatch, with gradient.

        Returns
        -------
        dict of str to torch.Tensor
            ``group_loss`` and ``spatial_loss``, summed over layers as printed, and
            ``block_norm``; those of no weight are left out.
        """
        found: dict[str, Tensor] = {}
        if self._needs_fields:
            psi = self.fields(net, reduce)
            if self.settings.group_weight > 0:
                found["group_loss"] = self._group_loss(psi, reduce)
            if self.settings.spatial_weight > 0:
                found["spatial_loss"] = sum_of([cgl.spatial_loss(p, reduce) for p in psi])
        found["block_norm"] = sum_of(
            [cgl.block_norm(_weight(net, layer), layer.groups) for layer in self.layers]
        )
        return found

    def _group_loss(self, psi: list[Tensor], reduce: Reduce) -> Tensor:
        found = []
        for field, layer in zip(psi, self.layers, strict=True):
            first, second = draw_pairs(layer.groups, self.generator)
            first, second = (sent(units, field.device) for units in (first, second))
            found.append(cgl.group_loss(field, first, second, reduce))
        if self.settings.sliding_weight > 0:
            slide = [
                cgl.sliding_loss(psi[i], psi[i + 1], one.groups, other.groups, reduce)
                for i, (one, other) in enumerate(zip(self.layers, self.layers[1:], strict=False))
            ]
            found += [self.settings.sliding_weight * s for s in slide]
        return sum_of(found)

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        """Return what is added to the task's loss (eq. 8)."""
        s = self.settings
        weights = {"group_loss": s.group_weight, "spatial_loss": s.spatial_weight}
        weights["block_norm"] = s.block_weight
        return sum_of([weights[name] * term for name, term in terms.items()])

    def undecayed(self, net: nn.Module) -> list[nn.Parameter]:
        """Weights that the block norm holds small: the optimizer must not decay them too."""
        convolutions = (net.get_submodule(layer.path) for layer in self.layers)
        named = (pair for module in convolutions for pair in module.named_parameters())
        return [p for name, p in named if name != "bias"]  # of a weight in parts: its parts

    def relevance(self, net: nn.Module) -> dict[str, list[float]]:
        """Relevance of each group, by layer."""
        return {
            layer.name: cgl.relevance(_weight(net, layer).detach(), layer.groups).tolist()
            for layer in self.layers
        }

    def record(self) -> dict[str, Any]:
        """Return what ``new.pt`` says about the method."""
        return {
            "method": "cgl",
            "layers": [layer.path for layer in self.layers],
            "groups": {
                layer.path: {"number": layer.groups.number, "size": layer.groups.size}
                for layer in self.layers
            },
            "p1": max(self.p1.item(), 1.0),
            "p2": min(self.p2.item(), 0.0),
        }


def sum_of(values: Sequence[Tensor]) -> Tensor:
    """Add up at least one number."""
    return torch.stack(list(values)).sum()


def _weight(net: nn.Module, layer: GroupedLayer) -> Tensor:
    weight = net.get_submodule(layer.path).weight
    assert isinstance(weight, Tensor)  # no parameter where it is computed from parts
    return weight


class Grouped:
    """Concept groups as a method of the training loop."""

    name = "cgl"

    def __init__(self, groups: ConceptGroups) -> None:
        self.groups = groups

    def hooks(self, net: nn.Module) -> AbstractContextManager[None]:
        """Keep pre-activations."""
        return self.groups.hooks(net)

    def terms(self, net: nn.Module, labels: Tensor, reduce: Reduce) -> dict[str, Tensor]:
        """Return ``group_loss, spatial_loss, block_norm``."""
        return self.groups.terms(net, reduce)

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Weigh them as eq. 8."""
        return self.groups.weighted(terms)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return P1 and P2."""
        return self.groups.parameters()

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return the weights that the block norm holds small."""
        return self.groups.undecayed(net)

    def state_dict(self) -> dict[str, Any]:
        """Return P1, P2 and the state of the pairs' generator."""
        return {"own": self.groups.state_dict(), "generator": self.groups.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them in."""
        self.groups.load_state_dict(state["own"])
        self.groups.generator.set_state(state["generator"])

    def record(self) -> dict[str, Any]:
        """Return the groups' record."""
        return self.groups.record()

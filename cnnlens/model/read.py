"""Reading values in the middle of a forward pass, as numbers or together with their history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._python_dispatch import _disable_current_modes

from cnnlens.errors import CnnlensError
from cnnlens.model.trace import Place
from cnnlens.model.watch import Stop, Take, watching_places


def read(
    net: nn.Module, x: Tensor, places: Sequence[Place], stop: bool = True, gradient: bool = False
) -> list[Tensor]:
    """Run `net` on `x` (N, …) and return the values at `places`, in their order.

    The forward pass ends when the last of them is known (unless `stop` is False). Values are
    copies where the network could still overwrite them in place; maps that a network keeps with
    channels last are returned as (N, C, H, W). With `gradient` they can be differentiated.

    Raises
    ------
    CnnlensError
        When a place is never reached.
    """
    values, _ = read_and_run(net, x, places, stop, gradient)
    return values


def read_and_run(
    net: nn.Module, x: Tensor, places: Sequence[Place], stop: bool, gradient: bool = False
) -> tuple[list[Tensor], Any]:
    """Do what `read` does, and return the network's own output too (None when stopped early)."""
    values: dict[Place, Tensor] = {}
    wanted = len(set(places))

    def take(place: Place, value: Tensor) -> None:
        with _disable_current_modes():  # a copy is no operation of the network's to be counted
            value = value if gradient else value.detach()
            if not stop or len(values) + 1 < wanted:  # the network runs on, and may write into it
                value = value.clone()
            values[place] = place.as_maps(value)

    output = _run(net, x, places, take, stop, live=gradient)
    return [values[place] for place in places], output


@dataclass(frozen=True)
class Live:
    """A value of the forward pass, and its place in the autograd graph.

    Attributes
    ----------
    value : torch.Tensor
        A copy without history, as the network laid it out.
    edge : torch.autograd.graph.GradientEdge or None
        Where gradients of this value enter the graph; None when it does not depend on the input.
        It stays what it was when the network later overwrites the tensor in place.
    """

    value: Tensor
    edge: GradientEdge | None


def read_live(
    net: nn.Module, x: Tensor, places: Sequence[Place], stop: bool = True
) -> tuple[list[Live], Any]:
    """Run `net` on `x`, which requires a gradient, and return the values at `places`.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode.
    x : torch.Tensor
        (N, …), which requires a gradient.
    places : sequence of Place
        What to read, in this order.
    stop : bool
        End the forward pass when the last of them is known.

    Returns
    -------
    list of Live, and the network's output
        The output is None where the pass stopped early.

    Raises
    ------
    CnnlensError
        When a place is never reached.
    """
    lives: dict[Place, Live] = {}

    def take(place: Place, value: Tensor) -> None:
        with _disable_current_modes(), torch.no_grad():
            copy = value.clone()
        edge = get_gradient_edge(value) if value.requires_grad else None
        lives[place] = Live(copy, edge)

    with torch.inference_mode(False), torch.enable_grad():
        output = _run(net, x, places, take, stop, live=True)
    return [lives[place] for place in places], output


def _run(
    net: nn.Module, x: Tensor, places: Sequence[Place], take: Take, stop: bool, live: bool
) -> Any:
    """Have `take` called once with every place's value, with its history where `live`."""
    missing = set(places)

    def once(place: Place, value: Tensor) -> None:
        if place not in missing:
            return
        take(place, value)
        missing.discard(place)
        if stop and not missing:
            raise Stop

    output = None
    with (
        _counting_alike(missing),
        watching_places(net, set(places), once, x if live else None),
        suppress(Stop),
    ):
        # a tensor made in inference mode cannot be changed in place outside of it
        output = net(x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x)
    if missing:
        names = ", ".join(p.path or p.op_name for p in places if p in missing)
        raise CnnlensError(f"the forward pass never reached {names}")
    return output


@contextmanager
def _counting_alike(places: set[Place]) -> Iterator[None]:
    """Leave inference mode where operations are counted: it does not take composite ones apart."""
    if torch.is_inference_mode_enabled() and any(place.op >= 0 for place in places):
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield

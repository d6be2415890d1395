"""Reading values in the middle of a forward pass together with their history, for backward passes.

Where `trace.read` returns numbers, this returns numbers and the edge of the autograd graph that
made them. An edge stays what it was when the network later overwrites the tensor in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from cnnlens.errors import CnnlensError
from cnnlens.model.trace import Place


@dataclass(frozen=True)
class Live:
    """A value of the forward pass.

    Attributes
    ----------
    value : torch.Tensor
        A copy without history, as the network laid it out.
    edge : torch.autograd.graph.GradientEdge or None
        Where gradients of this value enter the graph; None when it does not depend on the input.
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
        (N, …), a leaf that requires a gradient.
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
    wanted = set(places)
    taken: dict[Place, Live] = {}

    def take(place: Place, value: Tensor) -> None:
        with _disable_current_modes(), torch.no_grad():
            copy = value.clone()
        edge = get_gradient_edge(value) if value.requires_grad else None
        taken.setdefault(place, Live(copy, edge))
        if stop and len(taken) == len(wanted):
            raise _Stop

    output = None
    by_op = [place for place in wanted if place.op >= 0]
    watch = _Watch(_occurrences(net, x, by_op), take) if by_op else None
    with (
        suppress(_Stop),
        torch.inference_mode(False),
        torch.enable_grad(),
        _hooked(net, [place for place in wanted if place.op < 0], take),
    ):
        if watch is None:
            output = net(x)
        else:
            with watch:
                output = net(x)
            watch.settle()
    if missing := [p.path or p.op_name for p in places if p not in taken]:
        raise CnnlensError(f"the forward pass never reached {', '.join(missing)}")
    return [taken[p] for p in places], output


class _Stop(BaseException):
    """Everything asked for is known; no Exception, so that no network can catch it."""


@contextmanager
def _hooked(net: nn.Module, places: list[Place], take: Any) -> Iterator[None]:
    modules = dict(net.named_modules())
    paths = {place.path for place in places}
    handles = [
        modules[path].register_forward_hook(_taking([p for p in places if p.path == path], take))
        for path in paths
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _taking(places: list[Place], take: Any) -> Any:
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        for place in places:
            if place.call == number:
                take(place, output)

    return hook


def _name(func: Any) -> str:
    name: str = func.overloadpacket.__name__
    return name if name.endswith("__") else name.removesuffix("_")


class _Count(TorchDispatchMode):
    """Finds out the how-manieth operation of its name each place is.

    Numbers of operations shift once gradients are kept (`detach` joins them); this does not.
    """

    def __init__(self, places: list[Place]) -> None:
        super().__init__()
        self.found: dict[tuple[str, int], Place] = {}
        self._places = {place.op: place for place in places}
        self._seen: dict[str, int] = {}
        self._number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, number = _name(func), self._number
        if number in self._places and name == self._places[number].op_name:
            self.found[name, self._seen.get(name, 0)] = self._places[number]
        self._seen[name] = self._seen.get(name, 0) + 1
        self._number += 1
        if len(self.found) == len(self._places):
            raise _Stop
        return func(*args, **(kwargs or {}))


def _occurrences(net: nn.Module, x: Tensor, places: list[Place]) -> dict[tuple[str, int], Place]:
    count, plain = _Count(places), x.detach()
    with torch.no_grad(), suppress(_Stop), count:
        net(plain)
    return count.found


class _Watch(TorchDispatchMode):
    """Takes results of chosen operations.

    An operation's history is attached after it has been dispatched: it is there when the next one
    is, and that is the moment to take it.
    """

    def __init__(self, wanted: dict[tuple[str, int], Place], take: Any) -> None:
        super().__init__()
        self._wanted, self._take = wanted, take
        self._seen: dict[str, int] = {}
        self._pending: list[tuple[Place, Tensor]] = []

    def settle(self) -> None:
        """Take what waits for its history."""
        pending, self._pending = self._pending, []
        for place, value in pending:
            self._take(place, value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = _name(func)
        if name != "detach":  # which belongs to an in-place operation that is not done yet
            self.settle()
        key = name, self._seen.get(name, 0)
        self._seen[name] = key[1] + 1
        result = func(*args, **(kwargs or {}))
        if place := self._wanted.get(key):
            tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self._pending.append((place, tensors[place.output]))
        return result

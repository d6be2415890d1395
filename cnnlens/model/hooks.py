"""Reading values in the middle of a forward pass, as numbers or together with their history.

Modules are read by hooks, operations (what no module returns) by dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from cnnlens.errors import CnnlensError
from cnnlens.model.trace import Place, as_input, op_name, tensors


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
            values[place] = place.as_maps(value.float())

    output = _run(net, x, places, take, stop, live=gradient)
    return [values[place] for place in places], output


@torch.no_grad()
def run_without(net: nn.Module, x: Tensor, place: Place, units: Sequence[int | None]) -> Any:
    """Run `net` on `x` (N, …) with one unit of each row switched off, and return its output.

    At `place` the i-th row's map of unit `units[i]` is 0; of None all stay as they are.

    Raises
    ------
    CnnlensError
        When the place is never reached, or its values cannot be changed.
    """

    def drop(place: Place, value: Tensor) -> None:
        with _disable_current_modes():
            for row, unit in enumerate(units):
                if unit is not None:
                    place.as_maps(value)[row, unit] = 0
                    if place.as_maps(value)[row, unit].any():  # what was changed was a copy
                        raise CnnlensError(f"the units of {place.path} cannot be switched off")

    return _run(net, x, [place], drop, stop=False, live=False)


@dataclass(frozen=True)
class Live:
    """A value of the forward pass, and its place in the autograd graph.

    Attributes
    ----------
    value : torch.Tensor
        A float32 copy without history, as the network laid it out.
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
            copy = value.float() if value.dtype != torch.float32 else value.clone()
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
    x = as_input(net, x)
    with (
        _counting_alike(missing),
        placing_hooks(net, set(places), once, x if live else None),
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


Take = Callable[[Place, Tensor], None]


class Stop(BaseException):
    """Everything asked for has been read; the rest of the forward pass is not needed.

    No Exception, so that a network that catches those does not run on.
    """


@contextmanager
def placing_hooks(
    net: nn.Module, places: set[Place], take: Take, live: Tensor | None = None
) -> Iterator[None]:
    """Have `take` called with every place's value; `live` is the input where history is wanted."""
    modules = dict(net.named_modules())
    operations = [place for place in places if place.op >= 0]
    # a pass of its own: before there are hooks
    ordinals = None if live is None or not operations else _find_ordinals(net, live, operations)
    by_path: dict[str, list[Place]] = {}
    for place in places:
        if place.op < 0:
            by_path.setdefault(place.path, []).append(place)
    handles = [
        modules[path].register_forward_hook(_taking(wanted, take))
        for path, wanted in by_path.items()
    ]
    try:
        with _reading_operations(operations, take, ordinals):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _reading_operations(
    places: Sequence[Place], take: Take, ordinals: Ordinals | None
) -> Iterator[None]:
    if not places:
        yield
    elif ordinals is not None:
        reader = _LiveReader(ordinals, take)
        with reader, _Settling(reader):
            yield
            reader.settle()
    else:  # slows the pass down by microseconds an operation
        by_op: dict[int, list[Place]] = {}
        for place in places:
            by_op.setdefault(place.op, []).append(place)
        with _Reader(by_op, take):
            yield


def _taking(places: list[Place], take: Take) -> Any:
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        for place in places:
            if place.call == number:
                take(place, output)

    return hook


@dataclass
class _Reader(TorchDispatchMode):
    """Counts operations and takes the outputs of chosen ones."""

    wanted: dict[int, list[Place]]
    take: Take
    count: int = field(default=0)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        number, self.count = self.count, self.count + 1
        for place in self.wanted.get(number, ()):
            if op_name(func) != place.op_name:
                raise _changed(place, op_name(func))
            self.take(place, tensors(result)[place.output])
        return result


def _changed(place: Place, now: str) -> CnnlensError:
    return CnnlensError(
        f"the network's forward pass changes from call to call: operation {place.op} was "
        f"{place.op_name}, now it is {now}",
        "name a module's own output instead (cnnlens layers lists them)",
    )


class _Ordinals(TorchDispatchMode):
    """Finds out the how-manieth operation of its name each place is.

    Where gradients are kept, operations of autograd's own join the network's and shift their
    numbers; the order among those of one name stays.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__()
        self.found: dict[tuple[str, int], list[Place]] = {}
        self._wanted = places
        self._count = 0
        self._seen: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op_name(func)
        for place in self._wanted:
            if place.op == self._count:
                if place.op_name != name:
                    raise _changed(place, name)
                self.found.setdefault((name, self._seen.get(name, 0)), []).append(place)
        self._seen[name] = self._seen.get(name, 0) + 1
        self._count += 1
        if sum(map(len, self.found.values())) == len(self._wanted):
            raise Stop
        return func(*args, **(kwargs or {}))


Ordinals = dict[tuple[str, int], list[Place]]
# what is known of a network's operations, once it was looked for
_ordinals: WeakKeyDictionary[nn.Module, dict[Any, Ordinals]] = WeakKeyDictionary()


def _state(net: nn.Module) -> tuple[tuple[str, ref[nn.Module], bool], ...]:
    """What decides which operations come: the modules themselves (surgery) and their mode."""
    return tuple((name, ref(module), module.training) for name, module in net.named_modules())


def _find_ordinals(
    net: nn.Module, x: Tensor, places: Sequence[Place]
) -> dict[tuple[str, int], list[Place]]:
    known = _ordinals.setdefault(net, {})
    state = _state(net)
    for stale in [key for key in known if key[0] != state]:
        del known[stale]
    key = (state, tuple(x.shape[1:]), frozenset(places))
    if key not in known:
        finder, plain = _Ordinals(places), x.detach().clone()
        with torch.no_grad(), suppress(Stop), finder:
            net(plain)
        known[key] = finder.found
    return known[key]


class _LiveReader(TorchDispatchMode):
    """Takes the outputs of chosen operations together with their history.

    Autograd stands above this mode and writes the history once the operation is done: values are
    kept until the function of torch that made them has returned.
    """

    def __init__(self, wanted: dict[tuple[str, int], list[Place]], take: Take) -> None:
        super().__init__()
        self._wanted, self._take = wanted, take
        self._seen: dict[str, int] = {}
        self._kept: list[tuple[Place, Tensor]] = []

    def settle(self) -> None:
        """Take what was kept."""
        while self._kept:
            self._take(*self._kept.pop(0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op_name(func)
        if name != "detach":  # autograd's own, while it writes; any other may work in place
            self.settle()
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        result = func(*args, **(kwargs or {}))
        for place in self._wanted.get((name, number), ()):
            self._kept.append((place, tensors(result)[place.output]))
        return result


class _Settling(TorchFunctionMode):
    """Lets a reader take its values as soon as a function of torch has returned."""

    def __init__(self, reader: _LiveReader) -> None:
        super().__init__()
        self._reader = reader

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._reader.settle()
        return result

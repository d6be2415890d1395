"""Reading values in the middle of a forward pass, as numbers or together with their history.

Modules are read by hooks, operations (what no module returns) by dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._python_dispatch import _disable_current_modes

from cnnlens.errors import CnnlensError, counted
from cnnlens.model.operations import (
    LiveReader,
    Ordinals,
    Reader,
    Settling,
    Stop,
    Swapper,
    Take,
    changed,
    find_ordinals,
    following,
)
from cnnlens.model.trace import Place, as_input, hooked


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
        with torch.inference_mode(False):  # the network may be in it just here
            has = value.requires_grad and not value.is_inference()
            edge = get_gradient_edge(value) if has else None
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
        _check_rows(place, value, len(x))
        take(place, value)
        missing.discard(place)
        if stop and not missing:
            raise Stop

    output = None
    if live and any(p.is_inference() for p in net.parameters()):
        raise CnnlensError(
            "the network was made in inference mode: no gradient goes through its weights",
            "make it outside of torch.inference_mode()",
        )
    x = as_input(net, x)
    with (
        _counting_alike(missing),
        placing_hooks(net, set(places), once, x if live else None) as elsewhere,
        suppress(Stop),
    ):
        # a tensor made in inference mode cannot be changed in place outside of it
        output = net(x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x)
    if missing:
        raise _never([place for place in places if place in missing], net, elsewhere)
    return output


def _check_rows(place: Place, value: Tensor, count: int) -> None:
    """Refuse what is of other images than the batch: the rest of it would be of none."""
    with _disable_current_modes(), torch.no_grad():
        rows = count if value.ndim < 2 else len(place.as_maps(value))
    if rows != count:
        raise CnnlensError(
            f"{place.path or place.op_name} gives {counted(rows, 'row')} for "
            f"{counted(count, 'image')}: it is not run on the whole batch",
            "--batch-size 1, or have it run its layers on a batch as a whole",
        )


@contextmanager
def _counting_alike(places: set[Place]) -> Iterator[None]:
    """Leave inference mode where operations are counted: it does not take composite ones apart."""
    if torch.is_inference_mode_enabled() and any(place.op >= 0 for place in places):
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


@contextmanager
def placing_hooks(
    net: nn.Module, places: set[Place], take: Take, live: Tensor | None = None
) -> Iterator[set[nn.Module]]:
    """Have `take` called with every place's value; `live` is the input where history is wanted.

    A set is yielded, as by `hooked`.
    """
    modules = dict(net.named_modules())
    operations = [place for place in places if place.op >= 0]
    # a pass of its own: before there are hooks
    ordinals = None if live is None or not operations else find_ordinals(net, live, operations)
    by_path: dict[str, list[Place]] = {}
    for place in places:
        if place.op < 0:
            by_path.setdefault(place.path, []).append(place)
    hooks = [(modules[path], _taking(wanted, take)) for path, wanted in by_path.items()]
    with hooked(hooks) as elsewhere, _reading_operations(net, operations, take, ordinals):
        yield elsewhere


@contextmanager
def swapping(net: nn.Module, place: Place, swap: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have what is read behind a place be what `swap` makes of the value there.

    What an operation has written in place is written over, else another tensor takes its place.
    """
    if place.op >= 0:
        with following(net) as running, Swapper(place, running, swap):
            yield
        return
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return swap(output) if calls == place.call + 1 else None

    with hooked([(dict(net.named_modules())[place.path], hook)]):
        yield


@contextmanager
def _reading_operations(
    net: nn.Module, places: Sequence[Place], take: Take, ordinals: Ordinals | None
) -> Iterator[None]:
    if not places:
        yield
    elif ordinals is not None:
        reader = LiveReader(ordinals, take)
        with reader, Settling(reader):
            yield
            reader.settle()
    else:  # slows the pass down by microseconds an operation
        with following(net) as running, Reader(places, running, take):
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


def _never(
    places: Sequence[Place], net: nn.Module, elsewhere: Collection[nn.Module]
) -> CnnlensError:
    if lost := [place for place in places if not place.path]:
        return changed(lost[0], "not reached")
    if apart := [p.path for p in places if p.path and net.get_submodule(p.path) in elsewhere]:
        return CnnlensError(
            f"{', '.join(apart)} is run in a thread of its own, where nothing can be read",
            "have the network run it in the thread that it is called in (no DataParallel within)",
        )
    return CnnlensError(f"the forward pass never reached {', '.join(p.path for p in places)}")

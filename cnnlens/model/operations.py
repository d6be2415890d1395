"""Operations of a forward pass that are read as they happen, each found again by its place.

How many there are depends on the number of images and on whether gradients are kept; an operation
is therefore told by the module it happens in, its name, and how many of that name came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from cnnlens.errors import CnnlensError
from cnnlens.model.dispatch import DispatchMode, op_name
from cnnlens.model.trace import Place, hooked, tensors

Take = Callable[[Place, Tensor], None]


class Stop(BaseException):
    """Everything asked for has been read; the rest of the forward pass is not needed.

    No Exception, so that a network that catches those does not run on.
    """


@contextmanager
def following(net: nn.Module) -> Iterator[list[str]]:
    """Within this block a list holds the paths of the modules that are running, innermost last."""
    running: list[str] = []

    def leave(*_: object) -> None:
        running.pop()

    modules = list(net.named_modules())
    before = [(module, lambda *_, p=path: running.append(p)) for path, module in modules]
    with hooked([(module, leave) for _, module in modules], before):
        yield running


class _Counter:
    """Says which of some places an operation is, one operation after another."""

    def __init__(self, places: Sequence[Place], running: Sequence[str]) -> None:
        self._running = running
        self._by_number: dict[int, list[Place]] = {}
        self._by_name: dict[tuple[str, str, int], list[Place]] = {}
        for place in places:
            if place.nth < 0:
                self._by_number.setdefault(place.op, []).append(place)
            else:
                key = place.module, place.op_name, place.nth
                self._by_name.setdefault(key, []).append(place)
        self._count = 0
        self._seen: dict[tuple[str, str], int] = {}

    def places(self, name: str) -> list[Place]:
        """Return the places of the next operation, which has this name."""
        found = self._by_number.get(self._count, [])
        self._count += 1
        for place in found:
            if name != place.op_name:
                raise changed(place, name)
        where = self._running[-1] if self._running else "", name
        number = self._seen.get(where, 0)
        self._seen[where] = number + 1
        return [*found, *self._by_name.get((*where, number), ())]


class Reader(DispatchMode):
    """Counts operations and takes the outputs of chosen ones."""

    def __init__(self, places: Sequence[Place], running: Sequence[str], take: Take) -> None:
        super().__init__()
        self._counter, self._take = _Counter(places, running), take

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for place in self._counter.places(op_name(func, args)):
            self._take(place, tensors(result)[place.output])
        return result


class Swapper(DispatchMode):
    """Counts operations and puts another value in the place of one's output."""

    def __init__(
        self, place: Place, running: Sequence[str], swap: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self._counter, self._swap = _Counter([place], running), swap

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for place in self._counter.places(op_name(func, args)):
            value = tensors(result)[place.output]
            other = self._swap(value)
            if func._schema.is_mutable:  # the network goes on with its own tensor
                value.copy_(other)
            else:
                result = tree_map(lambda one, v=value, o=other: o if one is v else one, result)
        return result


def changed(place: Place, now: str) -> CnnlensError:
    """Say that a place is not found again."""
    return CnnlensError(
        f"the network's forward pass changes from call to call: operation {place.op} was "
        f"{place.op_name}, now it is {now}",
        "name a module's own output instead (cnnlens layers lists them)",
    )


class _Ordinals(DispatchMode):
    """Finds out the how-manieth operation of its name each place is.

    Where gradients are kept, operations of autograd's own join the network's and shift their
    numbers; the order among those of one name stays.
    """

    def __init__(self, places: Sequence[Place], running: Sequence[str]) -> None:
        super().__init__()
        self.found: dict[tuple[str, int], list[Place]] = {}
        self._left, self._counter = len(places), _Counter(places, running)
        self._seen: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op_name(func, args)
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        if places := self._counter.places(name):
            self.found[name, number] = places
            self._left -= len(places)
            if not self._left:
                raise Stop
        return func(*args, **(kwargs or {}))


Ordinals = dict[tuple[str, int], list[Place]]
# what is known of a network's operations, once it was looked for
_ordinals: WeakKeyDictionary[nn.Module, dict[Any, Ordinals]] = WeakKeyDictionary()


def _state(net: nn.Module) -> tuple[tuple[str, ref[nn.Module], bool], ...]:
    """What decides which operations come: the modules themselves (surgery) and their mode."""
    return tuple((name, ref(module), module.training) for name, module in net.named_modules())


def find_ordinals(
    net: nn.Module, x: Tensor, places: Sequence[Place]
) -> dict[tuple[str, int], list[Place]]:
    """Find out the how-manieth operation of its name each place is, in a pass of its own."""
    known = _ordinals.setdefault(net, {})
    state = _state(net)
    for stale in [key for key in known if key[0] != state]:
        del known[stale]
    key = (state, tuple(x.shape), frozenset(places))
    if key not in known:
        plain = x.detach().clone()
        with (
            torch.no_grad(),
            suppress(Stop),
            following(net) as running,
            _Ordinals(places, running) as finder,
        ):
            net(plain)
        known[key] = finder.found
    return known[key]


class LiveReader(DispatchMode):
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
        name = op_name(func, args)
        if name != "detach":  # autograd's own, while it writes; any other may work in place
            self.settle()
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        result = func(*args, **(kwargs or {}))
        for place in self._wanted.get((name, number), ()):
            self._kept.append((place, tensors(result)[place.output]))
        return result


class Settling(TorchFunctionMode):
    """Lets a reader take its values as soon as a function of torch has returned."""

    def __init__(self, reader: LiveReader) -> None:
        super().__init__()
        self._reader = reader

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._reader.settle()
        return result

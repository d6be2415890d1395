"""What happens in one forward pass, and how to read values in the middle of it.

`trace` runs a network once and writes down every tensor operation in order, with the module it
happened in. Operations are seen below the module system, so that `F.relu`, in-place rectifiers,
reused modules and exported graphs are all alike. `reading` then reads chosen places during later
forward passes and stops as soon as the deepest one is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from cnnlens.errors import CnnlensError


@dataclass(frozen=True)
class Op:
    """One tensor operation.

    Attributes
    ----------
    name : str
        Its ATen name without namespace, overload and in-place underscore: "convolution", "relu".
    inputs, outputs : tuple of int
        Numbers of the values it reads and makes (an in-place operation makes a new value).
    shapes : tuple of tuple of int
        Shapes of its outputs.
    arguments : tuple
        Its other positional arguments (numbers, lists), None where a tensor stood.
    kernel : tuple of int
        Extent of a convolution's kernel, empty for everything else.
    module : str
        Path of the innermost module that was running.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    arguments: tuple[Any, ...]
    kernel: tuple[int, ...]
    module: str


@dataclass(frozen=True)
class Call:
    """One call of a module: which module, for the how-manieth time, and the value it returned."""

    path: str
    kind: str
    number: int
    value: int
    shape: tuple[int, ...]
    after: int  # operations done when it returned


@dataclass(frozen=True)
class Trace:
    """One forward pass: its operations and module calls in order, and the value it started from.

    `silent` names the modules that returned no tensor, and says what they did instead.
    """

    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    source: int
    silent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A point of the forward pass whose value can be read.

    Either the output of a module's `call`-th call (`path` given), or of the `op`-th operation,
    for values that no module returns (a functional rectifier).
    """

    path: str = ""
    call: int = 0
    op: int = -1
    op_name: str = ""
    output: int = 0
    channels_last: bool = False

    @property
    def key(self) -> str:
        """Equal keys, same place: what a store and a workspace remember."""
        return (
            f"op {self.op} {self.op_name}.{self.output}"
            if self.op >= 0
            else f"{self.path}#{self.call}"
        )


def trace(net: nn.Module, x: Tensor) -> Trace:
    """Run `net` once on `x` (N, C, H, W) and write down what happens.

    Raises
    ------
    CnnlensError
        When the network does not accept the input.
    """
    recorder = _Recorder(net)
    source = recorder.number(x)
    try:
        with torch.no_grad(), recorder.listening(), recorder:
            net(x)
    except CnnlensError:
        raise
    except Exception as error:
        shape = "×".join(map(str, x.shape[1:]))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CnnlensError(
            f"the network does not run on a {shape} input: {reason}",
            "give the input it was trained on with --image-size H[xW]",
        ) from error
    return Trace(tuple(recorder.ops), tuple(recorder.calls), source, recorder.silent())


class _Recorder(TorchDispatchMode):
    """Numbers every value, and lists operations and module calls as they happen."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.calls: list[Call] = []
        self._net = net
        self._numbers = WeakTensorKeyDictionary()
        self._next = 0
        self._running: list[str] = []
        self._called: dict[str, int] = {}
        self._returned: dict[str, str] = {}

    def silent(self) -> dict[str, str]:
        """Modules that returned no tensor."""
        spoken = {call.path for call in self.calls}
        return {
            path: f"returns no tensor but {self._returned[path]}"
            if path in self._returned
            else "is not run when the network classifies"
            for path, _ in self._net.named_modules()
            if path and path not in spoken
        }

    def number(self, tensor: Tensor) -> int:
        """Return the value's number, a new one if it was never seen (a weight, a constant)."""
        if tensor not in self._numbers:
            self._renumber(tensor)
        return self._numbers[tensor]

    def _renumber(self, tensor: Tensor) -> int:
        self._next += 1
        self._numbers[tensor] = self._next
        return self._next

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = tuple(self.number(t) for t in _tensors((args, kwargs)))
        result = func(*args, **kwargs)
        made = _tensors(result)
        outputs = tuple(self._renumber(t) for t in made)
        self.ops.append(
            Op(
                name=_op_name(func),
                inputs=inputs,
                outputs=outputs,
                shapes=tuple(tuple(t.shape) for t in made),
                arguments=tuple(None if isinstance(a, Tensor) else a for a in args),
                kernel=tuple(args[1].shape[2:]) if _op_name(func) == "convolution" else (),
                module=self._running[-1] if self._running else "",
            )
        )
        return result

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Follow which module runs, by hooks that are gone when the block ends."""
        handles = []
        for path, module in self._net.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(path)))
            handles.append(module.register_forward_hook(self._leaving(path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            self._running.append(path)

        return hook

    def _leaving(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._running.pop()
            number = self._called.get(path, 0)
            self._called[path] = number + 1
            if isinstance(output, Tensor):
                value, shape = self.number(output), tuple(output.shape)
                kind = _kind(module)
                self.calls.append(Call(path, kind, number, value, shape, len(self.ops)))
            else:
                self._returned[path] = f"a {type(output).__name__}"

        return hook


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _op_name(func: Any) -> str:
    name = func.overloadpacket.__name__
    return name.removesuffix("_") if not name.endswith("__") else name


def _kind(module: nn.Module) -> str:
    # an exported program's modules are all interpreters; the type they had survives beside them
    return str(getattr(module, "_ty", None) or type(module).__name__).rpartition(".")[2]


class _Stop(BaseException):
    """Everything asked for has been read; the rest of the forward pass is not needed.

    No Exception, so that a network that catches those does not run on.
    """


@dataclass
class _Reader(TorchDispatchMode):
    """Counts operations and takes the outputs of chosen ones."""

    wanted: dict[int, list[Place]]
    take: Any
    count: int = field(default=0)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        number, self.count = self.count, self.count + 1
        for place in self.wanted.get(number, ()):
            if _op_name(func) != place.op_name:
                raise _changed(place, _op_name(func))
            self.take(place, _tensors(result)[place.output])
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
        name = _op_name(func)
        for place in self._wanted:
            if place.op == self._count:
                if place.op_name != name:
                    raise _changed(place, name)
                self.found.setdefault((name, self._seen.get(name, 0)), []).append(place)
        self._seen[name] = self._seen.get(name, 0) + 1
        self._count += 1
        if sum(map(len, self.found.values())) == len(self._wanted):
            raise _Stop
        return func(*args, **(kwargs or {}))


# what is known of a network's operations, once it was looked for
_ordinals: WeakKeyDictionary[nn.Module, dict[frozenset[Place], dict[tuple[str, int], list[Place]]]]
_ordinals = WeakKeyDictionary()


def _find_ordinals(
    net: nn.Module, x: Tensor, places: Sequence[Place]
) -> dict[tuple[str, int], list[Place]]:
    known = _ordinals.setdefault(net, {})
    key = frozenset(places)
    if key not in known:
        finder, plain = _Ordinals(places), x.detach().clone()
        with torch.no_grad(), suppress(_Stop), finder:
            net(plain)
        known[key] = finder.found
    return known[key]


class _LiveReader(TorchDispatchMode):
    """Takes the outputs of chosen operations together with their history.

    Autograd stands above this mode and writes the history once the operation is done: values are
    kept until the function of torch that made them has returned.
    """

    def __init__(self, wanted: dict[tuple[str, int], list[Place]], take: Any) -> None:
        super().__init__()
        self._wanted, self._take = wanted, take
        self._seen: dict[str, int] = {}
        self._kept: list[tuple[Place, Tensor]] = []

    def settle(self) -> None:
        """Take what was kept."""
        while self._kept:
            self._take(*self._kept.pop(0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = _op_name(func)
        if name != "detach":  # autograd's own, while it writes; any other may work in place
            self.settle()
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        result = func(*args, **(kwargs or {}))
        for place in self._wanted.get((name, number), ()):
            self._kept.append((place, _tensors(result)[place.output]))
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
    output = None
    wanted = set(places)

    def take(place: Place, value: Tensor) -> None:
        last = stop and len(values) + 1 == len(wanted)
        with _disable_current_modes():  # a copy is no operation of the network's to be counted
            value = value if gradient else value.detach()
            value = value if last else value.clone()
            values[place] = value.permute(0, 3, 1, 2) if place.channels_last else value
        if last:
            raise _Stop

    with (
        _counting_alike(wanted),
        _hooked(net, wanted, take, x if gradient else None),
        suppress(_Stop),
    ):
        # a tensor made in inference mode cannot be changed in place outside of it
        output = net(x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x)
    if missing := [p.path or p.op_name for p in places if p not in values]:
        raise CnnlensError(f"the forward pass never reached {', '.join(missing)}")
    return [values[p] for p in places], output


@contextmanager
def _counting_alike(places: set[Place]) -> Iterator[None]:
    """Leave inference mode where operations are counted: it does not take composite ones apart."""
    if torch.is_inference_mode_enabled() and any(place.op >= 0 for place in places):
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


@contextmanager
def _hooked(
    net: nn.Module, places: set[Place], take: Any, live: Tensor | None = None
) -> Iterator[None]:
    """Have `take` called with every place's value; `live` is the input where history is wanted."""
    modules = dict(net.named_modules())
    by_path: dict[str, list[Place]] = {}
    for place in places:
        if place.op < 0:
            by_path.setdefault(place.path, []).append(place)
    handles = [
        modules[path].register_forward_hook(_taking(wanted, take))
        for path, wanted in by_path.items()
    ]
    try:
        with _watching(net, [place for place in places if place.op >= 0], take, live):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watching(
    net: nn.Module, places: Sequence[Place], take: Any, live: Tensor | None
) -> Iterator[None]:
    if not places:
        yield
    elif live is not None:
        reader = _LiveReader(_find_ordinals(net, live, places), take)
        with reader, _Settling(reader):
            yield
            reader.settle()
    else:  # slows the pass down by microseconds an operation
        by_op: dict[int, list[Place]] = {}
        for place in places:
            by_op.setdefault(place.op, []).append(place)
        with _Reader(by_op, take):
            yield


def _taking(places: list[Place], take: Any) -> Any:
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        for place in places:
            if place.call == number:
                take(place, output)

    return hook

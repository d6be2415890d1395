"""What happens in one forward pass.

`trace` runs a network once and writes down every tensor operation in order, with the module it
happened in. Operations are seen below the module system, so that `F.relu`, in-place rectifiers,
reused modules and exported graphs are all alike. `model.read` then reads chosen places of later
passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from cnnlens.model.dispatch import DispatchMode, op_name
from cnnlens.model.outputs import named_tensors
from cnnlens.model.positions import Grid
from cnnlens.model.refused import check_dimensions, check_weights, explained

Hooks = Iterable[tuple[nn.Module, Callable[..., Any]]]

# number types that weights are computed in; others (8 bits) are unpacked by the network itself
_COMPUTED = {torch.float32, torch.float64, torch.float16, torch.bfloat16}


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
    read : tuple of tuple of int
        Shapes of its inputs.
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
    read: tuple[tuple[int, ...], ...]
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

    `silent` names the modules that returned no tensor, and says what they did instead; `outputs`
    are the values that the network returned, and `shapes` theirs, by their names ("" for a tensor
    alone); `batch` is the number of images in it; `names` are those of parameters, by value.
    """

    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    source: int
    silent: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    batch: int = 1
    names: dict[int, str] = field(default_factory=dict)

    def place(self, number: int, output: int = 0, **laid_out: Any) -> Place:
        """Return the place of an operation's output."""
        op = self.ops[number]
        alike = [(one.module, one.name) == (op.module, op.name) for one in self.ops[:number]]
        return Place(
            op=number, op_name=op.name, output=output, module=op.module, nth=sum(alike), **laid_out
        )

    def leading_to(self, value: int) -> set[int]:
        """Return the value, and all that it was computed from."""
        found = {value}
        for op in reversed(self.ops):
            if not found.isdisjoint(op.outputs):
                found.update(op.inputs)
        return found


@dataclass(frozen=True)
class Place:
    """A point of the forward pass whose value can be read.

    Either the output of a module's `call`-th call (`path` given), or of the `op`-th operation,
    for values that no module returns (a functional rectifier). A `vector` (N, C) is read as maps
    of one position, (N, C, 1, 1). Of `tokens` (N, T, C), those that stand for positions are read as
    maps; of a `vector` of `tokens`, the class token. How many operations there are depends on the
    number of images (PyTorch lays values out anew, or has no need to); the operation is the
    `nth` of its name in its `module`, where these are known (not -1).
    """

    path: str = ""
    call: int = 0
    op: int = -1
    op_name: str = ""
    output: int = 0
    channels_last: bool = False
    vector: bool = False
    tokens: Grid | None = None
    module: str = ""
    nth: int = -1

    @property
    def key(self) -> str:
        """Equal keys, same place: what a store and a workspace remember."""
        key = (
            f"op {self.op} {self.op_name}.{self.output}"
            if self.op >= 0
            else f"{self.path}#{self.call}"
        )
        return f"{key}:cls" if self.tokens and self.vector else key

    def as_maps(self, value: Tensor) -> Tensor:
        """Return what stands here as (N, C, H, W), however the network laid it out.

        Every reader and every gradient goes through here; of a gradient by the value it gives the
        gradient by the maps.
        """
        if self.tokens is not None:
            if self.vector:
                return self.tokens.class_token(value)[:, :, None, None]
            return self.tokens.as_maps(value)
        if self.vector:
            return value[:, :, None, None]
        return value.permute(0, 3, 1, 2) if self.channels_last else value

    def laid_out(self, maps: Tensor, like: Tensor) -> Tensor:
        """Return maps (N, C, H, W) as the network laid out `like`; the rest of it is 0."""
        with torch.enable_grad():
            value = torch.zeros_like(like).requires_grad_()
            (found,) = torch.autograd.grad(self.as_maps(value), value, maps.to(like))
        return found


def trace(net: nn.Module, x: Tensor) -> Trace:
    """Run `net` once on `x` (N, C, H, W) and write down what happens.

    Raises
    ------
    CnnlensError
        When the network does not accept the input.
    """
    check_weights(net)
    recorder = _Recorder(net)
    x = as_input(net, x)
    source = recorder.number(x)
    with explained(net, x), torch.no_grad(), recorder.listening(), recorder:
        output = net(x)
    named = named_tensors(output)
    return Trace(
        tuple(recorder.ops),
        tuple(recorder.calls),
        source,
        recorder.silent(),
        {name: recorder.number(one) for name, one in named.items()},
        {name: tuple(one.shape) for name, one in named.items()},
        len(x),
        recorder.names(),
    )


@contextmanager
def hooked(after: Hooks, before: Hooks = ()) -> Iterator[set[nn.Module]]:
    """Have hooks called after and before modules' forward passes, until the block ends.

    Passes of other threads are somebody else's: a set, which is yielded, has the modules that ran
    there and that hooks are called after. Among them are modules that a network itself runs in
    threads of its own (DataParallel on several devices).
    """
    elsewhere: set[nn.Module] = set()
    handles = [m.register_forward_pre_hook(_of_this_thread(m, hook, set())) for m, hook in before]
    handles += [m.register_forward_hook(_of_this_thread(m, hook, elsewhere)) for m, hook in after]
    try:
        yield elsewhere
    finally:
        for handle in handles:
            handle.remove()


def _of_this_thread(
    module: nn.Module, hook: Callable[..., Any], elsewhere: set[nn.Module]
) -> Callable[..., Any]:
    own = get_ident()

    def heard(*given: Any) -> Any:
        if get_ident() == own:
            return hook(*given)
        elsewhere.add(module)
        return None

    return heard


def as_input(net: nn.Module, x: Tensor) -> Tensor:
    """Return `x` in the number type that a network computes in: that of its first weights."""
    tensors = itertools.chain(net.parameters(), net.buffers())
    dtype = next((t.dtype for t in tensors if t.dtype in _COMPUTED), x.dtype)
    return x.to(dtype) if x.is_floating_point() else x


class _Recorder(DispatchMode):
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
        self._elsewhere: set[nn.Module] = set()

    def silent(self) -> dict[str, str]:
        """Modules that returned no tensor."""
        spoken = {call.path for call in self.calls}
        modules = self._net.named_modules()
        return {p: self._why(p, module) for p, module in modules if p and p not in spoken}

    def _why(self, path: str, module: nn.Module) -> str:
        if path in self._returned:
            return f"returns no tensor but {self._returned[path]}"
        if module in self._elsewhere:
            return "is run in a thread of its own, where nothing can be read"
        return "is not run when the network classifies"

    def names(self) -> dict[int, str]:
        """Names of the parameters that were read."""
        known = self._net.named_parameters()
        return {self._numbers[p]: name for name, p in known if p in self._numbers}

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
        given = tensors((args, kwargs))
        inputs, read = tuple(self.number(t) for t in given), tuple(tuple(t.shape) for t in given)
        result = func(*args, **kwargs)
        made = tensors(result)
        outputs = tuple(self._renumber(t) for t in made)
        self.ops.append(
            Op(
                name=(name := op_name(func, args)),
                inputs=inputs,
                outputs=outputs,
                shapes=tuple(tuple(t.shape) for t in made),
                read=read,
                arguments=tuple(None if isinstance(a, Tensor) else a for a in args),
                kernel=tuple(args[1].shape[2:]) if name == "convolution" else (),
                module=self._running[-1] if self._running else "",
            )
        )
        return result

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Follow which module runs, by hooks that are gone when the block ends."""
        modules = list(self._net.named_modules())
        before = [(module, self._entering(path)) for path, module in modules]
        after = [(module, self._leaving(path)) for path, module in modules]
        with hooked(after, before) as self._elsewhere:
            yield

    def _entering(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            check_dimensions(path, module, args)
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


def tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in nested arguments or results, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _kind(module: nn.Module) -> str:
    # an exported program's modules are all interpreters; the type they had survives beside them
    return str(getattr(module, "_ty", None) or type(module).__name__).rpartition(".")[2]

"""Where a network runs, in batches that memory allows, and how a caller's module is given back."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from cnnlens.errors import CnnlensError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cnnlens.model.model import Model

Result = TypeVar("Result")


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda[:N]`` or ``mps`` into a device that exists here.

    Raises
    ------
    UsageError
        When the name is no device.
    CnnlensError
        When this machine has none of that kind.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device '{name}'", "choose auto, cpu, cuda[:N] or mps") from None
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps" and not _mps():
        raise _not_here(device)
    elif device.type not in ("cpu", "mps"):
        raise UsageError(f"no device '{name}'", "choose auto, cpu, cuda[:N] or mps")
    return device


def _not_here(device: torch.device) -> CnnlensError:
    """The words were right, and the machine is another: a script may go on elsewhere."""
    said = f"device '{device}' is not available on this machine"
    return CnnlensError(said, "use --device auto")


def _mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def _check_cuda(device: torch.device) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise _not_here(device)
    if device.index is not None and device.index >= count:
        raise UsageError(
            f"device '{device}' does not exist: this machine has {count}",
            f"choose cuda:0 to cuda:{count - 1}",
        )


def in_batches(
    count: int,
    limit: int,
    run: Callable[[slice], Result],
    model: Model,
    before_retry: Callable[[slice], None] | None = None,
) -> tuple[list[Result], int]:
    """Run `count` rows, at most `limit` at once; half as many whenever memory runs out.

    Parameters
    ----------
    count, limit : int
        Rows in all; rows at once.
    run : callable
        From a slice of the rows to its result.
    model : Model
        Says where, and whether it takes one size of batch only.
    before_retry : callable, optional
        Undoes what a run that failed has left, given its slice: lets go of tensors, sets random
        states back.

    Returns
    -------
    (list, int)
        The results in order, and the limit that served.

    Raises
    ------
    CnnlensError
        When memory does not suffice for one row, or for the only batch that the network takes.
    """
    parts: list[Result] = []
    start = 0
    while start < count:
        rows = slice(start, start + limit)
        try:
            parts.append(run(rows))
            start += limit
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_memory_error(error):
                raise
            if limit == 1 or model.batch:
                raise _no_memory(model) from error
        # only here, when the error is gone and with it the frames that held the tensors
        limit = max(1, limit // 2)
        if before_retry is not None:
            before_retry(rows)
        free_memory()
    return parts, limit


def _no_memory(model: Model) -> CnnlensError:
    what = f"its fixed batch of {model.batch}" if model.batch else "even one image"
    return CnnlensError(
        f"not enough memory on {model.device} for {what}",
        "use --device cpu, a smaller --image-size, or close what else uses the memory",
    )


def free_memory() -> None:
    """Give back to the device what nothing refers to any more."""
    import torch

    gc.collect()  # frames of an error may stand in a circle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_memory_error(error: BaseException) -> bool:
    """Whether a device or the machine ran out of memory: with less at once it may still work."""
    import torch

    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


@contextmanager
def borrowed(net: nn.Module, device: torch.device | str | None = None) -> Iterator[nn.Module]:
    """Use a caller's module: in evaluation mode, frozen, on a device; then put everything back.

    Back go, also after an error or when a generator is abandoned: the mode of every submodule,
    `requires_grad` and `grad` of every parameter, devices, hooks, buffers, submodules that were
    replaced or compiled, and the global random states of torch, NumPy and Python. Weights are not
    copied: nothing changes them while they are frozen. A module may be borrowed several times at
    once; the last to let go puts it back. Whoever trains it, or gives it other weights, while a
    generator stands still, has taken it back: weights, gradients and buffers stay as they are then.

    Parameters
    ----------
    net : torch.nn.Module
        Whatever state it is in.
    device : device, optional
        Where to run; by default it stays where it is.
    """
    from cnnlens.model.uncompiled import eagerly

    with _lending:  # threads borrow one after the other
        if net not in _loans:
            _loans[net] = _Loan(net)
        loan = _loans[net]
        loan.borrowers += 1
    try:
        with _lending:
            loan.lend(net, device)
        with eagerly():
            yield net
    finally:
        with _lending:
            loan.borrowers -= 1
            if not loan.borrowers:
                del _loans[net]
                loan.put_back()


class _Loan:
    """A module as it was, and how many have it."""

    def __init__(self, net: nn.Module) -> None:
        import torch

        from cnnlens.model.uncompiled import take_apart

        self.borrowers = 0
        self._modules = [(module, module.training, _tables(module)) for module in net.modules()]
        self._parameters = [
            (p, p.data, p.requires_grad, p.grad, None if p.grad is None else p.grad.data)
            for p in net.parameters()
        ]
        with torch.no_grad():
            self._buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
        self._taken = take_apart(net)
        self._random = _random_states()
        self._lent: list[int] | None = None

    def lend(self, net: nn.Module, device: torch.device | str | None) -> None:
        """Make it ready for the first who has it, and remember the weights as they are lent:
        nothing here changes them.
        """
        if self._lent is not None:
            return
        net.eval().requires_grad_(False)
        if device is not None:
            net.to(device)
        self._lent = self._versions()

    def _versions(self) -> list[int]:
        return [p._version for p, *_ in self._parameters if not p.is_inference()]

    def put_back(self) -> None:
        import torch

        from cnnlens.model.uncompiled import put_together

        trains = self._modules[0][0].training
        taken = trains or self._versions() != self._lent
        for module, training, tables in self._modules:
            module.training = module.training if trains else training
            for name, table in tables.items():
                current = vars(module)[name]
                current.clear()
                current.update(table)
        put_together(self._taken)
        # what was made in inference mode is put back in it
        inference = any(p.is_inference() for p, *_ in self._parameters)
        inference |= any(buffer.is_inference() for buffer, _ in self._buffers)
        with torch.inference_mode() if inference else torch.no_grad():
            if taken:
                self._give_back()
            else:
                self._put_back_tensors()
        if not taken:
            _set_random_states(self._random)

    def _give_back(self) -> None:
        """Leave what its owner has made of it meanwhile, where it was."""
        for parameter, data, needs, *_ in self._parameters:
            parameter.data = parameter.data.to(data)
            parameter.requires_grad_(parameter.requires_grad or needs)

    def _put_back_tensors(self) -> None:
        import torch

        for parameter, data, needs, gradient, values in self._parameters:
            parameter.grad = None  # of another type or device, it would be in the way
            parameter.data = data
            parameter.requires_grad_(needs)
            if gradient is not None and values is not None:
                gradient.data = values
                parameter.grad = gradient
        for buffer, value in self._buffers:
            if not torch.equal(buffer, value):  # else what was computed with it can go on
                buffer.copy_(value)


_lending = RLock()
# modules in use, and what they were before
_loans: WeakKeyDictionary[nn.Module, _Loan] = WeakKeyDictionary()


def _tables(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """What a module keeps in dicts: parameters, buffers, submodules and all kinds of hooks."""
    kept = {"_parameters", "_buffers", "_modules"}
    return {
        name: dict(value)
        for name, value in vars(module).items()
        if isinstance(value, dict) and (name in kept or "_hooks" in name)
    }


@contextmanager
def random_states() -> Iterator[None]:
    """Leave the global random states of torch, NumPy and Python as they were before the block."""
    states = _random_states()
    try:
        yield
    finally:
        _set_random_states(states)


def _random_states() -> tuple[Any, ...]:
    import numpy as np
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _set_random_states(states: tuple[Any, ...]) -> None:
    import numpy as np
    import torch

    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)


@contextmanager
def own_threads() -> Iterator[None]:
    """Leave torch as many threads as it had: UMAP sets how many the process has."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """On so small a network several threads only wait for each other, on busy cores for long."""
    import torch

    with own_threads():
        torch.set_num_threads(1)
        yield

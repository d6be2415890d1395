"""How a caller's module is used and given back as it was, and random states with it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch
    from torch import nn


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

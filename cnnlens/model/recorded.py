"""A forward pass, written down from a value on, so that it can be done again with another there.

Written down are operations, below the module system. Tensors are told by their storage, since a
view, or what is written in place, reaches all that share it; how an operand lies in its storage is
noted, so that views need no doing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

from cnnlens.model.dispatch import DispatchMode
from cnnlens.model.trace import tensors


class Unrepeatable(BaseException):
    """The pass depends on values in a way that is not written down."""


@dataclass(frozen=True)
class View:
    """How an operand lies in a storage that is made anew in every repetition."""

    slot: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype

    def of(self, base: Tensor) -> Tensor:
        """Find it in a tensor of its slot."""
        if (
            base.shape == self.size
            and base.stride() == self.stride
            and base.storage_offset() == self.offset
            and base.dtype == self.dtype
        ):
            return base
        found = torch.empty(0, dtype=self.dtype, device=base.device)
        return found.set_(base.untyped_storage(), self.offset, self.size, self.stride)


@dataclass
class Step:
    """One operation to repeat; `holes` say where in its arguments views of slots belong."""

    func: Any
    args: list[Any]
    kwargs: dict[str, Any]
    holes: list[tuple[Any, Any, View]]
    made: list[tuple[int, int]]  # place among the results, slot
    begun: list[tuple[int, Tensor]] = field(default_factory=list)  # slot, what stood in it before
    written: set[int] = field(default_factory=set)  # slots
    done: list[int] = field(default_factory=list)  # slots that nothing needs any more

    @property
    def read(self) -> set[int]:
        """Slots that it reads or writes."""
        return {view.slot for _, _, view in self.holes}

    @property
    def changed(self) -> set[int]:
        """Slots that hold something else after it."""
        return {slot for _, slot in self.made} | self.written

    def run(self, slots: list[Tensor | None]) -> None:
        """Do it again."""
        for slot, before in self.begun:
            slots[slot] = before.clone()
        for holder, key, view in self.holes:
            base = slots[view.slot]
            assert base is not None
            holder[key] = view.of(base)
        result = self.func(*self.args, **self.kwargs)
        for holder, key, _ in self.holes:
            holder[key] = None
        if self.made:
            found = [result] if isinstance(result, Tensor) else tensors(result)
            for place, slot in self.made:
                slots[slot] = found[place]
        for slot in self.done:
            slots[slot] = None


class Recorder(DispatchMode):
    """Writes down what is computed from a value, once it is `begun`."""

    def __init__(self, copied: set[tuple[int, int]]) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.slots: dict[int, int] = {}  # storage: number
        self._kept: list[StorageWeakRef] = []  # so that no address is given again
        self._copied = copied  # operands that the pass overwrites later
        self._constants: list[tuple[tuple[int, int], Tensor, int]] = []

    def begin(self, value: Tensor) -> None:
        """Follow what is computed from a value."""
        self._slot(value)

    def view(self, tensor: Tensor) -> View | None:
        """Say how a tensor lies in a storage that is followed; None in any other."""
        slot = self.slots.get(tensor.untyped_storage()._cdata)
        if slot is None:
            return None
        if tensor.is_conj() or tensor.is_neg():
            raise Unrepeatable
        size, stride = tuple(tensor.shape), tuple(tensor.stride())
        return View(slot, size, stride, int(tensor.storage_offset()), tensor.dtype)

    def overwritten(self) -> set[tuple[int, int]]:
        """Operands from before the place that are no longer what they were when they were read."""
        return {at for at, one, version in self._constants if one._version != version}

    def _slot(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.slots:
            self.slots[storage._cdata] = len(self.slots)
            self._kept.append(StorageWeakRef(storage))
        return self.slots[storage._cdata]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs)) if self.slots else []
        if all(self.view(one) is None for one in given):
            return func(*args, **kwargs)
        _check_repeatable(func)
        step = Step(func, list(args), dict(kwargs), [], [])
        with _disable_current_modes():
            written = _written(func, args, kwargs)
            for one in written:
                if self.view(one) is None:  # as it stands before values of ours get into it
                    step.begun.append((self._slot(one), _whole(one).clone()))
            self._fill(step, step.args)
            self._fill(step, step.kwargs)
            step.written = {self._slot(one) for one in written}
        result = func(*args, **kwargs)
        for place, one in enumerate([result] if isinstance(result, Tensor) else tensors(result)):
            if self.view(one) is None:
                step.made.append((place, self._slot(one)))
        if step.made or step.written:  # a view alone needs no doing
            self.steps.append(step)
        return result

    def _fill(self, step: Step, holder: Any) -> None:
        """Leave holes for what changes, keep what does not."""
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, (list, tuple)) and tensors(value):
                holder[key] = list(value)
                self._fill(step, holder[key])
            elif isinstance(value, Tensor):
                if (view := self.view(value)) is not None:
                    step.holes.append((holder, key, view))
                    holder[key] = None
                    continue
                at = len(self.steps), len(self._constants)
                self._constants.append((at, value, value._version))
                holder[key] = value.clone() if at in self._copied else value


def _check_repeatable(func: Any) -> None:
    told = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    if not told.isdisjoint(func.tags) or func.overloadpacket.__name__ in ("resize_", "set_"):
        raise Unrepeatable


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Tensors that an operation writes into."""
    found: list[Tensor] = []
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            found += tensors(value)
    return found


def _whole(tensor: Tensor) -> Tensor:
    """All that a tensor's storage holds, as one row."""
    storage = tensor.untyped_storage()
    count = storage.nbytes() // tensor.element_size()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage, 0, (count,), (1,))


def needed_for(steps: Sequence[Step], last: int) -> list[Step]:
    """Keep what a slot's value depends on, and say where each slot is needed last."""
    needed, kept = {last}, []
    for step in reversed(steps):
        if not needed.isdisjoint(step.changed):
            step.done = [slot for slot in step.read | step.changed if slot not in needed]
            needed |= step.read
            kept.append(step)
    return kept[::-1]

"""A forward pass that goes on behind a place, as often as wanted: what lies before is run once.

    restart = Restart(model, layer.place, x)        # (N, …), normalized
    restart.maps[:, 12] = 0                         # what stands there, as (N, C, H, W)
    restart.scores()                                # (N, K)

The pass is written down below the module system, operation by operation, from the place on. Only
operations that the place leads to are done again, and of those only what the class scores need; all
else is taken from the pass that was written down. So skip connections, branches, functional
operations and outputs of any form are alike. Tensors are told by their storage, since a view, or
what is written in place, reaches all that share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_scores
from cnnlens.model.hooks import swapping
from cnnlens.model.model import Model
from cnnlens.model.trace import Place, as_input, tensors

CLOSE = 1e-4  # of the scores' range: as far as a pass and its repetition may lie apart


class _Unrepeatable(BaseException):
    """The pass depends on values in a way that is not written down."""


@dataclass(frozen=True)
class _View:
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
class _Step:
    """One operation to repeat; `holes` say where in its arguments views of slots belong."""

    func: Any
    args: list[Any]
    kwargs: dict[str, Any]
    holes: list[tuple[Any, Any, _View]]
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


class _Recorder(TorchDispatchMode):
    """Writes down what is computed from a value, once it is `begun`."""

    def __init__(self, copied: set[tuple[int, int]]) -> None:
        super().__init__()
        self.steps: list[_Step] = []
        self.slots: dict[int, int] = {}  # storage: number
        self._kept: list[StorageWeakRef] = []  # so that no address is given again
        self._copied = copied  # operands that the pass overwrites later
        self._constants: list[tuple[tuple[int, int], Tensor, int]] = []

    def begin(self, value: Tensor) -> None:
        """Follow what is computed from a value."""
        self._slot(value)

    def view(self, tensor: Tensor) -> _View | None:
        """Say how a tensor lies in a storage that is followed; None in any other."""
        slot = self.slots.get(tensor.untyped_storage()._cdata)
        if slot is None:
            return None
        if tensor.is_conj() or tensor.is_neg():
            raise _Unrepeatable
        size, stride = tuple(tensor.shape), tuple(tensor.stride())
        return _View(slot, size, stride, int(tensor.storage_offset()), tensor.dtype)

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
        step = _Step(func, list(args), dict(kwargs), [], [])
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

    def _fill(self, step: _Step, holder: Any) -> None:
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
        raise _Unrepeatable


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


class Restart:
    """A forward pass that was run once, and can go on from a place again.

    Parameters
    ----------
    model : Model
        The network.
    place : Place
        Where values are changed.
    x : torch.Tensor
        (N, …) normalized, on the network's device.
    whole : bool
        Whether every pass is run from its beginning all the same.

    Attributes
    ----------
    maps : torch.Tensor
        (N, C, H, W) what stands at the place, a view: what is written into it counts for the next
        `scores`, and stays.
    first : torch.Tensor
        (N, K) the class scores with all as it is.
    is_whole : bool
        Whether passes are run from their beginning: as was asked, or since this one depends on its
        values in a way that cannot be written down.

    Raises
    ------
    CnnlensError
        When the place is never reached, its values cannot be changed, the network gives no class
        scores, or these do not depend on the place.
    """

    def __init__(self, model: Model, place: Place, x: Tensor, whole: bool = False) -> None:
        self._model, self._place, self._x = model, place, as_input(model.net, x)
        self.is_whole = whole
        self._steps: list[_Step] = []
        if not whole:
            try:
                self._record()
            except (_Unrepeatable, NotImplementedError, RuntimeError) as error:
                if "out of memory" in str(error):
                    raise
                self.is_whole = True
        if self.is_whole:
            self.first = self._pass(None)
        self.maps = place.as_maps(self._value)
        if self.maps.untyped_storage()._cdata != self._value.untyped_storage()._cdata:
            raise CnnlensError(f"the units of {place.path or place.module} cannot be changed")

    def scores(self) -> Tensor:
        """Run on from the place with `maps` as they are now, and return the scores (N, K)."""
        with torch.no_grad():
            return self._pass(self._value) if self.is_whole else self._repeat()

    # ---- from the beginning

    def _pass(self, value: Tensor | None) -> Tensor:
        """Run the whole pass with another value at the place; None: with its own, which is kept."""
        with torch.no_grad(), _changed(self._model, self._place, value) as seen:
            scores = class_scores(self._model.net(self._x), len(self._x), self._model.head)
        if not seen:
            raise CnnlensError(f"the forward pass never reached {self._place.path}")
        if value is None:
            self._value = seen[0]
        return scores

    # ---- from the place on

    def _record(self) -> None:
        copied: set[tuple[int, int]] = set()
        for _ in range(2):  # what is overwritten is known when the pass is over
            recorder = _Recorder(copied)
            self._value, self.first, last = self._recorded(recorder)
            if not (copied := recorder.overwritten()):
                break
        if last is None:
            raise _apart(self._place)
        self._steps, self._last = _needed(recorder.steps, last.slot), last
        self._slots: list[Tensor | None] = [None] * len(recorder.slots)
        self._writes = any(0 in step.written for step in self._steps)

    def _recorded(self, recorder: _Recorder) -> tuple[Tensor, Tensor, _View | None]:
        value: list[Tensor] = []

        def begin(found: Tensor) -> Tensor:
            with _disable_current_modes():
                value.append(found.clone())
                fresh = found.clone()
            recorder.begin(fresh)
            return fresh

        model = self._model
        with torch.no_grad(), recorder, swapping(model.net, self._place, begin):
            scores = class_scores(model.net(self._x), len(self._x), model.head)
        if not value:
            raise CnnlensError(f"the forward pass never reached {self._place.path}")
        return value[0], scores.clone(), recorder.view(scores)

    def _repeat(self) -> Tensor:
        slots = self._slots
        slots[0] = self._value.clone() if self._writes else self._value
        for step in self._steps:
            step.run(slots)
        last = slots[self._last.slot]
        assert last is not None
        found = self._last.of(last)
        slots[:] = [None] * len(slots)
        return found.clone() if last is self._value else found


def _apart(place: Place) -> CnnlensError:
    where = place.path or f"{place.op_name} in {place.module or 'the network'}"
    return CnnlensError(
        f"the class scores do not depend on {where}", "name a layer on the way to the classes"
    )


def _needed(steps: Sequence[_Step], last: int) -> list[_Step]:
    """Keep what a slot's value depends on, and say where each slot is needed last."""
    needed, kept = {last}, []
    for step in reversed(steps):
        if not needed.isdisjoint(step.changed):
            step.done = [slot for slot in step.read | step.changed if slot not in needed]
            needed |= step.read
            kept.append(step)
    return kept[::-1]


@contextmanager
def _changed(model: Model, place: Place, value: Tensor | None) -> Iterator[list[Tensor]]:
    """Have another value stand at a place; yield what stood there."""
    seen: list[Tensor] = []

    def swap(found: Tensor) -> Tensor:
        with _disable_current_modes():
            seen.append(found.clone())
            return found.clone() if value is None else value.clone()

    with swapping(model.net, place, swap):
        yield seen


def is_repeatable(restart: Restart, whole: Restart) -> bool:
    """Whether a pass from the place on gives what the whole pass does, with other values there.

    Both are of the same images; their maps are as they were afterwards.
    """
    kept = restart.maps.clone()
    factors = torch.rand(kept.shape, generator=torch.Generator().manual_seed(0)).to(kept)
    for one in (restart, whole):
        one.maps.copy_(kept * 2 * factors)
    mine, theirs = restart.scores(), whole.scores()
    for one in (restart, whole):
        one.maps.copy_(kept)
    apart = (mine - theirs).abs().max()
    return bool(apart <= CLOSE * (theirs.max() - theirs.min()).clamp_min(1e-6))

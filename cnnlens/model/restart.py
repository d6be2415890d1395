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

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_scores
from cnnlens.model.hooks import placing_hooks, swapping
from cnnlens.model.model import Model
from cnnlens.model.recorded import Recorder, Step, Unrepeatable, View, needed_for
from cnnlens.model.trace import Place, as_input

CLOSE = 1e-4  # of the scores' range: as far as a pass and its repetition may lie apart


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
    scores_at : Place, optional
        Where the class scores are; left out: what the network returns.
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

    def __init__(
        self,
        model: Model,
        place: Place,
        x: Tensor,
        scores_at: Place | None = None,
        whole: bool = False,
    ) -> None:
        self._model, self._place, self._x = model, place, as_input(model.net, x)
        self._scores_at = scores_at
        self.is_whole = whole
        self._steps: list[Step] = []
        if not whole:
            try:
                self._record()
            except (Unrepeatable, NotImplementedError, RuntimeError) as error:
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

    def _run(self) -> Tensor:
        """Run the network, and find the scores (N, K) of it."""
        net, count, seen = self._model.net, len(self._x), list[Tensor]()
        places = {self._scores_at} if self._scores_at else set()
        with placing_hooks(net, places, lambda _, value: seen.append(value)):
            output = net(self._x)
        if seen:
            return seen[0].reshape(count, -1).float().detach()
        return class_scores(output, count, self._model.head).detach()

    # ---- from the beginning

    def _pass(self, value: Tensor | None) -> Tensor:
        """Run the whole pass with another value at the place; None: with its own, which is kept."""
        with torch.no_grad(), _changed(self._model, self._place, value) as seen:
            scores = self._run()
        if not seen:
            raise CnnlensError(f"the forward pass never reached {self._place.path}")
        if value is None:
            self._value = seen[0]
        return scores

    # ---- from the place on

    def _record(self) -> None:
        copied: set[tuple[int, int]] = set()
        for _ in range(2):  # what is overwritten is known when the pass is over
            recorder = Recorder(copied)
            self._value, self.first, last = self._recorded(recorder)
            if not (copied := recorder.overwritten()):
                break
        if last is None:
            raise apart(self._place)
        self._steps, self._last = needed_for(recorder.steps, last.slot), last
        self._slots: list[Tensor | None] = [None] * len(recorder.slots)
        self._writes = any(0 in step.written for step in self._steps)

    def _recorded(self, recorder: Recorder) -> tuple[Tensor, Tensor, View | None]:
        value: list[Tensor] = []

        def begin(found: Tensor) -> Tensor:
            with _disable_current_modes():
                value.append(found.clone())
                fresh = found.clone()
            recorder.begin(fresh)
            return fresh

        with torch.no_grad(), recorder, swapping(self._model.net, self._place, begin):
            scores = self._run()
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


def apart(place: Place) -> CnnlensError:
    """Say that a place is not on the way to the classes."""
    return CnnlensError(
        f"the class scores do not depend on {named_place(place)}",
        "name a layer on the way to the classes",
    )


def named_place(place: Place) -> str:
    """Name a place for people."""
    return place.path or f"{place.op_name} in {place.module or 'the network'}"


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
    off = (mine - theirs).abs().max()
    return bool(off <= CLOSE * (theirs.max() - theirs.min()).clamp_min(1e-6))

"""What a network makes of its class scores in the end: a softmax, a sigmoid, or nothing.

    scores = before_link(scores, link_of(model, scores))   # as of a network that ends without one

Class scores are compared, averaged and differentiated before it; probabilities are what is behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import scores_on_black
from cnnlens.model.model import Model
from cnnlens.model.outputs import choose, one_of
from cnnlens.model.trace import Op, Place, Trace, trace

VIEWS = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "squeeze", "unsqueeze"),
    *("clone", "alias", "contiguous", "detach", "dropout", "expand", "permute", "transpose"),
    *("_to_copy", "lift_fresh", "as_strided"),
}
_CLAMPS = {"clamp", "clamp_min", "clamp_max"}  # of probabilities, away from 0 and 1
SIGMOID, SOFTMAX = "sigmoid", "softmax"
_LINKS = {"_softmax", "_log_softmax", SOFTMAX, "log_softmax", SIGMOID}
# beside 0 and 1, which have no finite score; of float32
_LEAST, _MOST = 2.0**-126, 1 - 2.0**-24
_ROWS = 4096  # of scores that are brought back at once


class Ending:
    """The end of a traced network.

    Parameters
    ----------
    passed : Trace
        One forward pass.
    source_shape : tuple of int
        Shape of the input.
    head : str, optional
        Which of several outputs holds the scores (see `outputs.choose`).

    Attributes
    ----------
    link : str
        "softmax", "log_softmax", "sigmoid"; "" where it returns the scores themselves.
    scores : int
        The value that holds the scores before it.
    """

    def __init__(
        self, passed: Trace, source_shape: tuple[int, ...], head: str | None = None
    ) -> None:
        self.passed, self._head = passed, head
        self._maker = {v: n for n, op in enumerate(passed.ops) for v in op.outputs}
        self._shapes = {passed.source: tuple(source_shape)}
        for op in passed.ops:
            self._shapes.update(zip(op.outputs, op.shapes, strict=True))
        self.link, self.scores = self._scores()

    def shape(self, value: int) -> tuple[int, ...]:
        """Shape of a value; () where it was not made in the pass (a weight)."""
        return self._shapes.get(value, ())

    def _scores(self) -> tuple[str, int]:
        output = value = self._output()
        while (op := self._made_by(value)) is not None and op.name in VIEWS | _CLAMPS:
            value = op.inputs[0]
        if op is not None and op.name in _LINKS:
            return op.name.strip("_"), op.inputs[0]
        return "", output

    def _output(self) -> int:
        chosen = choose(self.passed.shapes, self.passed.batch, self._head)
        if chosen is not None:
            return self.passed.outputs[chosen]
        flat = [op.outputs[0] for op in self.passed.ops if op.shapes and len(op.shapes[0]) == 2]
        return flat[-1] if flat else self.passed.source

    def _made_by(self, value: int) -> Op | None:
        number = self._maker.get(value)
        return None if number is None else self.passed.ops[number]

    def _under_views(self, value: int) -> int:
        while (op := self._made_by(value)) is not None and op.name in VIEWS:
            value = op.inputs[0]
        return value

    def score_place(self) -> Place | None:
        """Where the scores can be read; None where the network returns them itself."""
        if not self.link:
            return None
        return self.passed.place(self._maker[self.scores])


def ending(model: Model, x: Tensor | None = None) -> Ending:
    """Look at the end of a network, in one forward pass; of `x` (N, C, H, W) as it is fed."""
    x = model.example() if x is None else x
    with model.in_use():
        return Ending(trace(model.net, x), tuple(x.shape), model.head)


# ---- scores and probabilities


def link_of(model: Model, scores: np.ndarray, x: Tensor | None = None) -> str:
    """Say what a network's `scores` (N, K) have gone through (`Ending.link`).

    Only those that may be probabilities are worth the forward pass that tells, on `x` where the
    network is not fed as it is assumed to be.
    """
    return ending(model, x).link if may_be_probabilities(scores) else ""


def may_be_probabilities(scores: np.ndarray) -> bool:
    """Whether all of some scores lie between 0 and 1."""
    return bool(scores.min(initial=0) >= 0 and scores.max(initial=0) <= 1)


def before_link(scores: np.ndarray, link: str) -> np.ndarray:
    """Bring scores back that went through a sigmoid, as far as their numbers tell them apart.

    Parameters
    ----------
    scores : numpy.ndarray
        (N, K) as the network returns them.
    link : str
        Of these: see `link_of`.

    Returns
    -------
    numpy.ndarray
        (N, K): what is above 0 is more likely than not. What went through a softmax stays: its
        order is that of the scores, and `classes.before_softmax` finds it by its sums.
    """
    if link != SIGMOID:
        return scores
    found = np.empty(scores.shape, np.result_type(scores.dtype, np.float32))
    for start in range(0, len(scores), _ROWS):  # in double precision, of some at a time
        part = torch.from_numpy(scores[start : start + _ROWS].astype(np.float64))
        found[start : start + _ROWS] = without_link(part, link).numpy()
    return found


def without_link(output: Tensor, link: str) -> Tensor:
    """Give scores (N, K) whose softmax or sigmoid, the `link`, an output is."""
    if link == SIGMOID:
        return output.clamp(min=_LEAST).log() - (-output.clamp(max=_MOST)).log1p()
    return output.clamp(min=_LEAST).log() if link == SOFTMAX else output


class _Heard(TorchFunctionMode):
    """Keeps what calls of a `link` were given, and what they gave: those that gave a row per image
    (an auxiliary head's may follow), and the last one.
    """

    def __init__(self, link: str) -> None:
        super().__init__()
        self.link = link
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") == self.link:
            if self.calls and math.prod(self.calls[-1][1].shape[2:]) > 1:
                self.calls.pop()  # of attention, of maps: they are large
            self.calls.append((args[0] if args else kwargs["input"], result))
        return result

    def before(self, output: Tensor) -> Tensor | None:
        """The scores behind an output, where it is just what a call gave, or a view of it.

        Another call, of a gate, gave something else. Nothing is asked of the device.
        """
        for given, gave in reversed(self.calls):
            same = gave.numel() == output.numel() and gave.data_ptr() == output.data_ptr()
            if same and gave.is_contiguous() and output.is_contiguous():
                return given.reshape(output.shape)
        return None


def run_before_link(net: nn.Module, x: Tensor, link: str, name: str = "") -> Tensor:
    """Run a network that ends with a `link`; its scores (N, K) before that, for gradients exactly
    those of the network without it: a probability of 1 has none.

    They are the output of that `name`, where it returns several.
    """
    if link not in (SOFTMAX, SIGMOID):
        return one_of(net(x), name)
    with _Heard(link) as heard:
        output = one_of(net(x), name)
    found = heard.before(output)
    return without_link(output.float(), link) if found is None else found


def before_sigmoid(model: Model) -> Place | None:
    """Find where class scores are before the sigmoid that a network ends with; None for none.

    They tell apart what is certain: in float32 the sigmoid of a score above 17 is 1.
    """
    try:
        scores = scores_on_black(model)
    except CnnlensError:  # it gives none
        return None
    end = ending(model) if may_be_probabilities(scores.cpu().numpy()) else None
    return end.score_place() if end and end.link == SIGMOID else None


def link_mark(model: Model, *links: str) -> dict[str, Any]:
    """Give what keys of probabilities hold besides: which of some `links` a network ends with."""
    try:
        scores = scores_on_black(model)
    except CnnlensError:  # it gives none
        return {}
    link = link_of(model, scores.cpu().numpy())
    return {"link": link} if link in links else {}


def probabilities(scores: Tensor, link: str) -> Tensor:
    """Give the probabilities (N, K) of scores (N, K) before a `link`: several classes of one image
    where that is a sigmoid, else one of all.
    """
    return scores.sigmoid() if link == SIGMOID else torch.softmax(scores, 1)

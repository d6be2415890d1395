"""The smallest change of an image that a network answers otherwise.

DeepFool steps to the nearest of the boundaries, each taken as flat where the image stands, until
the answer changes. Along the change it found, bisection then leads down to the boundary itself; and
as the boundary is not flat, the foot of the perpendicular on its tangent there is nearer still,
again and again. Every picture on the way has its values in [0, 1].

References
----------
S. Moosavi-Dezfooli, A. Fawzi, P. Frossard: DeepFool: a simple and accurate method to fool deep
neural networks. CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cnnlens.model.gradients import slope_of, with_gradients
from cnnlens.model.streams import exact
from cnnlens.synthesize.answers import Answers, numbers

OVERSHOOT = 0.02
_CANDIDATES = 10  # classes that are tried, by score: the others lie further away
_HALVINGS = 10  # of the way to the boundary
_LONGEST = 2.0  # how much further than the boundary it came from a foot is looked for
_GROWTH = 1.06
_TINY = 1e-12


class Aim(NamedTuple):
    """What an image is to be taken for: a class, or anything but the first."""

    first: int  # what it is taken for as it is
    target: int | None = None

    def is_reached(self, number: int) -> bool:
        """Whether an answer is what was looked for."""
        return number != self.first if self.target is None else number == self.target

    def reaches(self, number: Tensor) -> Tensor:
        """The same of an answer that stays on its device."""
        return number != self.first if self.target is None else number == self.target


@dataclass(frozen=True)
class Change:
    """A picture that is answered otherwise.

    Attributes
    ----------
    image : torch.Tensor
        (C, H, W) in [0, 1].
    steps : int
        Steps that it took.
    """

    image: Tensor
    steps: int


def length(change: Tensor) -> float:
    """Euclidean length of a change of pixels in [0, 1]."""
    return float(torch.linalg.vector_norm(change.double()))


def smallest(
    answers: Answers, image: Tensor, aim: Aim, steps: int = 50, refine: int = 0
) -> Change | None:
    """Search for the smallest change that an image is answered otherwise with.

    Parameters
    ----------
    answers : Answers
        The network.
    image : torch.Tensor
        (C, H, W) in [0, 1].
    aim : Aim
        What it is to be taken for.
    steps : int
        DeepFool's, at most.
    refine : int
        Feet of perpendiculars that are tried after.

    Returns
    -------
    Change or None
        None where no step led over a boundary.
    """
    found = deepfool(answers, image, aim, steps)
    if found is None:
        return None
    best = to_boundary(answers, image, found.image, aim)
    for _ in range(refine):
        nearer = _foot(answers, image, best, aim)
        if nearer is None or length(nearer - image) >= length(best - image):
            break
        best = nearer
    return Change(best, found.steps)


@with_gradients
def deepfool(answers: Answers, image: Tensor, aim: Aim, steps: int = 50) -> Change | None:
    """DeepFool: a picture (C, H, W) beyond the boundary, overshoot and all; None of none.

    With a target, the boundary is the one between it and what the picture is taken for now.
    """
    total, now = torch.zeros_like(image), image
    moved = torch.ones((), dtype=torch.bool, device=image.device)
    for step in range(steps + 1):
        leaf = now.clone().requires_grad_(True)
        scores = answers.scores(leaf[None], checked=False)[0]  # (K,)
        top, order = _order(scores.detach())
        finite, has_moved, number, *others = numbers(  # the one look of a step
            scores.isfinite().all(), moved, top, *order
        )
        if not has_moved:
            return None
        if not finite:
            raise answers.unfinite()
        if aim.is_reached(int(number)):
            return Change(now, step)
        pairs = _boundaries([*map(int, others)], aim, int(number))
        move, moved = _nearest(scores, leaf, pairs)
        total = total + move
        now = (image + (1 + OVERSHOOT) * total).clamp(0, 1)
    return None


def _order(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class, and the likeliest ones in order: one more than are tried."""
    order = scores.sort(descending=True, stable=True).indices
    return scores.argmax(), order[: _CANDIDATES + 1]


def _boundaries(order: list[int], aim: Aim, top: int) -> list[tuple[int, int]]:
    """Pairs of classes whose boundaries are tried: the one to be reached, and what stands now."""
    if aim.target is not None:
        return [(aim.target, top)]
    return [(number, aim.first) for number in order if number != aim.first][:_CANDIDATES]


def _nearest(scores: Tensor, leaf: Tensor, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The step (C, H, W) onto the nearest boundary between pairs of classes, all taken as flat, and
    whether there is one; nothing is read off the device.
    """
    slopes, sizes = [], []
    for wanted, other in pairs:
        gap = scores[other] - scores[wanted]
        slope = slope_of(-gap, leaf, "the class scores", retain_graph=True)
        slopes.append(slope)
        square = slope.to(exact(slope.device)).square().sum()
        sizes.append(torch.stack([square, gap.detach().to(square.dtype).abs()]))
    squares, heights = torch.stack(sizes).unbind(1)  # (P,)
    far = torch.where(squares < _TINY, torch.inf, heights / squares.sqrt())
    best = far.argmin()[None]
    # DeepFool's authors too add a little, so that a step on the boundary moves
    factor = ((heights + 1e-4) / squares).gather(0, best)[0]
    moved = far.gather(0, best)[0] < torch.inf
    slope = torch.stack(slopes).index_select(0, best)[0]
    return torch.where(moved, slope * factor.to(slope.dtype), 0.0), moved


@with_gradients
def to_boundary(answers: Answers, image: Tensor, beyond: Tensor, aim: Aim) -> Tensor:
    """Come back from `beyond` towards the image as far as the aim stays reached; one look at the
    device.
    """
    low = torch.zeros((), dtype=exact(image.device), device=image.device)
    high, finite = torch.ones_like(low), torch.ones_like(low, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            scores = answers.scores(_between(image, beyond, middle)[None], checked=False)[0]
            finite = finite & scores.isfinite().all()
            reached = aim.reaches(scores.argmax())
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    is_finite, share = numbers(finite, high)
    if not is_finite:
        raise answers.unfinite()
    return _between(image, beyond, share) if share < 1 else beyond


def _between(image: Tensor, beyond: Tensor, share: float | Tensor) -> Tensor:
    return (image + share * (beyond - image)).clamp(0, 1)


def _foot(answers: Answers, image: Tensor, at: Tensor, aim: Aim) -> Tensor | None:
    """Try the perpendicular from the image onto the boundary's tangent at a picture beyond it."""
    leaf = at.clone().requires_grad_(True)
    scores = answers.scores(leaf[None], checked=False)[0]
    first = scores.argmax()[None]
    second = scores.detach().index_fill(0, first, -torch.inf).argmax()[None]
    gap = scores.gather(0, first) - scores.gather(0, second)
    slope = slope_of(gap[0], leaf, "the class scores")
    # values that the perpendicular would push out of [0, 1] stay at its ends: they cannot help
    slope = slope * (((at > 0) | (slope > 0)) & ((at < 1) | (slope < 0)))
    sums = slope.to(exact(slope.device))
    finite, square, height = numbers(
        scores.isfinite().all(), sums.square().sum(), ((at - image).to(sums.dtype) * sums).sum()
    )
    if not finite:
        raise answers.unfinite()
    if square < _TINY:
        return None
    share, factor = height / square, 1.0
    while factor <= _LONGEST:
        beyond = (image + factor * share * slope).clamp(0, 1)
        if aim.is_reached(answers.of(beyond).number):
            return to_boundary(answers, image, beyond, aim)
        factor *= _GROWTH
    return None

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

from cnnlens.model.streams import exact
from cnnlens.synthesize.answers import Answers

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


def deepfool(answers: Answers, image: Tensor, aim: Aim, steps: int = 50) -> Change | None:
    """DeepFool: a picture (C, H, W) beyond the boundary, overshoot and all; None of none.

    With a target, the boundary is the one between it and what the picture is taken for now.
    """
    total, now = torch.zeros_like(image), image
    for step in range(steps + 1):
        leaf = now.clone().requires_grad_(True)
        scores = answers.scores(leaf[None])[0]  # (K,)
        top = int(scores.argmax())
        if aim.is_reached(top):
            return Change(now, step)
        move = _nearest(scores, leaf, _boundaries(scores.detach(), aim, top))
        if move is None:
            return None
        total = total + move
        now = (image + (1 + OVERSHOOT) * total).clamp(0, 1)
    return None


def _boundaries(scores: Tensor, aim: Aim, top: int) -> list[tuple[int, int]]:
    """Pairs of classes whose boundaries are tried: the one to be reached, and what stands now."""
    if aim.target is not None:
        return [(aim.target, top)]
    order = scores.sort(descending=True, stable=True).indices.tolist()
    return [(number, aim.first) for number in order if number != aim.first][:_CANDIDATES]


def _nearest(scores: Tensor, leaf: Tensor, pairs: list[tuple[int, int]]) -> Tensor | None:
    """The step (C, H, W) onto the nearest boundary between pairs of classes, all taken as flat."""
    slopes, sizes = [], []
    for wanted, other in pairs:
        gap = scores[other] - scores[wanted]
        (slope,) = torch.autograd.grad(-gap, leaf, retain_graph=True)
        slopes.append(slope)
        square = slope.to(exact(slope.device)).square().sum()
        sizes.append(torch.stack([square, gap.detach().to(square.dtype)]))
    best, shortest = None, float("inf")
    for slope, (square, gap) in zip(slopes, torch.stack(sizes).tolist(), strict=True):  # one wait
        if square < _TINY:
            continue
        height = abs(gap)
        far = height / square**0.5
        if far < shortest:
            # DeepFool's authors too add a little, so that a step on the boundary moves
            best, shortest = slope * ((height + 1e-4) / square), far
    return best


def to_boundary(answers: Answers, image: Tensor, beyond: Tensor, aim: Aim) -> Tensor:
    """Come back from `beyond` towards the image as far as the aim stays reached."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if aim.is_reached(answers.of(_between(image, beyond, middle)).number):
            high = middle
        else:
            low = middle
    return _between(image, beyond, high) if high < 1 else beyond


def _between(image: Tensor, beyond: Tensor, share: float) -> Tensor:
    return (image + share * (beyond - image)).clamp(0, 1)


def _foot(answers: Answers, image: Tensor, at: Tensor, aim: Aim) -> Tensor | None:
    """Try the perpendicular from the image onto the boundary's tangent at a picture beyond it."""
    leaf = at.clone().requires_grad_(True)
    scores = answers.scores(leaf[None])[0]
    number = int(scores.argmax())
    others = scores.detach().clone()
    others[number] = -torch.inf
    (slope,) = torch.autograd.grad(scores[number] - scores[int(others.argmax())], leaf)
    # values that the perpendicular would push out of [0, 1] stay at its ends: they cannot help
    slope = slope * (((at > 0) | (slope > 0)) & ((at < 1) | (slope < 0)))
    square = float(slope.double().square().sum())
    if square < _TINY:
        return None
    share = float(((at - image).double() * slope.double()).sum()) / square
    factor = 1.0
    while factor <= _LONGEST:
        beyond = (image + factor * share * slope).clamp(0, 1)
        if aim.is_reached(answers.of(beyond).number):
            return to_boundary(answers, image, beyond, aim)
        factor *= _GROWTH
    return None

"""Fooling a network: ascent to a class at a low rate, and how much of it is more than noise.

Ascent takes steps of one size along the gradient of a class's log odds (its score less the
log-sum-exp of the others'), smoothed by momentum, from a photo or from noise, until the network is
as sure as it was to become. A step's size is a root mean square over the image, in units of the
pixel range, so that a rate means the same on any network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import probe_names
from cnnlens.model.gradients import slope_of, with_gradients
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model
from cnnlens.model.streams import exact, look_every
from cnnlens.synthesize.answers import Answers
from cnnlens.synthesize.boundary import Aim, Change
from cnnlens.synthesize.invert import features

# sizes of random changes that an image is tried with: root mean squares of the pixel range
NOISE_SIZES = tuple(10 ** (power / 2) for power in range(-8, 0))  # 0.0001 to 0.3
_DRAWS = 4  # of noise, each size
_MOMENTUM = 0.9  # near its end a climb without it crosses the ridge to and fro
_LEVELS = 255
_GROWTH = 1.15
_FURTHEST = 40.0  # how many times a change may grow until rounding leaves enough of it
_HALVINGS = 4  # of its last growth


@dataclass(frozen=True)
class Ascent:
    """Where an ascent stands.

    Attributes
    ----------
    image : torch.Tensor
        (C, H, W) in [0, 1].
    steps : int
        Steps done.
    share : float
        How sure the network is of the class.
    flipped_at : int or None
        The step from which on the class was the likeliest; None where it is not.
    """

    image: Tensor
    steps: int
    share: float
    flipped_at: int | None


@with_gradients
def ascend(
    answers: Answers, start: Tensor, target: int, rate: float, steps: int, until: float
) -> Iterator[Ascent]:
    """Climb from a picture until the network is sure of a class.

    Parameters
    ----------
    answers : Answers
        The network.
    start : torch.Tensor
        (C, H, W) in [0, 1].
    target : int
        The class.
    rate : float
        Root mean square of a step.
    steps : int
        At most so many.
    until : float
        Probability that ends it.

    Yields
    ------
    Ascent
        After every step, as soon as it is looked at (`look_every`); first the start.

    Raises
    ------
    CnnlensError
        When the score of the class does not depend on the image.
    """
    now, pull, flipped = start, torch.zeros_like(start), None
    moved = torch.ones((), dtype=torch.bool, device=start.device)
    every, unseen = look_every(start.device), list[tuple[Tensor, Tensor]]()
    for step in range(steps + 1):
        leaf = now.clone().requires_grad_(True)
        scores = answers.scores(leaf[None], checked=False)
        unseen.append((now, _numbers(answers, scores.detach(), target, moved)))
        if (step + 1) % every == 0 or step == steps:
            numbers = torch.stack([found for _, found in unseen]).tolist()
            for at, (image, _) in enumerate(unseen, step + 1 - len(unseen)):
                share, first, finite, changed = numbers[at - step - 1]  # counted from the last
                if not changed:
                    raise CnnlensError(
                        f"the score of class {target} does not change with the image",
                        "the network answers every image alike there",
                    )
                if not finite:
                    raise answers.unfinite()
                flipped = (at if flipped is None else flipped) if first else None
                yield Ascent(image, at, share, flipped)
                if (share >= until and first) or at == steps:
                    return
            unseen.clear()
        slope = slope_of(_log_odds(scores[0], target), leaf, f"the score of class {target}")
        moved = slope.any()
        pull = _MOMENTUM * pull + (1 - _MOMENTUM) * slope
        size = pull.to(exact(pull.device)).square().mean().sqrt()
        now = (now + pull * (rate / size)).clamp(0, 1)


def _numbers(answers: Answers, scores: Tensor, target: int, moved: Tensor) -> Tensor:
    """What a step is judged by (4,): the class's share, whether it is the likeliest, whether all
    scores are finite, and whether the step before moved the image.
    """
    share = answers.shares(scores)[0, target]
    first, finite = scores[0].argmax() == target, scores.isfinite().all()
    return torch.stack([one.to(exact(scores.device)) for one in (share, first, finite, moved)])


def _log_odds(scores: Tensor, target: int) -> Tensor:
    others = torch.cat([scores[:target], scores[target + 1 :]])
    return scores[target] - others.logsumexp(0)


def noise(answers: Answers, seed: int, name: str) -> Tensor:
    """Normal noise (C, H, W) with the mean and deviation that the network takes pixels to have."""
    preprocess, device = answers.model.preprocess, answers.model.device
    zeros = torch.zeros(1, preprocess.channels, *preprocess.size)
    drawn = torch.randn(zeros.shape, generator=_generator(seed, name))
    return preprocess.unnormalize(drawn).clamp(0, 1)[0].to(device)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def noise_flips(
    answers: Answers, image: Tensor, sizes: Sequence[float], seed: int, aim: Aim
) -> list[float]:
    """Share of random changes of each size that an image is answered otherwise with.

    Parameters
    ----------
    answers : Answers
        The network.
    image : torch.Tensor
        (C, H, W) in [0, 1].
    sizes : sequence of float
        Euclidean lengths; what leaves [0, 1] is cut off.
    seed : int
        Of the directions, the same for every image.
    aim : Aim
        What counts.
    """
    drawn = torch.randn((_DRAWS, *image.shape), generator=_generator(seed, "noise"))
    drawn /= torch.linalg.vector_norm(drawn.flatten(1), dim=1)[:, None, None, None]
    drawn, tops, finite = drawn.to(image.device), [], []
    with torch.no_grad():
        for size in sizes:
            scores = answers.scores((image + size * drawn).clamp(0, 1), checked=False)
            tops.append(scores.argmax(1))
            finite.append(scores.isfinite().all())
    if not bool(torch.stack(finite).all()):
        raise answers.unfinite()
    return [sum(map(aim.is_reached, row)) / _DRAWS for row in torch.stack(tops).tolist()]


def rounded(image: Tensor) -> Tensor:
    """Round a picture to what a file of 8 bits keeps."""
    return (image * _LEVELS).round() / _LEVELS


def as_written(answers: Answers, image: Tensor, change: Change, aim: Aim) -> Tensor | None:
    """Find the nearest picture on the ray through a changed one that fools as a file of 8 bits.

    Most of a small change is less than half a level and lost when it is rounded, so that the change
    has to grow. None where it would have to grow too far.
    """
    step = change.image - image
    whole = 0.5 / _LEVELS / max(float(step.abs().max()), 1e-9)  # before, all of it is lost

    def grown(factor: float) -> Tensor:
        return rounded((image + factor * step).clamp(0, 1))

    low = high = start = max(1.0, whole)
    while not aim.is_reached(answers.of(grown(high)).number):
        low, high = high, high * _GROWTH
        if high > _FURTHEST * start:
            return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if aim.is_reached(answers.of(grown(middle)).number) else (middle, high)
        )
    return grown(high)


@dataclass(frozen=True)
class Changed:
    """What a layer makes of a picture and of what it was changed to.

    Attributes
    ----------
    share : float
        How much all maps changed: length of the difference over that of the first maps.
    units : list of int
        Those that changed most, the most changed first.
    shares : list of float
        How much these did: length of a map's difference over the usual length of a map, the root
        mean square over the layer's.
    before, after : numpy.ndarray
        Their maps, (n, h, w) float32.
    """

    share: float
    units: list[int]
    shares: list[float]
    before: np.ndarray
    after: np.ndarray


def changed_maps(model: Model, layer: Layer, image: Tensor, fooled: Tensor, count: int) -> Changed:
    """Find the units of a layer whose maps changed most from one picture to another."""
    clean, other = (features(model, layer, one) for one in (image, fooled))  # (C, h, w)
    apart = torch.linalg.vector_norm((other - clean).flatten(1).double(), dim=1)  # (C,)
    usual = float(torch.linalg.vector_norm(clean.double())) or 1.0
    order = apart.sort(descending=True, stable=True).indices[:count]
    return Changed(
        float(torch.linalg.vector_norm(apart)) / usual,
        order.tolist(),
        (apart[order] / (usual / len(apart) ** 0.5)).tolist(),
        clean[order].cpu().numpy(),
        other[order].cpu().numpy(),
    )


def probe(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """See that class scores depend on the image."""
    answers = Answers(model)
    start = noise(answers, 0, "probe")
    steps = ascend(answers, start, answers.of(start).number, 0.005, 1, 1.1)
    for _ in steps:
        pass
    return probe_names(model)

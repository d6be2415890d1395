"""One picture fooled: the smallest change, as a file keeps it, the ascent on from it, and noise."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cnnlens.model.layer import Layer
from cnnlens.settings.fool import FoolSettings
from cnnlens.synthesize.answers import Answer, Answers
from cnnlens.synthesize.boundary import Aim, Change, length, smallest, to_boundary
from cnnlens.synthesize.fool import (
    NOISE_SIZES,
    Ascent,
    Changed,
    as_written,
    ascend,
    changed_maps,
    noise_flips,
    rounded,
)


@dataclass(frozen=True)
class Fooled:
    """What became of a picture.

    Attributes
    ----------
    answers : Answers
        The network.
    image : torch.Tensor
        (C, H, W) in [0, 1], as it was.
    first : Answer
        What it is taken for.
    target : int or None
        What it was to be taken for; None: anything else.
    change : Change or None
        The smallest that was found, just over the boundary; None of noise, and where none was.
    written : torch.Tensor or None
        A near one that fools as a file of 8 bits, too.
    ascent : Ascent or None
        Where the climb to the class ended; None of what is taken for the target as it is.
    noise : (list of float, list of float)
        Lengths of random changes, and which share of them has the effect.
    """

    answers: Answers
    image: Tensor
    first: Answer
    target: int | None
    change: Change | None = None
    written: Tensor | None = None
    ascent: Ascent | None = None
    noise: tuple[Sequence[float], Sequence[float]] = ((), ())

    @property
    def surely(self) -> Tensor | None:
        """The picture that the network is surest of; else the one just over the boundary."""
        if self.ascent is not None and self.ascent.flipped_at is not None:
            return self.ascent.image
        return None if self.change is None else self.change.image

    def maps(self, layers: Sequence[Layer], count: int) -> list[tuple[str, Changed]]:
        """Which units of each layer changed most from the picture to the one `surely` taken for
        another; nothing where there is none.
        """
        if self.surely is None:
            return []
        model = self.answers.model
        return [
            (one.name, changed_maps(model, one, self.image, self.surely, count)) for one in layers
        ]

    def arrays(self) -> dict[str, np.ndarray]:
        """The pictures (C, H, W) float32: "image", and as far as there are, "fooled" (just over the
        boundary), "written" (in 8 bits) and "surely" (where the climb ended).
        """
        found = {
            "image": self.image,
            "fooled": None if self.change is None else self.change.image,
            "written": self.written,
            "surely": None if self.ascent is None else self.ascent.image,
        }
        return {name: one.detach().cpu().numpy() for name, one in found.items() if one is not None}

    def as_dict(self) -> dict[str, Any]:
        """Describe it for a list; lengths are of pixels in [0, 1], "levels" root mean squares."""
        names = self.answers.names
        target = None if self.target is None else names[self.target]
        about = {
            "from": names[self.first.number],
            "from_confidence": self.first.share,
            "target": target,
        }
        if self.ascent is None and self.change is None and self.first.number == self.target:
            still = {"to": target, "confidence": self.first.share, "steps": 0, "already": True}
            return {**about, **still, **self._sizes(self.image)}
        if not self.noise[0]:
            return {**about, **self._climbed()}
        sizes, flips = self.noise
        return {
            **about,
            **self._smallest(),
            "written": None if self.written is None else self._taken(self.written),
            "ascent": self._climbed(),
            "noise": {"l2": sizes, "flips": flips},
        }

    def _smallest(self) -> dict[str, Any]:
        if self.change is None:
            return dict.fromkeys(("to", "confidence", "steps", "l2", "linf", "levels"))
        return {**self._taken(self.change.image), "steps": self.change.steps}

    def _climbed(self) -> dict[str, Any]:
        assert self.ascent is not None
        return {
            **self._taken(self.ascent.image),
            "steps": self.ascent.steps,
            "flipped_at": self.ascent.flipped_at,
            "confidence_written": self.answers.of(rounded(self.ascent.image)).share,
        }

    def _taken(self, image: Tensor) -> dict[str, Any]:
        answer = self.answers.of(image)
        to = {"to": self.answers.names[answer.number], "confidence": answer.share}
        return {**to, **self._sizes(image)}

    def _sizes(self, image: Tensor) -> dict[str, float]:
        change = image - self.image
        l2 = length(change)
        levels = 255 * l2 / change.numel() ** 0.5
        return {"l2": l2, "linf": float(change.abs().max()), "levels": levels}


def fool(
    answers: Answers, start: Tensor, target: int | None, from_noise: bool, settings: FoolSettings
) -> Fooled:
    """Fool a network with one picture.

    Parameters
    ----------
    answers : Answers
        The network.
    start : torch.Tensor
        (C, H, W) in [0, 1].
    target : int or None
        The class to be taken for; None: any other.
    from_noise : bool
        Climb alone: how little noise has to change says nothing.
    settings : FoolSettings
        Rate, steps, and so on.
    """
    first = answers.of(start)
    if first.number == target and not from_noise:
        return Fooled(answers, start, first, target)
    if from_noise:
        assert target is not None
        return Fooled(
            answers, start, first, target, ascent=_climb(answers, start, target, True, settings)
        )
    aim, steps = Aim(first.number, target), min(settings.steps, 50)
    change = smallest(answers, start, aim, steps, settings.refine)
    goal = _goal(answers, start, aim, change)
    ascent = _climb(answers, start, goal, False, settings)
    if change is None and ascent.flipped_at is not None:  # no gradient at first, or a bent boundary
        change = Change(to_boundary(answers, start, ascent.image, aim), ascent.steps)
    written = None if change is None else as_written(answers, start, change, aim)
    sizes = [size * start.numel() ** 0.5 for size in NOISE_SIZES]
    flips = noise_flips(answers, start, sizes, settings.seed, aim)
    return Fooled(answers, start, first, target, change, written, ascent, (sizes, flips))


def _goal(answers: Answers, start: Tensor, aim: Aim, change: Change | None) -> int:
    """The class to climb to: the target, else what the smallest change leads to, else the next."""
    if aim.target is not None:
        return aim.target
    if change is not None:
        return answers.of(change.image).number
    return answers.second(start)


def _climb(
    answers: Answers, start: Tensor, target: int, from_noise: bool, settings: FoolSettings
) -> Ascent:
    rate, until = settings.rate(from_noise), settings.until(from_noise)
    return deque(ascend(answers, start, target, rate, settings.steps, until), maxlen=1).pop()

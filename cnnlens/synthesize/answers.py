"""What a network takes an image for: class scores of pictures, differentiable, before any softmax.

A network with one output has two classes, its 0 and its 1; 0 has the score 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_name, class_scores
from cnnlens.model.ending import ending, probabilities
from cnnlens.model.hooks import read_and_run
from cnnlens.model.model import Model
from cnnlens.model.streams import exact
from cnnlens.model.trace import Place
from cnnlens.model.two_sided import side_names


class Answer(NamedTuple):
    """What an image is taken for."""

    number: int  # the class
    share: float  # its probability


class Answers:
    """A network as a function of pictures in [0, 1].

    Parameters
    ----------
    model : Model
        The network.

    Attributes
    ----------
    count : int
        Number of classes; 2 of a single output.

    Raises
    ------
    CnnlensError
        When it gives no class scores.
    """

    def __init__(self, model: Model) -> None:
        self.model, ends = model, ending(model)
        self._link, self._place = ends.link, ends.score_place()
        self._single = False
        black = torch.zeros(model.example().shape[1:], device=model.device)
        self.count = self.scores(black[None]).shape[1]

    def scores(self, images: Tensor, checked: bool = True) -> Tensor:
        """Scores (N, K) of pictures (N, C, H, W) in [0, 1]; `checked`, which waits for the device.

        Raises
        ------
        CnnlensError
            When they are not finite.
        """
        model, count = self.model, len(images)
        if model.batch and count > model.batch:
            return torch.cat([self.scores(part, checked) for part in images.split(model.batch)])
        x = model.preprocess.normalize(images)
        if model.batch and count < model.batch:  # an exported program of one batch size
            x = torch.cat([x, x[-1:].expand(model.batch - count, -1, -1, -1)])
        places = [self._place] if self._place else []
        with model.in_use():
            found, output = read_and_run(model.net, x, places, stop=False, gradient=True)
        raw = found[0].reshape(len(x), -1) if found else class_scores(output, len(x), model.head)
        if raw.shape[1] == 1:
            self._single = True
            raw = torch.cat([torch.zeros_like(raw), raw], dim=1)  # (N, 2)
        if checked and not bool(raw[:count].isfinite().all()):
            raise self.unfinite()
        return raw[:count]

    def unfinite(self) -> CnnlensError:
        """Say that scores are not finite."""
        return CnnlensError(
            f"the class scores of {self.model.arch} are not finite",
            "the network overflows there: check its weights, and --mean and --std",
        )

    def shares(self, scores: Tensor) -> Tensor:
        """Probabilities (N, K)."""
        # of one output the softmax of 0 and its score is the sigmoid of that score
        return probabilities(scores, "" if self._single else self._link)

    @property
    def place(self) -> Place | None:
        """Where the scores are before the softmax that the network ends with; None for none."""
        return self._place

    def of(self, image: Tensor) -> Answer:
        """What one picture (C, H, W) is taken for; one look at the device."""
        with torch.no_grad():
            scores = self.scores(image[None], checked=False)
        number = scores[0].argmax()
        share = self.shares(scores)[0].gather(0, number[None])[0]
        finite, top, sure = numbers(scores.isfinite().all(), number, share)
        if not finite:
            raise self.unfinite()
        return Answer(int(top), sure)

    def second(self, image: Tensor) -> int:
        """The class that one picture (C, H, W) is taken for if not for the likeliest."""
        with torch.no_grad():
            return int(self.scores(image[None])[0].topk(2).indices[1])

    @property
    def names(self) -> list[str]:
        """What the classes are called."""
        known = side_names(self.model.classes) if self._single else self.model.classes
        return [class_name(number, known) for number in range(self.count)]


def score_place(model: Model) -> Place | None:
    """Where class scores are before the softmax, or sigmoid, that a network ends with; None for
    none.
    """
    return ending(model).score_place()


def numbers(*found: Tensor) -> list[float]:
    """Read several numbers off a device, of whatever type, with one wait."""
    read: list[float] = torch.stack([one.to(exact(one.device)) for one in found]).tolist()
    return read

"""What an image is taken for when a unit's map is multiplied: its class scores, then and before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cnnlens.measure.without import Asker, Change, Scaled
from cnnlens.model.classes import count_scores
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.synthesize.answers import Answers

SHOWN = 5  # classes that are told: those of highest probability, before or then


@dataclass(frozen=True, eq=False)
class Steered:
    """An image with one unit turned up or down.

    Attributes
    ----------
    names : sequence of str
        Of the classes.
    scores : numpy.ndarray
        (2, K) before and then.
    shares : numpy.ndarray
        (2, K) the probabilities.
    """

    names: Sequence[str]
    scores: np.ndarray
    shares: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Give what changes, for JSON."""
        change = self.scores[1] - self.scores[0]
        top = np.argsort(-self.shares.max(axis=0), kind="stable")[:SHOWN]
        seen = [self.names[int(row.argmax())] for row in self.scores]
        return {
            "predicted": seen[0],
            "then": seen[1],
            "rises": self._change(int(change.argmax()), change),
            "falls": self._change(int(change.argmin()), change),
            "classes": [
                {
                    "class": self.names[number],
                    "score": self.scores[:, number].tolist(),
                    "probability": self.shares[:, number].tolist(),
                }
                for number in top.tolist()
            ],
        }

    def _change(self, number: int, change: np.ndarray) -> dict[str, Any]:
        return {"class": self.names[number], "change": float(change[number])}


def steer(
    model: Model,
    layer: Layer,
    units: Sequence[int],
    factor: float,
    pixels: Tensor,
    batch_size: int = 32,
) -> list[Steered]:
    """Multiply each unit's map on an image in turn, and see what it is then taken for.

    Parameters
    ----------
    model, layer : Model, Layer
        The network, and whose units.
    units : sequence of int
        One after the other.
    factor : float
        0 switches off, 1 leaves as it is.
    pixels : torch.Tensor
        (C, H, W) uint8.
    batch_size : int
        Units at once.

    Raises
    ------
    CnnlensError
        When the class scores do not depend on the layer.
    """
    answers = Answers(model)
    lone = count_scores(model) == 1  # taken as two, -s and s
    changes: list[Change] = [Scaled((unit,), factor) for unit in units]
    found = []
    with model.in_use():
        for _, scores, first in Asker(model, layer, batch_size).ask(pixels[None], changes):
            for then in scores[:, 0]:  # (K,)
                pair = np.stack([first[0].cpu().numpy(), then.cpu().numpy()])
                shares = _shares(then.new_tensor(pair) / (2 if lone else 1), answers)
                found.append(Steered(answers.names, pair, shares))
    return found


def _shares(scores: Tensor, answers: Answers) -> np.ndarray:
    """Probabilities of scores (2, K), which are such where the network itself makes them."""
    shares: np.ndarray = (scores if answers.ends else answers.shares(scores)).cpu().numpy()
    return shares

"""What an image is taken for when a unit's map is multiplied: its class scores, then and before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlens.measure.without import Asker, Change, Scaled

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
    asker: Asker,
    units: Sequence[int],
    factor: float,
    pixels: Tensor,
    names: Sequence[str],
    shares: Callable[[Tensor], Tensor],
) -> list[Steered]:
    """Multiply each unit's map on an image in turn, and see what it is then taken for.

    Parameters
    ----------
    asker : Asker
        Of the network, and of the layer whose units they are.
    units : sequence of int
        One after the other.
    factor : float
        0 switches off, 1 leaves as it is.
    pixels : torch.Tensor
        (C, H, W) uint8.
    names : sequence of str
        Of the classes.
    shares : callable
        Makes probabilities of scores (N, K), where a single score s is 0 and s.

    Raises
    ------
    CnnlensError
        When the class scores do not depend on the layer.
    """
    changes: list[Change] = [Scaled((unit,), factor) for unit in units]
    found = []
    with asker.model.in_use():
        for _, scores, first in asker.ask(pixels[None], changes):
            for then in scores[:, 0]:
                pair = torch.stack([first[0], then]).cpu()  # (2, K)
                apart = pair / 2 if asker.is_lone else pair  # of -s and s
                found.append(Steered(names, pair.numpy(), shares(apart).numpy()))
    return found

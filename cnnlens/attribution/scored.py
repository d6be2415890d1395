"""A place of a network and its class scores, read in one pass, with the slope between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from cnnlens.attribution.beginning import beginning_at
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.classes import class_scores
from cnnlens.model.gradients import CUT
from cnnlens.model.hooks import Live, read_and_run, read_live
from cnnlens.model.model import Model
from cnnlens.model.trace import Place
from cnnlens.model.two_sided import both_sides


@dataclass(frozen=True)
class Scored:
    """What is read of a network.

    Attributes
    ----------
    model : Model
        The network, which is in use.
    layer : str
        Name of the place.
    place : Place
        Where its maps are.
    scores_at : Place or None
        Where its class scores are; None: they are its output.
    sides : bool
        Whether its single score is that of two classes, as `both_sides` gives them.
    """

    model: Model
    layer: str
    place: Place
    scores_at: Place | None
    sides: bool = False

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Read maps (N, C, H, W) and scores (N, K) on images (N, C, H, W)."""
        with torch.no_grad():
            values, output = read_and_run(self.model.net, x, self._wanted, stop=False)
        scores = values[1].reshape(len(x), -1) if self.scores_at else self._scores(output, len(x))
        return values[0], scores.detach()

    def gradcam(
        self, x: Tensor, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weigh the maps by the mean slope of class scores, and keep what is positive.

        Parameters
        ----------
        x : torch.Tensor
            (N, C, H, W), network input.
        choose : callable
            From scores (N, K) to the classes that are looked for, (N, k).

        Returns
        -------
        torch.Tensor, torch.Tensor, torch.Tensor
            Scores (N, K), chosen classes (N, k), maps (N, k, H, W).

        Raises
        ------
        CnnlensError
            When the scores do not depend on the place.
        """
        leaf = x.detach().clone().requires_grad_(True)
        lives, raw = self._run(leaf)
        if lives[0].edge is None:  # a backbone that runs without gradients
            with beginning_at(self.model.net, self.place):
                lives, raw = self._run(leaf)
        end = lives[1].edge if self.scores_at else _edge(raw)
        scores = raw.detach().reshape(len(x), -1)
        scores = both_sides(scores) if self.sides else scores
        chosen = choose(scores)
        start = lives[0]
        maps = []
        for column in chosen.T:  # one backward pass for a class of every image
            gradient = self._gradient_of(end, start.edge, self._seed(column, raw))
            maps.append(self._positive(start.value, gradient))
        return scores, chosen, torch.cat(maps, dim=1)

    @property
    def _wanted(self) -> list[Place]:
        return [self.place, *([self.scores_at] if self.scores_at else [])]

    def _scores(self, output: Any, count: int) -> Tensor:
        return class_scores(output, count, self.model.head)

    def _run(self, leaf: Tensor) -> tuple[list[Live], Tensor]:
        """What stands at the places, and the scores, as they are in the graph."""
        with torch.enable_grad():
            lives, output = read_live(self.model.net, leaf.clone(), self._wanted, stop=False)
        return lives, lives[1].value if self.scores_at else self._scores(output, len(leaf))

    def _seed(self, column: Tensor, raw: Tensor) -> Tensor:
        """What makes the backward pass that of one class per image, (N,)."""
        if self.sides:  # the first one's score falls as the output rises
            return (2 * column - 1).to(raw.dtype).reshape(raw.shape)
        rows = raw.new_zeros(len(column), raw.numel() // len(column))
        return rows.scatter_(1, column[:, None], 1).reshape(raw.shape)

    def _gradient_of(
        self, end: GradientEdge | None, start: GradientEdge | None, seed: Tensor
    ) -> Tensor:
        found = None
        if end is not None and start is not None:
            (found,) = torch.autograd.grad(end, start, seed, retain_graph=True, allow_unused=True)
        if found is None:
            raise CnnlensError(
                f"no gradient leads from the class scores of {self.model.arch} to {self.layer}: "
                f"they do not depend on it, or {CUT}",
                "choose another layer with -l",
            )
        if self.place.tokens is not None and not self.place.as_maps(found).any():
            raise UsageError(
                f"the class scores of {self.model.arch} read nothing of {self.layer} but its "
                "class token",
                "choose a layer before it with -l, such as the block before",
            )
        return found

    def _positive(self, maps: Tensor, gradient: Tensor) -> Tensor:
        maps, gradient = self.place.as_maps(maps), self.place.as_maps(gradient)
        weights = gradient.mean(dim=(2, 3))  # (N, C)
        return weighed(maps, weights[:, None]).clamp(min=0)


def weighed(maps: Tensor, weights: Tensor) -> Tensor:
    """Sum maps (N, C, H, W), weighted by (N, k, C): (N, k, H, W)."""
    return torch.einsum("nchw,nkc->nkhw", maps, weights.to(maps.dtype))


def _edge(value: Tensor) -> GradientEdge | None:
    return get_gradient_edge(value) if value.requires_grad else None

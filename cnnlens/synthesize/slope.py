"""The way up: what images are worth, seen by random views, and their gradients.

Every view of every image goes through the network as one row of a batch; as many at once as memory
holds, with the same result but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.device import in_batches
from cnnlens.model.model import Model
from cnnlens.model.streams import look_every, sent
from cnnlens.synthesize.image import Image
from cnnlens.synthesize.objective import Objective, evaluate
from cnnlens.synthesize.regularize import Edits, GradientFilter, Penalty
from cnnlens.synthesize.transform import Transform, Views
from cnnlens.synthesize.update import WakingRectifiers, unit_size


@dataclass(frozen=True)
class Recipe:
    """How to climb.

    Attributes
    ----------
    steps : int
        Number of steps.
    transform : Views
        Random views.
    penalties : tuple of Penalty
        Subtracted from the objective.
    relative : bool
        Penalties count in units of the objective's own gradient (each scaled to a root mean square
        of 1 over the image's pixels), so that their weights mean the same on any network; else as
        they stand.
    edits : Edits
        Between steps.
    gradient_filter : GradientFilter
        Before a gradient is followed.
    views : int
        How many of each image a step sees; their mean counts.
    """

    steps: int
    transform: Views = field(default_factory=Transform)
    penalties: tuple[Penalty, ...] = ()
    relative: bool = False
    edits: Edits = field(default_factory=Edits)
    gradient_filter: GradientFilter = field(default_factory=GradientFilter)
    views: int = 1


@dataclass(frozen=True)
class Gradients:
    """How images stand, a row each."""

    values: Tensor  # (N,), without penalties
    totals: Tensor  # (N,), less the penalties, as far as these count in the value's own units
    code: Tensor  # (N, …), gradients to follow
    images: Tensor  # (N, C, h, w), the objectives' own gradients
    alive: Tensor  # (N,) bool: these are not all 0


@dataclass
class Slopes:
    """Gradients of images by their objectives, as the recipe regularizes them.

    One that `backs_off` hands on values that are not finite, but for the first step's.

    Whether values are finite, and which images have no gradient, is looked at in every step on the
    CPU, else every few steps, so that none waits for the device: an image that falls asleep in
    between is woken after the next look.
    """

    model: Model
    objectives: Sequence[Objective]
    image: Image
    randomness: Sequence[torch.Generator]
    recipe: Recipe
    limit: int
    backs_off: bool = False
    asleep: set[int] = field(default_factory=set)  # rows without gradient, at the last look
    _wrong: Tensor | None = None  # (N,): the first step that was not finite, 0: none was

    def __call__(self, code: Tensor, number: int) -> Gradients:
        """Values and gradients of codes (N, …) in step `number`, counted from 1."""
        code = code.detach().requires_grad_()
        images = self.image.decode(code)  # (N, C, h, w)
        views = self.recipe.transform.at((number - 1) / max(self.recipe.steps - 1, 1))
        last, every = number == self.recipe.steps, look_every(code.device)
        looks = last or number % every == 1 % every
        values, gradient, alive = self._followed(images.detach(), views, looks)
        followed, penalties = self._regularized(images.detach(), gradient)
        self._check(values - penalties, followed, number, looks)
        (slope,) = torch.autograd.grad(images, code, followed)
        return Gradients(values, values - penalties, slope, gradient, alive)

    def _followed(self, images: Tensor, views: Views, looks: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Means over views of values, of their gradients by the images; which are not all 0."""
        each = self.recipe.views
        rows = [row for row in range(len(images)) for _ in range(each)]  # view after view
        viewed = images if each == 1 else images.repeat_interleave(each, 0)
        before: list[Tensor] = []

        def run(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            used = [self.randomness[row] for row in rows[part]]
            before[:] = [generator.get_state() for generator in used]
            return self._viewed(viewed[part], rows[part], used, views, looks)

        def rewind(part: slice) -> None:
            used = [self.randomness[row] for row in rows[part]]
            for generator, state in zip(used, before, strict=True):
                generator.set_state(state)

        parts, self.limit = in_batches(len(rows), self.limit, run, self.model, rewind)
        values, gradient, alive = (torch.cat(column) for column in zip(*parts, strict=True))
        gradient = gradient.unflatten(0, (-1, each)).mean(1)  # (N, C, h, w)
        return (
            values.unflatten(0, (-1, each)).mean(1),
            gradient,
            alive.unflatten(0, (-1, each)).any(1),
        )

    def _viewed(
        self,
        images: Tensor,
        rows: list[int],
        randomness: Sequence[torch.Generator],
        views: Views,
        looks: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values of one view of each image, their gradients by the images, which are not 0."""
        images = images.detach().requires_grad_()
        objectives = [self.objectives[row] for row in rows]
        size = self.model.preprocess.size
        viewed = views(images, size, randomness)  # (N, C, H, W)
        seen = viewed.detach().requires_grad_()
        values = evaluate(self.model, objectives, self.model.preprocess.normalize(seen))
        gradient = _gradient(values, seen)
        dead = (gradient == 0).flatten(1).all(1)
        if looks:
            self._look(rows, dead.tolist())
        if asleep := [at for at, row in enumerate(rows) if row in self.asleep]:
            gradient = self._woken(gradient, seen.detach(), objectives, asleep)
            dead = (gradient == 0).flatten(1).all(1)
        if viewed is not images:
            (gradient,) = torch.autograd.grad(viewed, images, gradient)
        return values.detach(), gradient, ~dead

    def _look(self, rows: Sequence[int], dead: Sequence[bool]) -> None:
        """Note which images have no gradient, of any of their views."""
        self.asleep -= set(rows)
        self.asleep |= {row for row, is_dead in zip(rows, dead, strict=True) if is_dead}

    def _woken(
        self, gradient: Tensor, seen: Tensor, objectives: Sequence[Objective], rows: list[int]
    ) -> Tensor:
        """Put what wakes its unit in the place of a gradient that is 0, in some rows."""
        parts = list(gradient.split(1))
        x = torch.cat([seen[row : row + 1] for row in rows]).requires_grad_()
        asleep = [objectives[row] for row in rows]
        values = evaluate(self.model, asleep, self.model.preprocess.normalize(x))
        with WakingRectifiers():
            found = _gradient(values, x)
        for row, woken in zip(rows, found.split(1), strict=True):
            parts[row] = torch.where((parts[row] == 0).all(), woken, parts[row])
        return torch.cat(parts)

    def _regularized(self, images: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients to follow; what penalties take off the values (0 where they are relative)."""
        nothing = gradient.new_zeros(len(gradient))
        if self.recipe.gradient_filter:
            gradient = self.recipe.gradient_filter(gradient, self.randomness)
        if not self.recipe.penalties:
            return gradient, nothing
        images = images.requires_grad_()
        penalty = sum(p.weight * p.value(images) for p in self.recipe.penalties)
        assert isinstance(penalty, Tensor)
        (against,) = torch.autograd.grad(penalty.sum(), images)
        if self.recipe.relative:
            return unit_size(gradient) - against * images[0].numel(), nothing
        return gradient - against, penalty.detach()

    def _check(self, values: Tensor, gradient: Tensor, number: int, looks: bool) -> None:
        sound = values.isfinite() & gradient.flatten(1).isfinite().all(1)
        known = torch.zeros_like(sound, dtype=torch.int64) if self._wrong is None else self._wrong
        self._wrong = torch.where((known == 0) & ~sound, number, known)
        if not looks or (self.backs_off and number > 1):
            return
        found = [(step, row) for row, step in enumerate(self._wrong.tolist()) if step]
        if found:
            step, row = min(found)
            wrong = self.objectives[row].name
            raise CnnlensError(
                f"{wrong} is not finite at step {step}"
                if step > 1
                else f"{wrong} is not finite: the network's own values are not",
                "try a smaller --lr" if step > 1 else "check its weights and the preprocessing",
            )

    def edited(self, code: Tensor, gradient: Tensor, number: int) -> Tensor:
        """Edit the images behind the codes."""
        with torch.no_grad():
            images = self.image.decode(code)
            mean = sent(mean_colour(self.model), images.device).to(images)
            return self.image.encode(self.recipe.edits(images, gradient, mean, number))


def _gradient(values: Tensor, images: Tensor) -> Tensor:
    """Gradients (N, C, H, W) of values (N,), 0 where nothing leads from the image to the value."""
    if not values.requires_grad:
        return torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(values.sum(), images, allow_unused=True)
    return torch.zeros_like(images) if gradient is None else gradient


def mean_colour(model: Model) -> Tensor:
    """Colour that the network's preprocessing takes for 0, in pixels: (C, 1, 1) in [0, 1]."""
    preprocess = model.preprocess
    mean = torch.tensor(preprocess.mean)[:, None, None] / preprocess.scale
    return (mean.flip(0) if preprocess.bgr else mean).clamp(0, 1)

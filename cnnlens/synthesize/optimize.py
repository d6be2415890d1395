"""The loop: images climb their objectives, and whoever iterates decides what to draw, save or stop.

All images climb at once, but each alone: its randomness comes from its own generator, so that what
becomes of it does not depend on the others, nor on how many go through the network at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.device import in_batches
from cnnlens.model.model import Model
from cnnlens.progress import Step
from cnnlens.synthesize.image import Image
from cnnlens.synthesize.objective import Objective, evaluate
from cnnlens.synthesize.regularize import Edits, GradientFilter, Penalty
from cnnlens.synthesize.transform import Transform, Views
from cnnlens.synthesize.update import Adam, Update, WakingRectifiers, unit_size


@dataclass(frozen=True, kw_only=True)
class AscentStep(Step):
    """Where the ascent stands: `done` and `total` count steps.

    Attributes
    ----------
    values : torch.Tensor
        (N,): what each image's objective was, at the view that this step saw.
    alive : torch.Tensor
        (N,) bool: whether the objective has ever had a gradient.
    images : callable
        Gives the images after this step, (N, C, H, W) in [0, 1]; nothing is computed before.
    code : torch.Tensor
        (N, …), what they are decoded from.
    touched : torch.Tensor
        (N, H, W): how much gradient each pixel has had, over all steps.
    best : callable
        Gives the images that scored highest at the view they were seen from, (N, C, H, W).
    state : callable
        Gives what an equal ascent needs to go on from here; nothing is computed before.
    """

    values: Tensor
    alive: Tensor
    images: Callable[[], Tensor]
    code: Tensor
    touched: Tensor
    best: Callable[[], Tensor]
    state: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Recipe:
    """How to climb.

    Attributes
    ----------
    steps : int
        Number of steps.
    transform : Views
        Random views.
    views : int
        How many of each image a step sees; their mean counts.
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
    """

    steps: int
    transform: Views = field(default_factory=Transform)
    views: int = 1
    penalties: tuple[Penalty, ...] = ()
    relative: bool = False
    edits: Edits = field(default_factory=Edits)
    gradient_filter: GradientFilter = field(default_factory=GradientFilter)


def generators(seed: int, objectives: Sequence[Objective]) -> list[torch.Generator]:
    """One generator per objective, seeded by `seed` and the objective's name."""
    made = []
    for objective in objectives:
        digest = hashlib.sha256(f"{seed}\0{objective.name}".encode()).digest()
        made.append(torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1))
    return made


def optimize(
    model: Model,
    objectives: Sequence[Objective],
    image: Image,
    start: Tensor,
    randomness: Sequence[torch.Generator],
    recipe: Recipe,
    update: Update | None = None,
    batch_size: int = 32,
    state: Mapping[str, Any] | None = None,
) -> Iterator[AscentStep]:
    """Let images climb their objectives.

    Parameters
    ----------
    model : Model
        The network; its parameters get no gradient.
    objectives : sequence of Objective
        One per image.
    image : Image
        How images are coded.
    start : torch.Tensor
        (N, …): the first codes.
    randomness : sequence of torch.Generator
        One per image (see `generators`).
    recipe : Recipe
        Steps, views, regularizers.
    update : Update, optional
        How gradients are followed; Adam at a rate of 0.05 by default.
    batch_size : int
        Images in the network at once; halves itself when memory runs out, with the same result.
    state : mapping, optional
        Where an equal ascent stopped (see `AscentStep.state`): it goes on from there, and ends as
        one that never stopped.

    Yields
    ------
    AscentStep
        After every step.

    Raises
    ------
    CnnlensError
        When an objective or its gradient is not finite, or memory does not suffice for one image.
    """
    if not len(objectives) == len(start) == len(randomness):
        raise ValueError(
            f"{len(objectives)} objectives, {len(start)} codes, {len(randomness)} RNGs"
        )
    update = update or Adam(0.05)
    with model.in_use():
        limit = model.batch or batch_size
        backs_off = getattr(update, "backs_off", False)
        ascent = _Ascent(model, objectives, image, randomness, recipe, limit, backs_off)
        code = image.kept(start.to(model.device))
        climb = _Climb.begun(code, image.shape)
        if state is not None:
            climb = _resumed(state, code, randomness, update)
        for number in range(climb.number + 1, recipe.steps + 1):
            code = climb.code
            slope = ascent.slope(code, number)
            code = image.kept(update(code, slope.code, slope.totals))
            if recipe.edits.is_due(number):
                code = ascent.edited(code, slope.images, number)
            climb = climb.after(number, slope, code)
            yield AscentStep(
                number,
                recipe.steps,
                unit="steps",
                values=slope.values,
                alive=climb.alive,
                images=_Decoding(image, code),
                code=code,
                touched=climb.touched,
                best=_Decoding(image, climb.best),
                state=_State(climb, randomness, update),
            )


_KEPT = ("code", "alive", "best", "highest", "touched")  # of a climb, row by row


@dataclass(frozen=True)
class _Climb:
    """Where the images are after a step: (N, …) each."""

    number: int
    code: Tensor
    alive: Tensor
    best: Tensor  # codes of the highest values seen
    highest: Tensor  # these values
    touched: Tensor  # sums of |gradient| over channels and steps, (N, H, W)

    @classmethod
    def begun(cls, code: Tensor, shape: tuple[int, int, int]) -> _Climb:
        never = torch.full((len(code),), -torch.inf, device=code.device)
        untouched = torch.zeros((len(code), *shape[1:]), device=code.device)
        return cls(0, code, torch.zeros_like(never, dtype=torch.bool), code, never, untouched)

    def after(self, number: int, slope: _Gradients, code: Tensor) -> _Climb:
        """Go on to a code; the one before it gave the slope's values."""
        higher = slope.values > self.highest
        best = torch.where(higher.reshape(-1, *[1] * (code.ndim - 1)), self.code, self.best)
        highest = torch.where(higher, slope.values.to(self.highest), self.highest)
        touched = self.touched + slope.images.abs().sum(1).to(self.touched)
        return _Climb(number, code, self.alive | slope.alive, best, highest, touched)

    @property
    def rows(self) -> dict[str, Tensor]:
        named = vars(self)
        return {name: named[name] for name in _KEPT}


@dataclass(frozen=True)
class _State:
    climb: _Climb
    randomness: Sequence[torch.Generator]
    update: Any

    def __call__(self) -> dict[str, Any]:
        rows = {
            **self.climb.rows,
            "generators": torch.stack([generator.get_state() for generator in self.randomness]),
            **{f"update.{name}": value for name, value in self.update.state().items()},
        }
        rows = {name: value.detach().cpu().clone() for name, value in rows.items()}
        return {"step": self.climb.number, "rows": rows}


def _resumed(
    state: Mapping[str, Any], start: Tensor, randomness: Sequence[torch.Generator], update: Any
) -> _Climb:
    """Bring generators and rule to where they were; return where the images were."""
    rows: Mapping[str, Tensor] = state["rows"]
    if rows["code"].shape != start.shape:
        raise ValueError(f"a state of {tuple(rows['code'].shape)}, codes {tuple(start.shape)}")
    for generator, known in zip(randomness, rows["generators"], strict=True):
        generator.set_state(known.clone())  # torch reads it where a tensor of its own would lie
    there = {name: rows[name].to(start.device) for name in _KEPT}
    marks = {k.removeprefix("update."): v for k, v in rows.items() if k.startswith("update.")}
    update.resume(there["code"], marks, state["step"])
    return _Climb(state["step"], **there)


@dataclass(frozen=True)
class _Decoding:
    image: Image
    code: Tensor

    def __call__(self) -> Tensor:
        with torch.no_grad():
            return self.image.decode(self.code)


@dataclass(frozen=True)
class _Gradients:
    """Values (N,) without penalties and with them (as far as these count in the value's own units),
    gradients with respect to codes and to images, and which are not all 0."""

    values: Tensor
    totals: Tensor
    code: Tensor
    images: Tensor
    alive: Tensor


@dataclass
class _Ascent:
    model: Model
    objectives: Sequence[Objective]
    image: Image
    randomness: Sequence[torch.Generator]
    recipe: Recipe
    limit: int
    backs_off: bool = False

    def slope(self, code: Tensor, number: int) -> _Gradients:
        """Go through the rows in as many parts as memory asks for."""
        states = [generator.get_state() for generator in self.randomness]

        def rewind(rows: slice) -> None:
            for generator, state in zip(self.randomness[rows], states[rows], strict=True):
                generator.set_state(state)

        parts, self.limit = in_batches(
            len(code),
            self.limit,
            lambda rows: self._part(code[rows], rows, number),
            self.model,
            rewind,
        )
        columns = zip(
            *((p.values, p.totals, p.code, p.images, p.alive) for p in parts), strict=True
        )
        return _Gradients(*(torch.cat(column) for column in columns))

    def _part(self, code: Tensor, rows: slice, number: int) -> _Gradients:
        objectives, randomness = self.objectives[rows], self.randomness[rows]
        code = code.detach().requires_grad_()
        images = self.image.decode(code)  # (N, C, h, w)
        views = self.recipe.transform.at((number - 1) / max(self.recipe.steps - 1, 1))
        values, gradient, alive = self._followed(images.detach(), objectives, randomness, views)
        self._check(values, gradient, objectives, number)
        followed, penalties = self._regularized(images.detach(), gradient, randomness)
        (slope,) = torch.autograd.grad(images, code, followed)
        return _Gradients(values, values - penalties, slope, gradient, alive)

    def _followed(
        self,
        images: Tensor,
        objectives: Sequence[Objective],
        randomness: Sequence[torch.Generator],
        views: Views,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means over views of values, of their gradients by the images; which are not all 0."""
        parts, left = [], self.recipe.views
        while left:
            count = min(left, max(1, self.limit // len(images)))
            found = self._viewed(
                images.repeat_interleave(count, 0),
                [one for one in objectives for _ in range(count)],
                [one for one in randomness for _ in range(count)],
                views,
            )
            parts.append([one.reshape(len(images), count, *one.shape[1:]) for one in found])
            left -= count
        values, gradient, alive = (torch.cat(column, 1) for column in zip(*parts, strict=True))
        return values.mean(1), gradient.mean(1), alive.any(1)

    def _viewed(
        self,
        images: Tensor,
        objectives: Sequence[Objective],
        randomness: Sequence[torch.Generator],
        views: Views,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values of one view of each image, their gradients by the images, which are not 0."""
        images.requires_grad_()
        size = self.model.preprocess.size
        viewed = views(images, size, randomness)  # (N, C, H, W)
        seen = viewed.detach().requires_grad_()
        values = evaluate(self.model, objectives, self.model.preprocess.normalize(seen))
        gradient = _gradient(values, seen)
        dead = (gradient == 0).flatten(1).all(1)
        if dead.any():  # a unit that sleeps is woken, whenever it falls asleep
            gradient[dead] = self._awakened(seen.detach()[dead], objectives, dead)
            dead = (gradient == 0).flatten(1).all(1)
        if viewed is not images:
            (gradient,) = torch.autograd.grad(viewed, images, gradient)
        return values.detach(), gradient, ~dead

    def _awakened(self, seen: Tensor, objectives: Sequence[Objective], dead: Tensor) -> Tensor:
        seen = seen.requires_grad_()
        asleep = [o for o, is_dead in zip(objectives, dead.tolist(), strict=True) if is_dead]
        values = evaluate(self.model, asleep, self.model.preprocess.normalize(seen))
        with WakingRectifiers():
            return _gradient(values, seen)

    def _regularized(
        self, images: Tensor, gradient: Tensor, randomness: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Gradients to follow; what penalties take off the values (0 where they are relative)."""
        nothing = gradient.new_zeros(len(gradient))
        if self.recipe.gradient_filter:
            gradient = self.recipe.gradient_filter(gradient, randomness)
        if not self.recipe.penalties:
            return gradient, nothing
        images = images.requires_grad_()
        penalty = sum(p.weight * p.value(images) for p in self.recipe.penalties)
        assert isinstance(penalty, Tensor)
        (against,) = torch.autograd.grad(penalty.sum(), images)
        if self.recipe.relative:
            return unit_size(gradient) - against * images[0].numel(), nothing
        return gradient - against, penalty.detach()

    def _check(
        self, values: Tensor, gradient: Tensor, objectives: Sequence[Objective], number: int
    ) -> None:
        sound = values.isfinite() & gradient.flatten(1).isfinite().all(1)
        if not sound.all() and not (self.backs_off and number > 1):
            wrong = objectives[int((~sound).nonzero()[0])].name
            raise CnnlensError(
                f"{wrong} is not finite at step {number}"
                if number > 1
                else f"{wrong} is not finite: the network's own values are not",
                "try a smaller --lr" if number > 1 else "check its weights and the preprocessing",
            )

    def edited(self, code: Tensor, gradient: Tensor, number: int) -> Tensor:
        """Edit the images behind the codes."""
        with torch.no_grad():
            images = self.image.decode(code)
            mean = mean_colour(self.model).to(images)
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

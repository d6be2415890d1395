"""The loop: images climb their objectives, and whoever iterates decides what to draw, save or stop.

All images climb at once, but each alone: its randomness comes from its own generator, and nothing
of the others enters it. Only rounding may differ with them: libraries choose kernels by the size of
a batch (oneDNN has others for one image than for two), and from a last digit that differs many
steps lead to another image of the same objective.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnlens.model.gradients import with_gradients
from cnnlens.model.model import Model
from cnnlens.progress import Step
from cnnlens.synthesize.image import Image
from cnnlens.synthesize.objective import Objective
from cnnlens.synthesize.slope import Gradients, Recipe, Slopes
from cnnlens.synthesize.update import Adam, Update


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


def generators(seed: int, objectives: Sequence[Objective]) -> list[torch.Generator]:
    """One generator per objective, seeded by `seed` and the objective's name."""
    made = []
    for objective in objectives:
        digest = hashlib.sha256(f"{seed}\0{objective.name}".encode()).digest()
        made.append(torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1))
    return made


@with_gradients
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
        Images in the network at once; halves itself when memory runs out, with the same result but
        for rounding.
    state : mapping, optional
        Where an equal ascent stopped (see `AscentStep.state`): it goes on from there, and ends as
        one that never stopped, beside the same others.

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
        slopes = Slopes(model, objectives, image, randomness, recipe, limit, backs_off)
        code = image.kept(start.to(model.device))
        climb = _Climb.begun(code, image.shape)
        if state is not None:
            climb = _resumed(state, code, randomness, update)
            slopes.asleep = _asleep(state)
        yield from _climbed(slopes, climb, update)


def _climbed(slopes: Slopes, climb: _Climb, update: Update) -> Iterator[AscentStep]:
    """Go on from where a climb is, step by step."""
    recipe, image = slopes.recipe, slopes.image
    for number in range(climb.number + 1, recipe.steps + 1):
        slope = slopes(climb.code, number)
        code = image.kept(update(climb.code, slope.code, slope.totals))
        if recipe.edits.is_due(number):
            code = slopes.edited(code, slope.images, number)
        climb = climb.after(number, slope, code)
        known = _State(climb, slopes.randomness, update, frozenset(slopes.asleep))
        yield _step(recipe.steps, image, slope, climb, known)


def _step(total: int, image: Image, slope: Gradients, climb: _Climb, state: _State) -> AscentStep:
    """Say how far an ascent is."""
    return AscentStep(
        climb.number,
        total,
        unit="steps",
        values=slope.values,
        alive=climb.alive,
        images=_Decoding(image, climb.code),
        code=climb.code,
        touched=climb.touched,
        best=_Decoding(image, climb.best),
        state=state,
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

    def after(self, number: int, slope: Gradients, code: Tensor) -> _Climb:
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
    asleep: frozenset[int]

    def __call__(self) -> dict[str, Any]:
        rows = {
            **self.climb.rows,
            "generators": torch.stack([generator.get_state() for generator in self.randomness]),
            "asleep": torch.tensor([row in self.asleep for row in range(len(self.climb.code))]),
            **{f"update.{name}": value for name, value in self.update.state().items()},
        }
        rows = {name: value.detach().cpu().clone() for name, value in rows.items()}
        return {"step": self.climb.number, "rows": rows}


def _asleep(state: Mapping[str, Any]) -> set[int]:
    """Rows that had no gradient when they were last looked at."""
    return {row for row, is_asleep in enumerate(state["rows"].get("asleep", ())) if is_asleep}


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

"""From a unit, a position, a layer or a class to the objectives of its picture.

A unit's picture is optimized for one thing (`TARGETS`) and measured by another: its highest
activation, which can be compared with photos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnlens.data.picture_names import fitting
from cnnlens.model.classes import before_softmax, class_name, find_class
from cnnlens.model.layer import Layer, file_name
from cnnlens.model.model import Model
from cnnlens.model.trace import Place
from cnnlens.synthesize.answers import score_place
from cnnlens.synthesize.objective import (
    OUTPUT,
    Objective,
    along,
    channel,
    logit,
    peak,
    response,
    scores,
    unit,
    whole,
)

# what of a unit is made large
TARGETS: dict[str, Callable[[Layer, int], Objective]] = {
    "map": response,
    "mean": channel,
    "max": peak,
    "centre": unit,
}


@dataclass(frozen=True)
class Goal:
    """What one picture is to show.

    Attributes
    ----------
    name : str
        The picture's: ``12``, ``12@6,6``, ``layer``, ``logit-tiger``.
    objective : Objective
        What it is optimized for.
    activation : Objective
        What is measured of it in the end.
    about : dict
        "unit" (None for a layer or a class); "position", "class", "class_index" and "variant" where
        they are.
    variant : int
        The how manieth image of the same thing.
    """

    name: str
    objective: Objective
    activation: Objective
    about: dict[str, Any]
    variant: int = 1

    @property
    def scores_at(self) -> dict[str, Any]:
        """Where the scores of its class are, where the network does not return them itself."""
        (*_, at) = self.objective.places
        return {"scores_at": at.key} if self.objective.of_class and at is not OUTPUT else {}

    def variants(self, count: int) -> list[Goal]:
        """It and its further images, which differ from those before: ``12``, ``12~2``, …"""
        more = range(2, count + 1)
        return [self] + [
            replace(self, name=f"{self.name}~{n}", about=self.about | {"variant": n}, variant=n)
            for n in more
        ]


def unit_goals(
    layer: Layer,
    units: Sequence[int] | None,
    position: tuple[int, int] | None = None,
    target: str = "map",
) -> list[Goal]:
    """Make the goals of an address.

    Parameters
    ----------
    layer : Layer
        Where.
    units : sequence of int or None
        Which; None: the layer as a whole.
    position : (int, int), optional
        Row and column in the layer's maps; left out: what `target` says.
    target : str
        One of `TARGETS`.
    """
    if units is None:
        return [Goal("layer", whole(layer), whole(layer), {"unit": None})]
    if position is None:
        return [Goal(str(u), TARGETS[target](layer, u), peak(layer, u), {"unit": u}) for u in units]
    name, goals = f"{position[0]},{position[1]}", []
    for number in units:
        here = unit(layer, number, position)
        about = {"unit": number, "position": list(position)}
        goals.append(Goal(f"{number}@{name}", here, here, about))
    return goals


def concept_goal(
    layer: Layer, name: str, file: str, direction: np.ndarray, target: str = "map"
) -> Goal:
    """Make the goal of a concept, which is a direction (C,) over a layer's units.

    Parameters
    ----------
    layer : Layer
        Where.
    name, file : str
        ``category:label``, and the picture's name.
    direction : numpy.ndarray
        (C,) float32.
    target : str
        One of `TARGETS`.
    """
    optimized, measured = (along(layer, direction, name, of) for of in (target, "max"))
    return Goal(file, optimized, measured, {"unit": None, "concept": name})


def class_goals(model: Model, classes: Sequence[str], rivals: float = 0.0) -> list[Goal]:
    """Make the goals of classes, by name or number, each once; `rivals` as in `logit`.

    Raises
    ------
    UsageError
        For a class that the network does not have.
    CnnlensError
        When the network does not take the input, or has no class scores.
    """
    if not classes:
        return []
    at, count = score_place(model) or OUTPUT, len(scores(model))
    numbers = dict.fromkeys(find_class(text, model.classes, count) for text in classes)
    return [_class_goal(model, number, rivals, at) for number in numbers]


def _class_goal(model: Model, number: int, rivals: float, at: Place) -> Goal:
    name = class_name(number, model.classes)
    file = file_name(name)
    if [file_name(other) for other in model.classes or ()].count(file) > 1:
        file = f"{file}-{number}"  # other classes' names look the same
    score, distinct = logit(number, name, at=at), logit(number, name, rivals, at)
    about = {"unit": None, "class": name, "class_index": number}
    return Goal(fitting(f"logit-{file}"), distinct, score, about)


_SHARES = (
    "the network returns probabilities, and where it makes them of scores is not found: pictures "
    "of classes climb the probabilities, which come to rest at 1"
)


def shares_said(model: Model, goals: Sequence[Goal]) -> str:
    """Say that goals of classes are probabilities, where no scores were found that these are made
    of; else empty.
    """
    if not any(OUTPUT in goal.objective.places for goal in goals):
        return ""
    found = scores(model)[None].detach().cpu().numpy()
    return "" if before_softmax(found) is found else _SHARES

"""What activation maximization does where its settings leave it open, as the loop takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnlens.model.model import Model
from cnnlens.settings import VisualizeSettings
from cnnlens.synthesize.generator import Generated, Generator
from cnnlens.synthesize.image import Fourier, Image, Pixels
from cnnlens.synthesize.maco import (
    CROPS,
    CROPS_RATE,
    RATE,
    VIEWS,
    Crops,
    Phases,
    Spectrum,
    usual_spectrum,
)
from cnnlens.synthesize.objective import Objective
from cnnlens.synthesize.regularize import (
    Edits,
    GradientFilter,
    Penalty,
    alpha_norm,
    total_variation,
)
from cnnlens.synthesize.slope import Recipe
from cnnlens.synthesize.transform import Transform
from cnnlens.synthesize.update import UPDATES, Ascent, Decaying, NAdam, Update

_FADING = 0.4  # cycles per pixel

# What of the settings is None, by what is drawn. What sees the whole input is drawn as a scene:
# shapes count, which stay what they are when they are moved, turned and seen from nearer. A class
# is what other networks know, too: it must hold from near and from far. A unit that sees a patch
# answers to its very texture. Jitter is in sides of the input.
_USUAL: dict[str, dict[str, Any]] = {
    "patch": {"lr": 0.3, "falloff": 1.1, "jitter": 1 / 11, "rotate": 4.0, "scale": 0.05},
    "scene": {"lr": 0.2, "falloff": 1.7, "jitter": 1 / 5.6, "rotate": 12.0, "scale": 0.35},
    "class": {"lr": 0.15, "falloff": 1.75, "jitter": 1 / 5.6, "rotate": 16.0, "scale": 0.6},
}
_VIEWS = {"patch": 1, "scene": 1, "class": 2}
# A generator's image stays where it is, as in the paper: all that it can make looks like photos.
# Steps that are much larger would outrun the decay, and leave every code at its bounds: harsh
# contrasts; of much smaller ones the network is less sure.
_OF_CODES = {"lr": 0.012, "views": 1, "jitter": 0.0, "rotate": 0.0, "scale": 0.0}
_STEEPER, _STEEPEST = 0.18, 1.9  # falloff for each halving of 224 px; at most


def kind_of(objective: Objective) -> str:
    """Tell what a picture is of: a "class", a unit that sees the whole "scene", or a "patch"."""
    if objective.of_class:
        return "class"
    return "scene" if math.isinf(objective.sees) else "patch"


def completed(model: Model, settings: VisualizeSettings, objective: Objective) -> VisualizeSettings:
    """Fill in what is left to the network and to what is drawn."""
    kind, side = kind_of(objective), min(model.preprocess.size)
    found = {**_USUAL[kind], "views": _VIEWS[kind]}
    found["jitter"] *= side
    steeper = found["falloff"] + _STEEPER * math.log2(224 / side)
    found["falloff"] = min(max(steeper, 1.0), _STEEPEST)
    if settings.method == "maco":  # its spectrum and its views are not to be chosen
        large = min(image_size(model, settings)) > side
        found = {"lr": CROPS_RATE, "views": CROPS} if large else {"lr": RATE, "views": VIEWS}
    if settings.method == "generator":
        found = dict(_OF_CODES)
    found |= {"steps": settings.climb, "rivals": settings.rivalry}
    missing = {name: value for name, value in found.items() if getattr(settings, name) is None}
    return replace(settings, **missing)


def made_with(model: Model, settings: VisualizeSettings, objective: Objective) -> dict[str, Any]:
    """Give everything that decides an objective's picture, as plain values."""
    used = completed(model, settings, objective).as_dict()
    if kind_of(objective) != "class":  # nothing competes
        del used["rivals"]
    if settings.method != "generator":
        del used["code_decay"]
    if used["contrast"] is None and settings.method == "pixels":
        used["contrast"] = float(bounds(model, [objective], None)[0])
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in used.items()}


def update_of(settings: VisualizeSettings) -> Update:
    """Choose what makes a step of a gradient."""
    assert settings.lr is not None
    if settings.method == "generator":
        return Decaying(Ascent(settings.lr), settings.code_decay)
    kind = NAdam if settings.method == "maco" else UPDATES[settings.update]
    return kind(settings.lr)


def recipe(settings: VisualizeSettings) -> Recipe:
    """Translate completed settings into what the loop takes."""
    if settings.method == "maco":
        return Recipe(settings.climb, Crops(), views=settings.views or VIEWS)
    weights = (
        Penalty("total variation", settings.tv, partial(total_variation, beta=settings.beta)),
        Penalty("α-norm", settings.alpha, alpha_norm),
    )
    return Recipe(
        steps=settings.climb,
        transform=Transform(settings.jitter or 0, settings.scale or 0, settings.rotate or 0),
        views=settings.views or 1,
        penalties=tuple(penalty for penalty in weights if penalty.weight),
        relative=True,
        edits=Edits(
            settings.l2,
            settings.blur,
            settings.blur_every,
            settings.clip,
            settings.clip_contributions,
        ),
        gradient_filter=GradientFilter(
            settings.gradient_blur, settings.gradient_shift, settings.gradient_rotate
        ),
    )


Prior = Spectrum | Generator  # what an image takes from photos


def image_of(model: Model, settings: VisualizeSettings, prior: Prior | None = None) -> Image:
    """Return what is optimized: the settings' basis, at the settings' size; or what `prior` says.

    Raises
    ------
    ValueError
        When the method needs a generator, and there is none.
    """
    shape = (model.preprocess.channels, *image_size(model, settings))
    if isinstance(prior, Generator):
        return Generated(shape, prior, model)
    if settings.method == "generator":
        raise ValueError("method 'generator' needs a generator")
    if settings.method == "maco":
        return Phases(shape, prior or usual_spectrum(shape))
    if settings.basis == "pixels":
        return Pixels(shape)
    return Fourier(shape, settings.falloff or 0, fading=_FADING)


# largest contrast of a scene's image, and the share of it that colour may have
_LIGHT = {"scene": (1.4, 0.4), "class": (1.7, 0.25)}


def bounds(
    model: Model, objectives: Sequence[Objective], contrast: float | None
) -> tuple[Tensor, Tensor]:
    """Largest contrast of each objective's image and of the colour in it, (N,) each.

    What sees the whole input composes a scene, which looks best in about a photo's contrast and
    colours. What sees a small patch answers to the contrast of a texture, and to little else.
    """
    side = min(model.preprocess.size)
    sight = torch.tensor([min(1.0, objective.sees / side) for objective in objectives]).sqrt()
    kinds = [kind_of(objective) for objective in objectives]
    most = 2.25 - 1.05 * sight
    hue = 0.95 - 0.55 * sight
    for kind, (contrast_of_kind, hue_of_kind) in _LIGHT.items():
        rows = torch.tensor([each == kind for each in kinds])
        most[rows], hue[rows] = contrast_of_kind, hue_of_kind
    most = most if contrast is None else torch.full_like(most, contrast)
    return most, most * hue


def image_size(model: Model, settings: VisualizeSettings) -> tuple[int, int]:
    """Height and width of the image that is optimized, in the proportions of the input."""
    height, width = model.preprocess.size
    short = min(height, width)
    wanted = settings.size or short
    return round(height * wanted / short), round(width * wanted / short)

"""Inversion: the picture that a layer answers as it answered a photo, and nothing more.

Minimizes over pictures x in [0, 1], with β = 2, α = 6 and both norms as means over the pixels,

    E + w·(P − Q) + L·Q,    E = ‖Φ(x) − Φ0‖²/‖Φ0‖²,    w = L·E/(E + m·L),
    P = s·(f_TV·t + f_α·(α + 1)·‖2x − 1‖_α^α),    t = TV_β(x)/TV_β(photo),
    Q = s·f_TV·(t − 1)²/t where t > 1, else 0,

where L is what the flat picture costs (1 where a layer answers grey with nothing), s is `SHARE`, m
is `MET`, f are the user's factors, and 1/(α + 1) is the norm of uniform noise. At first w is about
L: a picture as detailed as the photo pays the share s of what a picture without anything pays in
features. Once the answer is met better than m·L, w falls with E. So the regularizers leave no trace
where the layer determines its input: white comes back as white. They stay where the answer cannot
be met, since the layer is deep or (of a perturbed answer) no picture gives it; and where it is met
and pixels are left open all the same, more detail than the photo's own never becomes cheaper (Q).
Scaling the layer, its position in the network or the size of the picture change nothing. Searched
with L-BFGS, which only ever takes steps that lower the sum, in the Fourier code (`image.Fourier`),
in which all scales of natural images are equally easy to reach.

References
----------
Mahendran and Vedaldi: Understanding Deep Image Representations by Inverting Them, CVPR 2015.
van den Berg, Abubakar and Fokkema: Multiplicative Regularization for Contrast Profile Inversion,
Radio Science 38, 2003 (regularizers weighed by the error that is left).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.gradients import with_gradients
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.streams import exact, look_every
from cnnlens.progress import Step, Words
from cnnlens.settings import InvertSettings
from cnnlens.synthesize.examples import as_planes
from cnnlens.synthesize.image import Fourier
from cnnlens.synthesize.lbfgs import LBFGS
from cnnlens.synthesize.objective import Objective, custom, read_images
from cnnlens.synthesize.optimize import generators, optimize
from cnnlens.synthesize.regularize import alpha_norm, total_variation
from cnnlens.synthesize.slope import Recipe

BETA, ALPHA = 2.0, 6.0
SHARE, MET = 0.02, 0.01
SEARCH = 2  # counts changes of what is minimized: pictures that an earlier search made are stale
_NOISE = 0.01  # deviation of the code that the search starts from
ROUNDING = 2 / 255**2  # total variation of one step of an 8-bit pixel: no photo counts as flatter


@dataclass(frozen=True, kw_only=True)
class InversionStep(Step):
    """Where the search stands: `done` and `total` count passes through the network, at most.

    Attributes
    ----------
    numbers : torch.Tensor
        (4,), where they were computed: `error`, `objective`, `taken`, `is_done`, each a property
        that waits for the device. Where that is not the CPU, a search goes on for some steps after
        it is done, and finds nothing.
    image : callable
        Gives the best picture so far, (C, H, W) in [0, 1]; nothing is computed before.
    """

    numbers: Tensor
    image: Callable[[], Tensor]

    @property
    def error(self) -> float:
        """‖Φ(x) − Φ0‖/‖Φ0‖ of the best picture so far, before this step where not `taken`."""
        return float(self.numbers[0])

    @property
    def objective(self) -> float:
        """What is minimized, of the same picture. Never rises."""
        return float(self.numbers[1])

    @property
    def taken(self) -> bool:
        """Whether this step's trial was better."""
        return bool(self.numbers[2])

    @property
    def is_done(self) -> bool:
        """Whether no step can be better any more."""
        return bool(self.numbers[3])


@dataclass(frozen=True)
class Errors:
    """How far a picture is from a photo.

    Attributes
    ----------
    features : float
        ‖Φ − Φ0‖/‖Φ0‖.
    pairs : float or None
        ‖Φ − Φ0‖ over the mean distance of pairs of images; None where there is no pair.
    pixels : float
        Root mean square difference of the pixels, in units of their range.
    """

    features: float
    pairs: float | None
    pixels: float


def input_plane(model: Model, pixels: Tensor) -> Tensor:
    """Pixels (c, H, W) uint8, or float in [0, 1], as the picture (C, H, W) in [0, 1] with the
    network's channels.
    """
    return as_planes(pixels.to(model.device), model.preprocess.channels)


def features(model: Model, layer: Layer, image: Tensor) -> Tensor:
    """Read a layer's answer (C', H', W') to a picture (C, H, W) in [0, 1]."""
    with torch.no_grad(), model.in_use():
        x = model.preprocess.normalize(image.to(model.device)[None])
        return read_images(model, [layer.place], x)[0][layer.place].detach().clone()


def check_target(target: Tensor, layer: str, image: str) -> None:
    """Raise CnnlensError where a layer's answer leaves nothing to invert."""
    if not target.isfinite().all():
        raise CnnlensError(
            f"{layer} is not finite for {image}", "check the weights and the preprocessing"
        )
    if not target.any():
        raise CnnlensError(
            f"every activation of {layer} is 0 for {image}: nothing of it is left to invert",
            "name another layer with -l (`cnnlens layers` lists them), or another image",
        )


@with_gradients
def invert(
    model: Model, layer: Layer, target: Tensor, photo: Tensor, settings: InvertSettings
) -> Iterator[InversionStep]:
    """Search for the picture that a layer answers with `target`.

    Parameters
    ----------
    model : Model
        The network.
    layer : Layer
        Where its answer is read.
    target : torch.Tensor
        (C', H', W'), the answer to be met, perturbed or not.
    photo : torch.Tensor
        (C, H, W) in [0, 1]; no more of it is used than its shape and its total variation.
    settings : InvertSettings
        Steps, length of the first step, factors of the regularizers, seed.

    Yields
    ------
    InversionStep
        After every pass through the network; ends early where no step is better any more.

    Raises
    ------
    CnnlensError
        When the target is 0, not finite or the same for any input, the network's answer to grey is
        not finite, or memory does not suffice.
    ValueError
        When the target is not of the layer's shape.
    """
    if tuple(target.shape) != tuple(layer.shape):
        raise ValueError(f"a target of {tuple(target.shape)} for {layer.name}, {layer.shape}")
    check_target(target, layer.name, "this image")
    goal = distance_to(layer, target)
    image = Fourier((photo.shape[0], photo.shape[1], photo.shape[2]))
    randomness = generators(settings.seed, [goal])
    start, answer = _start(model, layer, image, randomness)
    _check_depends(layer, answer, target)
    rule = LBFGS(settings.rate)
    flat = squared_error(answer, target)
    flat = flat if math.isfinite(flat) else 1.0  # the search itself will say what is wrong
    detail = max(float(total_variation(photo[None], BETA)), ROUNDING)
    faded = Faded(rule, image, settings.tv, settings.alpha, detail, flat)
    recipe, every = Recipe(settings.steps), look_every(model.device)
    error = torch.full((), math.nan, dtype=exact(model.device), device=model.device)
    for step in optimize(model, [goal], image, start, randomness, recipe, faded):
        value, took, done = rule.standing[0]
        found = (-step.values[0].detach().to(error)).clamp_min(0).sqrt()
        error = torch.where(took > 0, found, error)
        numbers = torch.stack([error, -value, took, done])
        yield InversionStep(
            step.done,
            step.total,
            unit="steps",
            note=_worded(numbers),
            numbers=numbers,
            image=_Best(image, rule),
        )
        if step.done % every == 0 and rule.is_done:
            return


def _worded(numbers: Tensor) -> Words:
    return Words(lambda: f"error {float(numbers[0]):.3f}")


def _start(
    model: Model, layer: Layer, image: Fourier, randomness: list[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Nearly grey noise and the layer's answer; more of it where grey leaves the layer dead."""
    for deviation in (_NOISE, 10 * _NOISE, 100 * _NOISE):
        start = image.noise(randomness, deviation)
        answer = features(model, layer, image.decode(start)[0])
        if answer.any():
            break
    return start, answer


def _check_depends(layer: Layer, to_noise: Tensor, target: Tensor) -> None:
    if torch.equal(to_noise.to(target), target):
        raise CnnlensError(
            f"{layer.name} answers noise as it answers the photo: it does not depend on the input",
            "choose a layer that the input reaches",
        )


@dataclass(frozen=True)
class _Best:
    image: Fourier
    rule: LBFGS

    def __call__(self) -> Tensor:
        with torch.no_grad():
            return self.image.decode(self.rule.accepted)[0]


def distance_to(layer: Layer, target: Tensor) -> Objective:
    """Objective: −‖Φ(x) − Φ0‖²/‖Φ0‖²."""
    return custom(layer, lambda maps: -_squared_error(maps, target), f"{layer.name} inverted")


def _squared_error(maps: Tensor, target: Tensor) -> Tensor:
    return (maps - target).square().sum() / target.square().sum()


def squared_error(maps: Tensor, target: Tensor) -> float:
    """‖Φ − Φ0‖²/‖Φ0‖²."""
    return float(_squared_error(maps.cpu().double(), target.cpu().double()))


@dataclass(frozen=True)
class Faded:
    """An update rule for E + w·(P − Q) + L·Q that is handed −E and its gradient (see the module).

    Attributes
    ----------
    rule : LBFGS
        What is handed the sum.
    image : Fourier
        How pictures are coded.
    tv, alpha : float
        Factors of the regularizers; 0 leaves one out.
    detail : float
        Total variation of the photo.
    flat : float
        What the flat picture costs, ‖Φ(flat) − Φ0‖²/‖Φ0‖².
    """

    rule: LBFGS
    image: Fourier
    tv: float
    alpha: float
    detail: float
    flat: float
    backs_off: ClassVar[bool] = True

    def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Return new codes."""
        if not (self.tv or self.alpha):
            return self.rule(code, gradient, values)
        error = -values  # (N,)
        share = MET * self.flat / (error + MET * self.flat)
        weight = self.flat * (1 - share)
        code = code.detach().requires_grad_()
        price, kept = self.prices(self.image.decode(code))  # (N,)
        fading = price - kept
        total = weight * fading + self.flat * kept
        (slope,) = torch.autograd.grad(total.sum(), code)
        rise = 1 + fading.detach() * share.square() / MET  # of the sum, by the error
        along = rise.reshape(-1, *[1] * (code.ndim - 1)) * gradient - slope
        return self.rule(code.detach(), along, values - total.detach())

    def prices(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """P, and Q, which does not fade, of images (N, C, H, W): (N,) each."""
        detail = total_variation(images, BETA) / self.detail
        excess = (detail - 1).clamp_min(0).square() / detail.clamp_min(1)
        norm = (ALPHA + 1) * alpha_norm(images, ALPHA)
        kept = SHARE * self.tv * excess
        return SHARE * (self.tv * detail + self.alpha * norm), kept


def compare(
    model: Model, layer: Layer, image: Tensor, photo: Tensor, target: Tensor, pairs: float | None
) -> Errors:
    """Measure a picture against a photo (both (C, H, W) in [0, 1]) whose answer is `target`."""
    relative = _root(squared_error(features(model, layer, image), target))
    distance = relative * length(target)
    return Errors(
        features=relative,
        pairs=distance / pairs if pairs else None,
        pixels=float((image - photo.to(image)).square().mean().sqrt()),
    )


def length(answer: Tensor) -> float:
    """‖Φ‖."""
    return float(answer.cpu().double().norm())


def pair_distance(answers: np.ndarray) -> float | None:
    """Mean of ‖Φ(a) − Φ(b)‖ over all pairs of rows (N, …); None for fewer than two."""
    if len(answers) < 2:
        return None
    flat = torch.from_numpy(answers).flatten(1).double()  # (N, D)
    return float(torch.pdist(flat).mean())


def _root(value: float) -> float:
    return math.sqrt(max(value, 0.0))

"""Inputs that are optimized."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from cnnlens.errors import UsageError
from cnnlens.settings.base import Presets, Settings
from cnnlens.settings.option import option

_REGULARIZERS = "Regularizers"
_PLAIN: dict[str, Any] = {
    "basis": "pixels",
    "target": "mean",
    "update": "ascent",
    "noise": 0.05,
    "rivals": 0.0,
    "views": 1,
    "jitter": 0.0,
    "rotate": 0.0,
    "scale": 0.0,
    "lr": 0.01,
}

# The papers' settings, in steps of one size so that they mean the same on any network.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Erhan et al. 2009: ascent from noise, nothing else
    "erhan": {**_PLAIN},
    # Simonyan et al. 2013: from the mean image, L2 decay
    "simonyan": {**_PLAIN, "init": "mean", "l2": 0.01},
    # Yosinski et al. 2015: decay, blur every few steps, small pixels and contributions clipped
    "yosinski": {**_PLAIN, "l2": 0.0001, "blur": 1.0, "blur_every": 4, "steps": 512}
    | {"clip": 0.2, "clip_contributions": 0.2, "lr": 0.02},
    # Mahendran and Vedaldi 2015: total variation, 6-norm, jitter
    "mahendran": {**_PLAIN, "tv": 2.0, "alpha": 0.5, "jitter": 4.0},
    # Mordvintsev et al. 2015: jitter, from a photo where --init names one
    "deepdream": {**_PLAIN, "jitter": 32.0, "lr": 0.006, "steps": 128},
    # Dai 2020: the gradient is blurred, shifted and turned a little in each step
    "lifelike": {**_PLAIN, "noise": 0.02, "gradient_blur": 4.0}
    | {"gradient_shift": 2.0, "gradient_rotate": 3.0},
}


# what methods take of the settings that do not regularize an image themselves, and why not the rest
_TAKES = {
    "maco": ({"transparent", "size"}, "the spectrum of photos does their work"),
    "generator": (
        {"jitter", "rotate", "scale", "init", "code_decay"},
        "the generator does their work",
    ),
}
_ALL_TAKE = {"method", "steps", "lr", "views", "target", "rivals", "seed"}


@dataclass(frozen=True)
class VisualizeSettings(Settings):
    """Activation maximization.

    Attributes
    ----------
    method : str
        "pixels": all of an image; "maco": its phases, with the spectrum of photos; "generator": the
        code of a generator (`cnnlens.settings.generator` has its settings).
    views : int or None
        Views of an image in each step; None: 1, of a class 2; maco 4, of an image larger than the
        input 32; generator 1.
    transparent : bool
        maco: the picture has what counts little for the unit clear.
    steps : int or None
        Ascent steps; None: 256, generator 200.
    lr : float or None
        Adam's learning rate; for plain ascent the root mean square of a step, in units of the
        pixel range; for maco NAdam's, in radians; for a generator the root mean square of a step,
        in shares of the largest values that a code may have. None: here as in `falloff`,
        `contrast`, `jitter`, `rotate` and `scale`, what suits the network, and a class or a unit
        (`cnnlens.synthesize.usual.completed`); each picture's entry says what that was.
    size : int
        Shorter side of the image that is optimized, in pixels; 0: the input's.
    target : str
        What of a unit is made large: its "map" (the mean of its answers and the highest one), the
        "mean" alone, the highest alone ("max"), or the one at the map's "centre".
    rivals : float or None
        How much of the mean of the five highest scores of other classes is taken off a class's
        score on the way up (`cnnlens.synthesize.objective.logit`); 0: its score alone; None: 0.7,
        generator 1.
    basis : str
        What the image is made of: "fourier" (low frequencies first, decorrelated colours) or
        "pixels".
    falloff : float or None
        Exponent of the frequency that the Fourier code is divided by; 1 is natural images'.
    contrast : float or None
        Largest root mean square of what the Fourier image's sigmoid gets; at 1 an image has about
        the contrast of a photo; 0: no bound.
    update : str
        "adam", or "ascent": the gradient itself, at one step size.
    init : str
        "noise", "mean" (the mean colour), or an image's path.
    noise : float
        Deviation of the noise.
    jitter : float or None
        Largest shift of a view, in input pixels.
    rotate : float or None
        Largest angle of a view, in degrees.
    scale : float or None
        Largest relative change of size of a view.
    tv, beta : float
        Weight and exponent of the total variation. Weights count in units of the objective's own
        gradient, so that they mean the same on any network.
    alpha, l2 : float
        Weight of the α-norm (α = 6), and share of the contrast taken off in every step.
    blur : float
        Deviation of the Gaussian that the image is blurred with, in pixels.
    blur_every : int
        Steps between two blurs, and between two clippings.
    clip, clip_contributions : float
        Share of the pixels that become the mean colour: the palest, and those that matter least.
    gradient_blur, gradient_shift, gradient_rotate : float
        Largest random blur (pixels), shift (pixels) and angle (degrees) of the gradient.
    code_decay : float
        What is left of a generator's code after each step.
    seed : int
        Of everything random.
    """

    presets: ClassVar[Presets] = PRESETS

    method: str = option(
        "pixels",
        "What is optimized: all of an image, its phases with the spectrum of the workspace's "
        "photos (maco), or the code of a generator, which learns from them once.",
        choices=("pixels", "maco", "generator"),
    )
    views: int | None = option(
        None,
        "Views in each step.",
        least=1,
        shown="1, for classes 2, for maco 4, for generator 1",
        panel="Views",
    )
    transparent: bool = option(False, "maco: leave clear what counts little for the unit.")
    steps: int | None = option(
        None, "Ascent steps.", least=1, shown="256, for generator 200", panel="Steps"
    )
    lr: float | None = option(
        None,
        "Learning rate.",
        above=0,
        shown="0.3, for classes 0.15, for maco 0.4, for generator 0.012",
        panel="Steps",
    )
    size: int = option(
        0,
        "Shorter side of the image, in pixels; 0: the input's.",
        least=0,
        most=4096,
        panel="Steps",
    )
    target: str = option(
        "map",
        "What of a unit's map is made large: its mean and its highest activation (map), one of "
        "them, or the activation at its centre.",
        choices=("map", "mean", "max", "centre"),
    )
    rivals: float | None = option(
        None,
        "Share of its strongest rivals' mean score that counts against a class.",
        least=0,
        shown="0.7, for generator 1",
    )
    basis: str = option("fourier", "What the image is made of.", choices=("fourier", "pixels"))
    falloff: float | None = option(
        None,
        "Exponent of the frequency that the Fourier basis is divided by.",
        least=0,
        shown="1.1 at 224 px, for classes 1.75; more where the input is smaller",
    )
    contrast: float | None = option(
        None,
        "Largest contrast of the Fourier basis; 1: about a photo's, 0: no bound.",
        least=0,
        shown="1.2 for what sees the whole input, up to 2.25 for what sees little; classes 1.7",
    )
    update: str = option(
        "adam",
        "How the gradient is followed; ascent: as it is, at one step size.",
        choices=("adam", "ascent"),
        panel="Steps",
    )
    init: str = option("noise", "Where to start.", metavar="noise|mean|IMAGE")
    noise: float = option(0.01, "Deviation of the noise.", least=0)
    jitter: float | None = option(
        None,
        "Largest shift of a view, in pixels.",
        least=0,
        shown="an eleventh of the input's side, for classes more, or the preset's",
        panel="Views",
    )
    rotate: float | None = option(
        None,
        "Largest turn of a view, in degrees.",
        least=0,
        shown="4, for classes 16",
        panel="Views",
    )
    scale: float | None = option(
        None,
        "Largest change of size of a view, as a share.",
        least=0,
        below=1,
        shown="0.05, for classes 0.6",
        panel="Views",
    )
    tv: float = option(0.0, "Weight of the total variation.", least=0, panel=_REGULARIZERS)
    beta: float = option(2.0, "Its exponent.", least=0, panel=_REGULARIZERS)
    alpha: float = option(0.0, "Weight of the α-norm (α = 6).", least=0, panel=_REGULARIZERS)
    l2: float = option(
        0.0, "Share of the contrast taken off per step.", least=0, below=1, panel=_REGULARIZERS
    )
    blur: float = option(
        0.0, "Gaussian blur of the image, in pixels.", least=0, panel=_REGULARIZERS
    )
    blur_every: int = option(4, "Steps between blurs and clippings.", least=1, panel=_REGULARIZERS)
    clip: float = option(
        0.0, "Share of the palest pixels that are wiped out.", least=0, below=1, panel=_REGULARIZERS
    )
    clip_contributions: float = option(
        0.0,
        "Share of the least contributing pixels wiped out.",
        least=0,
        below=1,
        panel=_REGULARIZERS,
    )
    gradient_blur: float = option(
        0.0, "Largest random blur of the gradient, in pixels.", least=0, panel=_REGULARIZERS
    )
    gradient_shift: float = option(
        0.0, "Largest random shift of the gradient, in pixels.", least=0, panel=_REGULARIZERS
    )
    gradient_rotate: float = option(
        0.0, "Largest random turn of the gradient, in degrees.", least=0, panel=_REGULARIZERS
    )
    code_decay: float = option(
        0.99,
        "generator: what is left of a code after each step.",
        above=0,
        most=1,
        panel=_REGULARIZERS,
    )
    seed: int = option(0, "Seed of everything random.", least=0, panel="Run")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "pixels":
            return
        taken, instead = _TAKES[self.method]
        usual = {field.name: field.default for field in fields(self)}
        taken = taken | _ALL_TAKE
        more = [k for k, v in usual.items() if k not in taken and getattr(self, k) != v]
        if more:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in more)
            raise UsageError(
                f"--method {self.method} does not take {names}: {instead}",
                "leave them and the --preset that sets them out, or use --method pixels",
            )

    @property
    def climb(self) -> int:
        """How many steps it is, where that is left open."""
        return self.steps or (200 if self.method == "generator" else 256)

    @property
    def rivalry(self) -> float:
        """How much rivals count, where that is left open."""
        usual = 1.0 if self.method == "generator" else 0.7
        return usual if self.rivals is None else self.rivals


@dataclass(frozen=True)
class StyleSettings(Settings):
    """Style transfer (see `cnnlens.synthesize.style` for the formula).

    Attributes
    ----------
    content_weight, style_weight : float
        α and β, of relative losses.
    tv : float
        Factor on the automatic weight of the total variation.
    steps : int
        Passes through the network, forward and backward.
    init : str
        Start from the "content" or from "noise".
    size : int
        Shorter side of the picture, in pixels; 0: the network's input.
    seed : int
        Of the noise.
    """

    content_weight: float = option(1.0, "Weight of the content.", least=0)
    style_weight: float = option(15.0, "Weight of the style.", least=0)
    tv: float = option(1.0, "Factor on the automatic weight of total variation.", least=0)
    steps: int = option(200, "Passes through the network.", least=1)
    init: str = option("content", "Where to start.", choices=("content", "noise"))
    size: int = option(
        0, "Shorter side in pixels; 0: the network's input.", least=0, most=4096, panel="Output"
    )
    seed: int = option(0, "Seed of everything random.", least=0, panel="Run")

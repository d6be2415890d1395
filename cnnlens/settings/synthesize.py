"""Inputs that are optimized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.run import Settings, preset


@dataclass(frozen=True)
class VisualizeSettings(Settings):
    """Activation maximization.

    Attributes
    ----------
    steps : int
        Steps of the climb.
    lr : float
        Adam's learning rate; for plain ascent the root mean square of a step, in units of the
        pixel range.
    size : int
        Shorter side of the image that is optimized, in pixels; 0: the input's.
    target : str
        What of a unit is made large: its "map" (the mean of its answers and the highest one), the
        "mean" alone, the highest alone ("max"), or the one at the map's "centre".
    basis : str
        What the image is made of: "fourier" (low frequencies first, decorrelated colours) or
        "pixels".
    falloff : float
        Exponent of the frequency that the Fourier code is divided by; 1 is natural images'.
    update : str
        "adam", or "ascent": the gradient itself, at one step size.
    init : str
        "noise", "mean" (the mean colour), or an image's path.
    noise : float
        Deviation of the noise.
    jitter : float or None
        Largest shift of a view, in input pixels; None: a fourteenth of the input's shorter side.
    rotate : float
        Largest angle of a view, in degrees.
    scale : float
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
    seed : int
        Of everything random.
    """

    steps: int = 256
    lr: float = 0.1
    size: int = 0
    target: str = "map"
    basis: str = "fourier"
    falloff: float = 1.5
    update: str = "adam"
    init: str = "noise"
    noise: float = 0.01
    jitter: float | None = None
    rotate: float = 10.0
    scale: float = 0.1
    tv: float = 0.0
    beta: float = 2.0
    alpha: float = 0.0
    l2: float = 0.0
    blur: float = 0.0
    blur_every: int = 4
    clip: float = 0.0
    clip_contributions: float = 0.0
    gradient_blur: float = 0.0
    gradient_shift: float = 0.0
    gradient_rotate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _VISUALIZE_CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"--{name} {getattr(self, name)} is not known", f"choose {' or '.join(known)}"
                )
        for name, value in self.as_dict().items():
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise UsageError(f"--{_dashed(name)} {value} is not a number from 0 up")
        for name in ("clip", "clip_contributions", "l2", "scale"):
            if getattr(self, name) >= 1:
                raise UsageError(
                    f"--{_dashed(name)} {getattr(self, name)} is a share and must be below 1"
                )
        if self.steps < 1 or self.lr == 0 or self.blur_every < 1:
            raise UsageError("--steps, --lr and --blur-every must be above 0")
        if self.size > 4096:
            raise UsageError(f"--size {self.size} is too large", "4096 is the most")

    @classmethod
    def preset(cls, name: str, **given: Any) -> VisualizeSettings:
        """Build a preset's settings, with those `given` in its place where they are not None."""
        return cls.chosen(preset(PRESETS, name), **given)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


_VISUALIZE_CHOICES = {
    "target": ("map", "mean", "max", "centre"),
    "basis": ("fourier", "pixels"),
    "update": ("adam", "ascent"),
}
_PLAIN: dict[str, Any] = {
    "basis": "pixels",
    "target": "mean",
    "update": "ascent",
    "noise": 0.05,
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


@dataclass(frozen=True)
class InvertSettings(Settings):
    """Network inversion.

    Attributes
    ----------
    method : str
        "regularized": search for the picture by its gradient.
    perturb : str
        What becomes of the layer's answer first: "none", "binarize", "dropout", "drop-least".
    steps : int
        Passes through the network, forward and backward.
    lr : float
        Length of the first step (root mean square of the code's change); later ones find their own.
    tv, alpha : float
        Factors on the automatic weights of total variation and α-norm.
    seed : int
        Of the noise that the search starts from, and of the dropout.
    """

    method: str = "regularized"
    perturb: str = "none"
    steps: int = 400
    lr: float = 0.1
    tv: float = 1.0
    alpha: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method != "regularized":
            raise UsageError(f"--method {self.method} is not known", "the only one is regularized")
        if self.perturb not in ("none", "binarize", "dropout", "drop-least"):
            raise UsageError(
                f"--perturb {self.perturb} is not known",
                "choose none, binarize, dropout or drop-least",
            )
        if self.steps < 1:
            raise UsageError(f"--steps {self.steps} is not at least 1", "400 is usual")
        if not 0 < self.lr <= 10:  # beyond, the first step leaves black and white pixels alone
            raise UsageError(f"--lr {self.lr} is not between 0 and 10", "0.1 is usual")
        for name in ("tv", "alpha"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(
                    f"--{name} {getattr(self, name)} is no factor", "1 is usual, 0 leaves it out"
                )

"""How layers are inverted: by a search, or by a network that was trained to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.base import Settings
from cnnlens.settings.option import option

_PANEL = "Training (upconv)"
_LOOKS = 100_000  # at images, about, in a usual training
_FEWEST, _MOST = 5, 60  # epochs


def _training(default: Any, help: str, **more: Any) -> Any:
    return option(default, help, panel=_PANEL, **more)


@dataclass(frozen=True)
class InvertSettings(Settings):
    """Network inversion.

    Attributes
    ----------
    method : str
        "regularized": search for the picture by its gradient; "upconv": a network that was trained
        on the layer gives it.
    perturb : str
        What becomes of the layer's answer first: "none", "binarize", "dropout", "drop-least".
    steps : int
        Passes through the network, forward and backward.
    lr : float or None
        Length of the first step (root mean square of the code's change), None: `rate`; later ones
        find their own.
    tv, alpha : float
        Factors on the automatic weights of total variation and α-norm.
    seed : int
        Of the noise that the search starts from, and of the dropout.
    """

    method: str = option(
        "regularized",
        "How the picture is found: by a search, or by a network that is trained once per layer.",
        choices=("regularized", "upconv"),
    )
    perturb: str = option(
        "none",
        "Also invert the layer's answer with signs alone kept, half its values dropped at random, "
        "or half its maps, the least important ones.",
        choices=("none", "binarize", "dropout", "drop-least"),
    )
    steps: int = option(400, "Passes through the network.", least=1, hint="400 is usual")
    lr: float | None = option(  # beyond the most, the first step leaves black and white alone
        None,
        "Length of the first step, others follow; upconv: highest rate of Adam.",
        above=0,
        most=10,
        hint="0.1 is usual",
        shown="0.1; upconv 0.002",
    )
    tv: float = option(
        1.0,
        "Factor on the automatic weight of total variation.",
        least=0,
        hint="1 is usual, 0 leaves it out",
    )
    alpha: float = option(
        1.0,
        "Factor on the automatic weight of the α-norm.",
        least=0,
        hint="1 is usual, 0 leaves it out",
    )
    seed: int = option(0, "Seed of everything random.", least=0, panel="Run")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "upconv":
            _check_unused(self, ("steps", "tv", "alpha"), "upconv", "regularized")

    @property
    def rate(self) -> float:
        """Length of the first step."""
        return self.lr or 0.1


@dataclass(frozen=True)
class UpconvSettings(Settings):
    """Training of an up-convolutional network (see `cnnlens.synthesize.training`).

    Attributes
    ----------
    epochs : int or None
        Passes over the images, at most; None: as `passes` says.
    lr : float or None
        Highest rate of Adam; None: `rate`.
    width : int
        Channels at half of the image's size, twice as many at each smaller one.
    validation : float
        Share of the images held out, where the data has no splits of its own.
    amp : bool
        Whether a GPU trains in mixed precision.
    seed : int
        Of weights, order and the split.
    """

    epochs: int | None = _training(
        None,
        "Passes over the images.",
        least=1,
        shown=f"about {_LOOKS:,} images in all, {_FEWEST} to {_MOST} passes",
    )
    lr: float | None = option(None, "Highest rate of Adam.", above=0, most=10)
    width: int = _training(
        32, "Channels at half the image's size; doubles at each smaller one.", least=1, most=256
    )
    validation: float = _training(
        1 / 6, "Share of the images held out, where no split is.", above=0, below=1, shown="a sixth"
    )
    amp: bool = _training(True, "Train in mixed precision on a GPU.")
    seed: int = option(0, "Seed of everything random.", least=0, panel="Run")

    @property
    def rate(self) -> float:
        """Highest rate of Adam."""
        return self.lr or 2e-3

    def passes(self, images: int) -> int:
        """Epochs for so many images."""
        return self.epochs or max(_FEWEST, min(_MOST, round(_LOOKS / images)))

    def check_used(self, method: str) -> None:
        """Raise UsageError where it says something that the method makes no use of."""
        if method != "upconv":
            _check_unused(self, ("epochs", "width", "validation", "amp"), method, "upconv")


def _check_unused(settings: Settings, names: tuple[str, ...], method: str, other: str) -> None:
    usual = type(settings)()
    if given := [name for name in names if getattr(settings, name) != getattr(usual, name)]:
        flags = ", ".join(f"--{name}" for name in given)
        raise UsageError(
            f"--method {method} does not take {flags}", f"leave it, or use --method {other}"
        )

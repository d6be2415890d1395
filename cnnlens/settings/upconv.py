"""How an up-convolutional network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.settings.option import option
from cnnlens.settings.run import Settings

_PANEL = "Training (upconv)"
_LOOKS = 100_000  # at images, about, in a usual training
_FEWEST, _MOST = 5, 60  # epochs


def _training(default: Any, help: str, **more: Any) -> Any:
    return option(default, help, panel=_PANEL, **more)


@dataclass(frozen=True)
class UpconvSettings(Settings):
    """Training of an up-convolutional network (see `cnnlens.synthesize.training`).

    Attributes
    ----------
    epochs : int or None
        Passes over the images, at most; None: as `passes` says.
    lr : float
        Highest rate of Adam.
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
    lr: float = option(1e-3, "Highest rate of Adam.", above=0, most=10)
    width: int = _training(
        32, "Channels at half the image's size; doubles at each smaller one.", least=1, most=256
    )
    validation: float = _training(
        1 / 6, "Share of the images held out, where no split is.", above=0, below=1, shown="a sixth"
    )
    amp: bool = _training(True, "Train in mixed precision on a GPU.")
    seed: int = option(0, "Seed of everything random.", least=0, panel="Run")

    def passes(self, images: int) -> int:
        """Epochs for so many images."""
        return self.epochs or max(_FEWEST, min(_MOST, round(_LOOKS / images)))

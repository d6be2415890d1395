"""Style transfer."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.option import option
from cnnlens.settings.run import Settings


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

"""How a network is fooled."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option, seed_option


@dataclass(frozen=True)
class FoolSettings(Settings):
    """Fooling (see `cnnlens.synthesize.boundary` and `cnnlens.synthesize.fool`).

    Attributes
    ----------
    lr : float or None
        Root mean square of an ascent's step, in units of the pixel range; None: `rate`.
    steps : int
        Of an ascent, at most.
    confidence : float or None
        Probability of the class that ends an ascent; None: `until`.
    refine : int
        How often the smallest change is brought nearer, after DeepFool.
    maps : int
        Units of each layer whose maps are shown.
    seed : int
        Of noise.
    """

    lr: float | None = option(
        None,
        "Size of a step: root mean square over the image, pixels in [0, 1].",
        above=0,
        most=1,
        shown="0.0005, from noise 0.01",
    )
    steps: int = option(500, "Steps of the ascent, at most; DeepFool takes 50.", least=1)
    confidence: float | None = option(
        None,
        "How sure of its class the network is to become.",
        above=0,
        below=1,
        shown="0.99, from noise 0.9999",
    )
    refine: int = option(0, "Bring the smallest change nearer so many times.", least=0)
    maps: int = option(5, "Units of each layer to show: those that changed most.", least=1)
    seed: int = seed_option()

    def rate(self, from_noise: bool) -> float:
        """Size of a step."""
        return self.lr or (0.01 if from_noise else 0.0005)

    def until(self, from_noise: bool) -> float:
        """Probability that ends an ascent."""
        return self.confidence or (0.9999 if from_noise else 0.99)

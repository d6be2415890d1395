"""What is measured of units."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from cnnlens.errors import UsageError
from cnnlens.settings.run import Settings


@dataclass(frozen=True)
class DissectSettings(Settings):
    """Network Dissection.

    Attributes
    ----------
    quantile : float
        Share of a unit's activations that its mask keeps, over all images and positions.
    min_iou : float
        A unit whose best IoU reaches this is a detector.
    chance : int
        How often label maps are shuffled for the chance level; 0 for none.
    compat : str
        "ndlite" reproduces the older NetDissect-Lite's counting.
    top : int
        Images kept per unit, by peak activation.
    seed : int
        Of the shuffles.
    """

    quantile: float = 0.005
    min_iou: float = 0.04
    chance: int = 10
    compat: str = ""
    top: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise UsageError(f"--quantile {self.quantile} is not between 0 and 1", "try 0.005")
        if not 0 <= self.min_iou <= 1:
            raise UsageError(f"--min-iou {self.min_iou} is not between 0 and 1", "try 0.04")
        if self.chance < 0 or self.top < 0:
            raise UsageError("--chance and --top cannot be negative", "0 leaves them out")
        if self.compat not in ("", "ndlite"):
            raise UsageError(f"--compat {self.compat} is not known", "the only one is ndlite")

    @property
    def kept_share(self) -> Fraction:
        """The share of activations above the threshold, as an exact fraction."""
        if self.compat == "ndlite":  # its quantile level is 994/999
            return Fraction(5, 999) if self.quantile == 0.005 else Fraction(str(self.quantile))
        return Fraction(str(self.quantile))


@dataclass(frozen=True)
class CompareSettings(Settings):
    """Models side by side.

    Attributes
    ----------
    level : float
        Share of the intervals that cover, were the units drawn anew.
    resamples : int
        Of the bootstrap.
    top : int
        Units shown side by side per layer, where none are named.
    seed : int
        Of the resamples.
    """

    level: float = 0.95
    resamples: int = 2000
    top: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UsageError(f"--level {self.level} is not between 0 and 1", "0.95 is usual")
        if self.resamples < 100:
            raise UsageError(f"--resamples {self.resamples} is too few", "2000 is usual")
        if self.top < 0:
            raise UsageError(f"--top {self.top} cannot be negative", "0 shows no pictures")


@dataclass(frozen=True)
class StabilitySettings(Settings):
    """Location instability and part interpretability.

    Attributes
    ----------
    quantile : float
        Share of a unit's activations that its mask keeps.
    wide : float
        A second such share; 0: the mean part's share of the image.
    chance : int
        How often a unit's places are shuffled across images for the chance level and p-values.
    category : str
        A unit's category: that of the largest "mean" activation, or the paper's "minimum" of
        instability over categories.
    top : int
        Images shown per unit.
    seed : int
        Of shuffled and random places.
    """

    quantile: float = 0.005
    wide: float = 0.0
    chance: int = 100
    category: str = "mean"
    top: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise UsageError(f"--quantile {self.quantile} is not between 0 and 1", "try 0.005")
        if not 0 <= self.wide < 1:
            raise UsageError(f"--wide {self.wide} is not between 0 and 1", "0: a mean part's share")
        if self.chance < 0 or self.top < 0:
            raise UsageError("--chance and --top cannot be negative", "0 leaves them out")
        if self.category not in ("mean", "minimum"):
            raise UsageError(
                f"--category-by {self.category} is not known", "choose mean or minimum"
            )

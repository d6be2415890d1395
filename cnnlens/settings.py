"""Every method's settings, with their defaults: written here once, imported without weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from cnnlens.errors import UsageError


@dataclass(frozen=True)
class RunSettings:
    """How to run, not what to compute: results do not depend on these (beyond rounding)."""

    device: str = "auto"
    batch_size: int = 32
    workers: int = 4
    seed: int = 0


@dataclass(frozen=True)
class ExtractSettings:
    """What an activation store holds."""

    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UsageError(f"--dtype {self.dtype} is not known", "choose float32 or float16")


@dataclass(frozen=True)
class DissectSettings:
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

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class DeconvSettings:
    """Projections of units back to pixels.

    Attributes
    ----------
    method : str
        What a rectifier does to the signal that comes back: "deconvnet", "guided", "gradient".
    top : int
        Images per unit, by peak activation.
    whole_map : bool
        Start from the unit's whole map, not from its peak alone.
    """

    method: str = "deconvnet"
    top: int = 9
    whole_map: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("deconvnet", "guided", "gradient"):
            raise UsageError(
                f"--method {self.method} is not known", "choose deconvnet, guided or gradient"
            )
        if self.top < 1:
            raise UsageError(f"--top {self.top} is not at least 1", "9 is usual")

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CamSettings:
    """Class activation maps.

    Attributes
    ----------
    method : str
        "cam": the class weights on the maps that they act on; "gradcam": the gradient's mean.
    top : int
        Classes per image, by score, where none is named.
    """

    method: str = "cam"
    top: int = 1

    def __post_init__(self) -> None:
        if self.method not in ("cam", "gradcam"):
            raise UsageError(f"--method {self.method} is not known", "choose cam or gradcam")
        if self.top < 1:
            raise UsageError(f"--top {self.top} is not at least 1", "1 shows the predicted class")

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return asdict(self)

"""What is kept and measured of units and of layers, and which pixels count for them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.base import Settings
from cnnlens.settings.option import option, quantile_option, seed_option


def _chance(default: int) -> Any:
    words = "Shuffles for the chance level and p-values; 0 for none."
    return option(default, words, least=0, hint="0 leaves it out")


def _top() -> Any:
    return option(8, "Top images shown per unit.", least=0, hint="0 shows none", panel="Output")


FORMULA = ("formula", "beam")  # settings that matter where formulas are looked for


@dataclass(frozen=True)
class ExtractSettings(Settings):
    """What an activation store holds.

    Attributes
    ----------
    dtype : str or None
        Type of its numbers; None: as those that are stored already, else float32.
    """

    dtype: str | None = option(
        None, "Type of the stored activations.", choices=("float32", "float16"),
        shown="as they are stored already, else float32",
    )  # fmt: skip

    @property
    def type(self) -> str:
        """Type of the numbers of a new store."""
        return self.dtype or "float32"


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
    formula : int
        Concepts of a unit's best formula, at most; 0 looks for none.
    beam : int
        Formulas of every length from which longer ones are made.
    top : int
        Images kept per unit, by peak activation.
    seed : int
        Of the shuffles.
    """

    quantile: float = quantile_option()
    min_iou: float = option(
        0.04,
        "Best IoU from which a unit is a detector.",
        least=0,
        most=1,
        hint="try 0.04",
        metavar="IOU",
    )
    chance: int = _chance(10)
    compat: str = option(
        "",
        "Count as NetDissect-Lite did.",
        choices=("", "ndlite"),
        hint="the only one is ndlite",
        metavar="ndlite",
        shown="as the paper says",
    )
    formula: int = option(
        0,
        "Also each unit's best AND, OR, AND NOT formula of up to so many concepts.",
        least=0,
        hint="3 is usual; 0 looks for none",
        shown="none",
    )
    beam: int = option(
        5, "Formulas of every length kept while longer ones are looked for.", least=1, hint="try 5"
    )
    top: int = _top()
    seed: int = seed_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.formula and self.compat:
            why = f"--compat {self.compat} knows no formulas"
            raise UsageError(f"--formula {self.formula}: {why}", "leave one of them out")

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings; those of formulas only where there are to be any."""
        told = super().as_dict()
        return told if self.formula else {k: v for k, v in told.items() if k not in FORMULA}

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

    level: float = option(
        0.95, "Level of the intervals.", above=0, below=1, metavar="SHARE", hint="0.95 is usual"
    )
    resamples: int = option(2000, "Resamples of the bootstrap.", least=100, hint="2000 is usual")
    top: int = option(
        12,
        "Units shown side by side per layer, without -f.",
        least=0,
        hint="0 shows no pictures",
    )
    seed: int = seed_option()


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
        How often a unit's places are shuffled, across the images that excite it, for the chance
        level and p-values.
    category : str
        A unit's category: that of the largest "mean" activation, or the paper's "minimum" of
        instability over categories.
    top : int
        Images shown per unit.
    seed : int
        Of shuffled and random places.
    """

    quantile: float = quantile_option()
    wide: float = option(
        0.0,
        "A second such share; 0: that of a mean part.",
        least=0,
        below=1,
        hint="0: a mean part's share",
        metavar="SHARE",
    )
    chance: int = _chance(100)
    category: str = option(
        "mean",
        "A unit's category: of its largest mean activation, or its smallest instability.",
        choices=("mean", "minimum"),
        name="category-by",
    )
    top: int = _top()
    seed: int = seed_option()


@dataclass(frozen=True)
class UnitsSettings(Settings):
    """What units respond to.

    Attributes
    ----------
    top : int
        Images listed per unit, of the highest and of the lowest peaks.
    bins : int
        Bins of equal width over the range of a unit's peaks.
    per_bin : int
        Images drawn from each bin.
    neighbours : int
        Units listed whose peaks go along with a unit's.
    seed : int
        Of the images that are drawn.
    """

    top: int = option(9, "Images per unit of the highest and of the lowest peaks.", least=1)
    bins: int = option(8, "Bins over the range of a unit's peaks.", least=1)
    per_bin: int = option(4, "Images drawn from each bin.", least=1)
    neighbours: int = option(
        8, "Units listed that respond alike.", least=0, hint="0 looks for none"
    )
    seed: int = seed_option()

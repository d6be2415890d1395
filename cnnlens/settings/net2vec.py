"""How concepts are learned as combinations of units."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from cnnlens.settings.base import Presets, Settings
from cnnlens.settings.option import option, quantile_option, seed_option, sizes_of


@dataclass(frozen=True)
class Net2VecSettings(Settings):
    """Concepts as combinations of units.

    Attributes
    ----------
    filters : str
        Sizes of combinations, joined by commas: the largest weights, learned anew.
    loss : str
        "cross-entropy" per pixel, or the paper authors' program's, "reference", without logarithms.
    epochs : int
        How often every image is learned from.
    lr : float or None
        Rate of learning; None: what suits the loss.
    cut : str
        The probability above which a pixel counts: "fitted", where the images that are learned
        from have the highest IoU, or the paper's "half".
    quantile : float
        Share of a unit's activations that its binary map keeps.
    chance : int
        How often all is learned from label maps that are shuffled among images.
    top : int
        Images shown per concept.
    seed : int
        Of the first weights, of the shuffles, and of the split where the data has none.
    """

    filters: str = option(
        "1,2,4,8,16,32,64,128",
        "Sizes of combinations for the curve, each of the largest weights, learned anew.",
        metavar="1,2,4,…",
    )
    loss: str = option(
        "cross-entropy",
        "cross-entropy: per pixel, classes weighted. reference: that of the paper authors' "
        "program, which takes no logarithms.",
        choices=("cross-entropy", "reference"),
    )
    epochs: int = option(30, "How often every image is learned from.", least=1)
    lr: float | None = option(
        None,
        "Rate of learning.",
        above=0,
        most=1e6,
        shown="10 for cross-entropy, 0.0001 for reference",
    )
    cut: str = option(
        "fitted",
        "Probability above which a pixel counts: fitted to the images that are learned from, as "
        "the best unit is chosen on them, or the paper's half.",
        choices=("fitted", "half"),
    )
    quantile: float = quantile_option()
    chance: int = option(1, "Shuffles of label maps for the chance level; 0 for none.", least=0)
    top: int = option(8, "Images shown per concept.", least=0, hint="0 shows none", panel="Output")
    seed: int = seed_option()

    presets: ClassVar[Presets] = {"paper": {"loss": "reference", "cut": "half"}}

    def __post_init__(self) -> None:
        """Take the sizes as Python has them, too."""
        if isinstance(self.filters, (list, tuple)):
            object.__setattr__(self, "filters", ",".join(map(str, self.filters)))
        object.__setattr__(self, "filters", str(self.filters))
        super().__post_init__()
        _ = self.sizes

    @property
    def sizes(self) -> list[int]:
        """Sizes of combinations, ascending, each once.

        Raises
        ------
        UsageError
            When they are no whole numbers from 1 on.
        """
        return sizes_of(self.filters, "filters", "1,2,4,8", none=True)

    @property
    def rate(self) -> float:
        """The rate of learning."""
        return self.lr or (1e-4 if self.loss == "reference" else 10.0)

    @property
    def kept_share(self) -> Fraction:
        """The share of activations above the threshold, as an exact fraction."""
        return Fraction(str(self.quantile))

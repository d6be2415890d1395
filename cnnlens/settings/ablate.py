"""How units are taken out of a network."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option, seed_option, sizes_of


@dataclass(frozen=True)
class AblateSettings(Settings):
    """What the classes lose without units (see `cnnlens.measure.ablation`).

    Attributes
    ----------
    to : str
        What stands in for a unit's map: its "mean" over the data, position by position, or "zero".
    random : int
        Random sets of units beside each of the best ones.
    top_k : str
        ``--top-k``: sizes of these sets, joined by commas.
    seed : int
        Of the parting of images, of random sets, and of resamples.
    """

    to: str = option(
        "mean",
        "What stands in for its map: its mean over the data, position by position, or zero, which "
        "behind a batch norm is like no image.",
        choices=("mean", "zero"),
    )
    random: int = option(20, "Random sets of units beside the best ones; 0 for none.", least=0)
    top_k: str = option(
        "1,2,5,10,20",
        "How many of the units that matter most to a class are taken out together.",
        metavar="1,2,5,…",
    )
    seed: int = seed_option()

    def __post_init__(self) -> None:
        """Take the sizes as Python has them, too, and in their order."""
        many = self.top_k if isinstance(self.top_k, (list, tuple)) else [self.top_k]
        object.__setattr__(self, "top_k", ",".join(map(str, many)))
        super().__post_init__()
        object.__setattr__(self, "top_k", ",".join(map(str, self.sizes)))

    @property
    def sizes(self) -> list[int]:
        """Sizes of sets, ascending, each once.

        Raises
        ------
        UsageError
            When they are no whole numbers from 1 on.
        """
        return sizes_of(self.top_k, "top-k", "1,2,5,10,20")

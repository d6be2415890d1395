"""Trees, embeddings, strangers."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.errors import UsageError
from cnnlens.settings.run import Settings


@dataclass(frozen=True)
class ClusterSettings(Settings):
    """Trees of categories and of each category's filters, and the embedding.

    Attributes
    ----------
    bootstrap : int
        Trees from images drawn anew, for the support of each merge; 0 for none.
    noise : bool
        Random images are one more category.
    rule : str
        Which filter is critical: the "argmin" of the masked cosine (as printed in the pseudocode),
        or the "largest-change" of it (as the text says).
    neighbours : int
        Neighbours of an image, in the embedding and in its nearest-neighbour accuracy.
    seed : int
        Of the bootstrap, the noise and the embedding.
    """

    bootstrap: int = 100
    noise: bool = False
    rule: str = "argmin"
    neighbours: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap < 0:
            raise UsageError("--bootstrap cannot be negative", "0 leaves it out")
        if self.rule not in ("argmin", "largest-change"):
            raise UsageError(f"--rule {self.rule} is not known", "choose argmin or largest-change")
        if self.neighbours < 2:
            raise UsageError(f"--neighbours {self.neighbours} is not at least 2", "15 is usual")


@dataclass(frozen=True)
class OutlierSettings(Settings):
    """What images are taken for that belong to none of the classes.

    Attributes
    ----------
    noise : int
        Random images of each kind.
    seed : int
        Of the noise and the clusters.
    """

    noise: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise UsageError("--noise cannot be negative", "0 leaves it out")

"""Trees of categories and filters, embeddings, ways down the trees, strangers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option, seed_option


def _rule() -> Any:
    return option(
        "argmin",
        "Which filter is critical at a merge: of the smallest masked cosine (the paper's "
        "pseudocode), or of the one changed most (its text).",
        choices=("argmin", "largest-change"),
    )


# what can be found about a layer, and the settings that each depends on
PARTS = {
    "categories": ("bootstrap", "noise", "seed"),
    "filters": ("rule",),
    "embed": ("neighbours", "seed"),
}


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
    exact : int
        Images up to which all are compared with all to find these; beyond, they are looked for.
    seed : int
        Of the bootstrap, the noise and the embedding.
    """

    bootstrap: int = option(
        100,
        "Trees from resampled images, for each merge's support; 0 for none.",
        least=0,
        hint="0 leaves it out",
    )
    noise: bool = option(False, "Add random images as one more category.", off="-")
    rule: str = _rule()
    neighbours: int = option(
        15, "Neighbours of an image in the embedding.", least=2, hint="15 is usual"
    )
    exact: int = option(
        20_000,
        "Images up to which the embedding compares all with all for their neighbours; beyond, "
        "nearly all of these are found.",
        least=0,
        hint="0 never compares all",
    )
    seed: int = seed_option()

    def of_part(self, part: str) -> dict[str, Any]:
        """Return those that one of `PARTS` depends on, for JSON."""
        return {name: value for name, value in self.as_dict().items() if name in PARTS[part]}


@dataclass(frozen=True)
class ExplainSettings(Settings):
    """Paths down trees of filters.

    Attributes
    ----------
    rule : str
        Which filter is critical, as in `ClusterSettings`.
    """

    rule: str = _rule()


@dataclass(frozen=True)
class OutlierSettings(Settings):
    """What images are predicted as that belong to none of the classes.

    Attributes
    ----------
    noise : int
        Random images of each kind.
    seed : int
        Of the noise and the clusters.
    """

    noise: int = option(
        200, "Random images of each kind; 0 for none.", least=0, hint="0 leaves it out"
    )
    seed: int = seed_option()

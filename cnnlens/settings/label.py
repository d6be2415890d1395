"""How units are named without label maps."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option, seed_option


@dataclass(frozen=True)
class LabelSettings(Settings):
    """Names of units (see `cnnlens.measure.linear_labels`).

    Attributes
    ----------
    response : str
        ``--of``: what of a unit a name follows on each image, its map's spatial "mean" or "peak".
    terms : int
        Concepts that a name is a sum of, at most.
    gain : float
        By how much one more concept must raise the correlation on the images that choose.
    chance : int
        How often all is named with images shuffled.
    seed : int
        Of the parting of images, and of shuffles.
    """

    response: str = option(
        "mean",
        "What of its map stands for a unit on an image.",
        name="of",
        choices=("mean", "peak"),
    )
    terms: int = option(4, "Classes and groups of classes in a name, at most.", least=1, most=16)
    gain: float = option(
        0.02, "What one more must add to the correlation to be in the name.", least=0, below=1
    )
    chance: int = option(3, "Shuffles of images for the chance level; 0 for none.", least=0)
    seed: int = seed_option()


@dataclass(frozen=True)
class TextSettings(Settings):
    """Names from words (see `cnnlens.measure.text_labels`).

    Attributes
    ----------
    method : str
        "linear", a sparse sum of words; or "soft-wpmi", CLIP-Dissect's one word.
    """

    method: str = option(
        "linear",
        "How words are chosen: a sparse sum of them, or CLIP-Dissect's one word.",
        choices=("linear", "soft-wpmi"),
    )

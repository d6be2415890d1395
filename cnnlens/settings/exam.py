"""How labels are held against images that chose nothing."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option, seed_option


@dataclass(frozen=True)
class ExamSettings(Settings):
    """The exam of labels (see `cnnlens.measure.exam`).

    Attributes
    ----------
    response : str
        ``--of``: what of a unit a label must follow on each image, its map's spatial "mean" or
        "peak". Labels of `label` follow what they were made from.
    chance : int
        How often all is scored with images shuffled.
    resamples : int
        Of the bootstrap over images, for the intervals; 0 for none.
    planted : int
        Artificial units of known labels that go through the same naming and exam.
    signal : float
        Their signal-to-noise ratio: the standard deviation of the concept over the noise's.
    seed : int
        Of the parting of images, shuffles, resamples and planted units.
    """

    response: str = option(
        "mean",
        "What of its map stands for a unit on an image; labels of `label` follow their own.",
        name="of",
        choices=("mean", "peak"),
    )
    chance: int = option(10, "Shuffles of images for the chance level; 0 for none.", least=0)
    resamples: int = option(200, "Resamples of images for the intervals; 0 for none.", least=0)
    planted: int = option(
        0, "Artificial units of known labels that are named and examined likewise.", least=0
    )
    signal: float = option(
        1.0, "Their signal-to-noise ratio.", name="snr", above=0, metavar="RATIO", hint="try 1"
    )
    seed: int = seed_option()

"""What a network takes for what: its predictions on labelled images, and the worst errors.

An error is the worse, the surer the network was of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from cnnlens.data.dataset import ImageSet
from cnnlens.measure.accuracy import classes_of, scores_steps
from cnnlens.measure.comparison import share
from cnnlens.model.classes import before_softmax, class_name
from cnnlens.model.ending import SIGMOID
from cnnlens.model.model import Model
from cnnlens.progress import Step
from cnnlens.settings import RunSettings

_BLOCK = 4096  # images whose probabilities are held at once
OTHER = "another class"  # of the network, which is none of the data's


@dataclass(frozen=True)
class Mistake:
    """An image that is taken for something else.

    Attributes
    ----------
    row : int
        Its position in the data.
    true, said : str
        Its category, and the class it is taken for.
    probability, own : float
        Of the class it is taken for, and of its own.
    """

    row: int
    true: str
    said: str
    probability: float
    own: float


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix with its errors.

    Attributes
    ----------
    categories : tuple of str
        Of the data: the rows, and the columns but the last.
    counts : numpy.ndarray
        (R, R + 1) int64: images of each category by what they are taken for; last: `OTHER`.
    mistakes : tuple of Mistake
        The surest first.
    """

    categories: tuple[str, ...]
    counts: np.ndarray
    mistakes: tuple[Mistake, ...]

    @property
    def right(self) -> int:
        """Images that are taken for what they are."""
        return int(self.counts.trace())

    @property
    def images(self) -> int:
        """All of them."""
        return int(self.counts.sum())

    def pairs(self) -> list[tuple[str, str, list[Mistake]]]:
        """List what is taken for what and the images, the most frequent first."""
        found: dict[tuple[str, str], list[Mistake]] = {}
        for one in self.mistakes:
            found.setdefault((one.true, one.said), []).append(one)
        ordered = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        return [(*names, mistakes) for names, mistakes in ordered]

    def as_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        sizes = self.counts.sum(axis=1)
        return {
            "images": self.images,
            "right": self.right,
            "accuracy": self.right / self.images,
            "interval": list(share(self.right, self.images, level)),
            "level": level,
            "chance": int(sizes.max()) / self.images,
            "categories": list(self.categories),
            "counts": self.counts.tolist(),
            "pairs": [
                {
                    "true": true,
                    "said": said,
                    "images": len(mistakes),
                    "of": int(sizes[self.categories.index(true)]),
                }
                for true, said, mistakes in self.pairs()
            ],
        }


def confuse(
    scores: np.ndarray, wanted: np.ndarray, categories: Sequence[str], rows: Sequence[int],
    classes: Sequence[str] | None = None, link: str = "",
) -> Confusion:  # fmt: skip
    """Count what images are taken for.

    Parameters
    ----------
    scores : numpy.ndarray
        (N, K) of the network; a single output is taken as two, of which it is the second.
    wanted : numpy.ndarray
        (N,) the output that stands for each image's category.
    categories : sequence of str
        The N categories.
    rows : sequence of int
        The N images' positions in the data.
    classes : sequence of str, optional
        Names of the outputs.
    link : str
        What the network ends with (see `model.ending`); the scores are those before a sigmoid.
    """
    if scores.shape[1] == 1:
        link, scores = SIGMOID, np.concatenate([-scores, scores], axis=1)
    names = tuple(sorted(set(categories)))
    stands = dict(zip(wanted.tolist(), categories, strict=True))  # output: category
    said = scores.argmax(axis=1)
    sure, own = probabilities(scores, np.stack([said, wanted], axis=1), link).T  # (N,) each
    column = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), len(names) + 1), np.int64)
    mistakes = []
    for place, (number, category) in enumerate(zip(said.tolist(), categories, strict=True)):
        counts[column[category], column.get(stands.get(number, ""), len(names))] += 1
        if number != wanted[place]:
            name = stands.get(number) or class_name(number, classes)
            both = float(sure[place]), float(own[place])
            mistakes.append(Mistake(int(rows[place]), category, name, *both))
    mistakes.sort(key=lambda one: (-one.probability, one.row))
    return Confusion(names, counts, tuple(mistakes))


def probabilities(scores: np.ndarray, chosen: np.ndarray, link: str = "") -> np.ndarray:
    """Give the softmax of scores (N, K) at chosen outputs (N, C), in double precision.

    That of all outputs is held of a block of images at a time. What the network has put through a
    softmax itself is left as it is; where its `link` is a sigmoid, that is each output's own.
    """
    if link == SIGMOID:
        own: np.ndarray = expit(np.take_along_axis(scores, chosen, axis=1).astype(np.float64))
        return own
    scores = before_softmax(scores)
    found = np.empty(chosen.shape)
    for start in range(0, len(scores), _BLOCK):
        block = scores[start : start + _BLOCK]
        shares = np.exp(block.astype(np.float64) - block.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)  # (B, K)
        found[start : start + _BLOCK] = np.take_along_axis(
            shares, chosen[start : start + _BLOCK], axis=1
        )
    return found


def confusion_steps(
    model: Model, images: ImageSet, run: RunSettings
) -> Generator[Step, None, Confusion]:
    """Predict all images of a data set with categories, and count what they are taken for.

    See `accuracy` for what is raised.
    """
    found = yield from scores_steps(model, images, run)
    known = classes_of(images)
    of = [known[row] for row in found.rows]
    return confuse(found.scores, found.wanted, of, found.rows, model.classes, found.link)


def summary(found: Mapping[str, Any]) -> str:
    """Say how often a network is right, from `Confusion.as_dict`."""
    low, high = (f"{100 * end:.1f}" for end in found["interval"])
    return (
        f"right on {found['right']:,} of {found['images']:,} images ({found['accuracy']:.1%}, "
        f"{100 * found['level']:g} % interval {low} to {high} %); always saying the most frequent "
        f"class would be right on {found['chance']:.1%}"
    )

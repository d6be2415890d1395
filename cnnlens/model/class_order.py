"""Whether images bear out the order in which a data set's classes are read as a network's outputs.

    judge(ways, logits, categories).doubt

A network that is sure of itself and wrong under every order is one whose order is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.errors import UsageError
from cnnlens.model.classes import before_softmax
from cnnlens.model.matching import Reading

_FAR = 0.25  # share of the images by which an order that is far better explains more
_SURE = 0.6  # mean probability of the predicted class, from chance (0) to 1, of who is sure
_LUCKY = 6  # classes that no order gets right by luck: it gets one, on the average
_SAMPLE = 64  # images that an order is judged on, where there are few classes
_MOST = 64  # classes that are looked at, of many: two images of each


@dataclass(frozen=True)
class Judged:
    """What a network's answers say of every way to read the classes.

    Attributes
    ----------
    right : dict of str to float
        By the words of each reading, the share of images that are then classified rightly.
    best : float
        The same, of the one-to-one assignment of classes to outputs that explains most of the other
        half of the images; those of a class with a single image tell nothing of it.
    sure : float
        How sure it is of what it predicts: 0 where all classes are as likely, 1 where one is
        certain.
    classes, images : int
        How many were looked at.
    """

    right: dict[str, float]
    best: float
    sure: float
    classes: int
    images: int

    @property
    def doubt(self) -> str:
        """Why the usual reading is not to be relied on, in words; empty where it is."""
        share, *others = self.right.values()
        more = max(others, default=0.0)
        sure = self.sure >= _SURE
        if more - share >= _FAR and (sure or more * self.classes >= _LUCKY):
            return self.words
        if sure and (self.best - share >= _FAR or not self.is_above_chance):
            return f"{self.words}, though the network is sure of itself"
        return ""

    @property
    def words(self) -> str:
        """How much every reading explains, in words."""
        (usual, share), *others = self.right.items()
        rest = "".join(f", {other} {more:.0%}" for other, more in others)
        return f"{usual} it is right on {share:.0%} of {self.images} images{rest}"

    @property
    def is_above_chance(self) -> bool:
        """Whether the usual reading explains more than guessing would."""
        chance, share = 1 / self.classes, next(iter(self.right.values()))
        return share > chance + 2 * (chance * (1 - chance) / self.images) ** 0.5


def judge(ways: Sequence[Reading], logits: np.ndarray, categories: Sequence[str]) -> Judged:
    """Hold ways to read the classes against what a network says of some images.

    Parameters
    ----------
    ways : sequence of Reading
        The usual one first.
    logits : numpy.ndarray
        (N, K), or the softmax of these; of one output, what is above 0 is the second class.
    categories : sequence of str
        (N,) the images' classes.
    """
    scores = np.concatenate([-logits, logits], 1) / 2 if logits.shape[1] == 1 else logits  # (N, K)
    said, count = scores.argmax(1), scores.shape[1]
    scores = before_softmax(scores).astype(np.float64)
    shifted = scores - scores.max(1, keepdims=True)
    confidence = float((1 / np.exp(shifted).sum(1)).mean())
    return Judged(
        {
            way.words: float(np.mean(np.array([way.outputs[c] for c in categories]) == said))
            for way in ways
        },
        _assigned(np.unique(np.array(categories), return_inverse=True)[1], said, count),
        (confidence - 1 / count) / (1 - 1 / count),
        len(set(categories)),
        len(said),
    )  # fmt: skip


def _assigned(classes: np.ndarray, said: np.ndarray, count: int) -> float:
    """Share of images whose output is the one that the other half assigns to their class.

    Parameters
    ----------
    classes, said : numpy.ndarray
        (N,) numbers of each image's class, and of the output that it is predicted as.
    count : int
        How many outputs there are.
    """
    from scipy.optimize import linear_sum_assignment

    half, seen = np.zeros(len(said), np.int64), np.zeros(classes.max() + 1, np.int64)
    for row, number in enumerate(classes):  # in turn, so that both have images of every class
        half[row], seen[number] = seen[number] % 2, seen[number] + 1
    right = 0
    for fit, asked in ((half == 0, half == 1), (half == 1, half == 0)):
        table = np.zeros((len(seen), count))  # classes × outputs
        np.add.at(table, (classes[fit], said[fit]), 1)
        rows, outputs = linear_sum_assignment(table, maximize=True)
        of = np.full(len(seen), -1)
        of[rows] = np.where(table[rows, outputs] > 0, outputs, -1)
        right += int((of[classes[asked]] == said[asked]).sum())
    return right / len(said)


def check_order(
    ways: Sequence[Reading],
    logits: np.ndarray,
    categories: Sequence[str],
    data: str,
    hint: str = (
        "say it with --classes FILE (one name per output, in order), or --classes natural or "
        "alphabetical: the folders in that order"
    ),
) -> Judged | None:
    """Stop where the usual reading of a data set's classes is none that its images bear out.

    Returns
    -------
    Judged or None
        How far they do; None where names or labels leave nothing open.

    Raises
    ------
    UsageError
        When another explains far more, or none does though the network is sure of itself.
    """
    if not ways or ways[0].certain:
        return None
    judged = judge(ways, logits, categories)
    if doubt := judged.doubt:
        raise UsageError(f"which output is which class of {data} is not clear: {doubt}", hint)
    return judged


def check_border(scores: np.ndarray, wanted: np.ndarray, data: str) -> None:
    """Stop where a single output is a probability that nothing in the network says it is.

    Parameters
    ----------
    scores : numpy.ndarray
        (N, 1) that are read as scores: what is above 0 is the second class.
    wanted : numpy.ndarray
        (N,) the images' classes, 0 or 1.
    data : str
        What the images are called.

    Raises
    ------
    UsageError
        When all lie between 0 and 1, and one half tells the classes apart far better.
    """
    if scores.shape[1] != 1 or not len(scores) or scores.min() < 0 or scores.max() > 1:
        return
    score, share = (float(((scores[:, 0] > border) == wanted).mean()) for border in (0, 0.5))
    if share - score >= _FAR:
        raise UsageError(
            f"the one output lies between 0 and 1 on all of {data}: as a score, above 0, it "
            f"is right on {score:.0%} of {len(scores)} images, as a probability on {share:.0%}",
            "name one that returns the score, or ends in a sigmoid: --arch file.py:factory",
        )


def chosen(categories: Sequence[str]) -> list[int]:
    """Choose images to judge an order on: as many of each class, evenly spaced, at most 128."""
    names = sorted(set(categories))
    each = max(2, min(16, _SAMPLE // len(names)))
    if len(names) > _MOST:
        names = [names[round(at)] for at in np.linspace(0, len(names) - 1, _MOST)]
    rows: dict[str, list[int]] = {name: [] for name in names}
    for number, category in enumerate(categories):
        if category in rows:
            rows[category].append(number)
    spaced = (sorted({round(at) for at in np.linspace(0, len(r) - 1, each)}) for r in rows.values())
    return sorted(
        row[at] for row, places in zip(rows.values(), spaced, strict=True) for at in places
    )

"""What labels claim, and on which images that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.measure.meaning import Meaning

CLASSES, MAPS, ENCODER = "classes", "label maps", "encoder"  # what tells; the last, degrees alone


@dataclass(frozen=True)
class Claim:
    """A label that is to be examined.

    Attributes
    ----------
    unit : int
        Whose.
    label : str
        As its method says it.
    meaning : Meaning
        What it says.
    chosen : str
        The label that is examined in its place: what its method chooses on the images that choose.
    """

    unit: int
    label: str
    meaning: Meaning
    chosen: str


@dataclass
class Truth:
    """Where labels are there.

    Attributes
    ----------
    meanings : list of Meaning
        D of them.
    amount : numpy.ndarray
        (n, D) float32: how much of it each image shows; NaN where that is not known.
    shows : numpy.ndarray
        (n, D) bool: whether there is any; nowhere where only degrees are known.
    told_by : sequence of str
        What says so of each: "classes", "label maps", or an "encoder", which knows degrees alone.
    """

    meanings: list[Meaning]
    amount: np.ndarray
    shows: np.ndarray
    told_by: Sequence[str]

    def known(self, of: int, rows: np.ndarray) -> np.ndarray:
        """Those of some images that tell whether a label is there."""
        found: np.ndarray = rows[~np.isnan(self.amount[rows, of])]
        return found


def class_truth(meanings: Sequence[Meaning], names: Sequence[str], of: np.ndarray) -> Truth:
    """Say where labels are there, of images' classes and groups of classes.

    Parameters
    ----------
    meanings : sequence of Meaning
        Of these concepts.
    names : sequence of str
        K concepts.
    of : numpy.ndarray
        (n, K) float32 of 0 and 1.

    Notes
    -----
    A sum is there where it reaches half its highest value.
    """
    column = {name: of[:, at] for at, name in enumerate(names)}
    amount = np.zeros((len(of), len(meanings)), np.float32)
    shows = np.zeros(amount.shape, bool)
    for at, one in enumerate(meanings):
        if one.formula is None:
            total = sum(weight * column[name] for name, weight in one.terms)
            amount[:, at] = total
            shows[:, at] = total >= max(float(np.max(total)) / 2, 1e-12)
        else:
            shows[:, at] = one.where(lambda name: column[name] > 0)
            amount[:, at] = shows[:, at]
    return Truth(list(meanings), amount, shows, [CLASSES] * len(meanings))

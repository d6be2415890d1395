"""How classes change when a network's answers do: their scores, and how well they are told apart,
with intervals over images: of resampled ones, for few images widened as Student's is, since these
vary less than new ones would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, NewType

import numpy as np
from torch import Tensor

RESAMPLES = 1000
Name = NewType("Name", str)  # of what a table heads by a word that is Python's, or leaves out
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Effect:
    """What a class loses without a unit, in one row.

    Attributes
    ----------
    unit : int or None
        Counted from 0; None for a direction.
    cls : str
        The class.
    logit_change : float
        Of its score, mean over its images that are held out.
    accuracy_change : float
        Of its balanced one-class accuracy on images held out.
    logit_low, logit_high, accuracy_low, accuracy_high : float or None
        95 % intervals, from resampled images; None where a class has one image there.
    concept : str
        Of a direction.
    random_low, random_high : float or None
        Of a direction: 2.5 and 97.5 % of `accuracy_change` without random ones.
    """

    unit: int | None
    cls: Name
    logit_change: float
    accuracy_change: float
    logit_low: float | None
    logit_high: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    concept: Name = Name("")
    random_low: float | None = None
    random_high: float | None = None

    @property
    def is_loss(self) -> bool:
        """Whether the class is told worse, beyond what other images would have given."""
        return self.accuracy_high is not None and self.accuracy_high < 0

    @property
    def weight(self) -> tuple[float, float]:
        """Orders effects, the worst first: by accuracy as far as it is lost, then by score."""
        return self.accuracy_change if self.is_loss else 0.0, self.logit_change

    def cells(self) -> dict[str, Any]:
        """Give its row of a table."""
        return {"class": self.cls, **vars(self)}

    def beside(self, low: float, high: float) -> Effect:
        """Give it with what random directions do."""
        return replace(self, random_low=low, random_high=high)


class Answers:
    """What a network says of images as they are and with every change.

    Attributes
    ----------
    wanted : numpy.ndarray
        (n,) the output that is right.
    change : numpy.ndarray
        (changes, n) float32: of the score of that output.
    said : numpy.ndarray
        (changes, n) int32: the output with the highest score.
    before : numpy.ndarray
        (n,) int32: that with all as it is.
    """

    def __init__(self, rows: Sequence[int], wanted: Sequence[int], changes: int) -> None:
        self._at = {row: place for place, row in enumerate(rows)}
        self.wanted = np.array(wanted, np.int64)
        self.change = np.zeros((changes, len(rows)), np.float32)
        self.said = np.zeros((changes, len(rows)), np.int32)
        self.before = np.zeros(len(rows), np.int32)

    def take(self, positions: np.ndarray, start: int, scores: Tensor, first: Tensor) -> None:
        """Take in scores (changes, n, K) and those as they are (n, K), of images at positions."""
        places = [self._at[row] for row in positions.tolist()]
        own = self.wanted[places]
        new, old = scores.cpu().numpy(), first.cpu().numpy()
        rows, images = np.arange(start, start + len(new))[:, None], np.arange(len(places))
        self.change[rows, places] = new[:, images, own] - old[images, own]
        self.said[rows, places] = new.argmax(axis=2)
        self.before[places] = old.argmax(axis=1)


class Told:
    """How well each class is told from the others, before and with every change.

    Parameters
    ----------
    answers : Answers
        On images held out.
    names : mapping of int to str
        Of the outputs that are classes of the data.
    seed : int
        Of the resamples.

    Attributes
    ----------
    before : numpy.ndarray
        (classes,) balanced one-class accuracy with all as it is.
    accuracies : numpy.ndarray
        (changes, classes) with every change.
    """

    def __init__(self, answers: Answers, names: Mapping[int, str], seed: int) -> None:
        self.names, self._answers, self._seed = names, answers, seed
        self.outputs = np.array(sorted(set(answers.wanted.tolist())))
        self._own = answers.wanted[:, None] == self.outputs  # (n, classes)
        self._counts = self._own.sum(axis=0)
        self.before = self._balanced(answers.before)
        self.accuracies = np.array([self._balanced(said) for said in answers.said])

    def column(self, output: int) -> int:
        """Where an output's class stands."""
        return int(np.searchsorted(self.outputs, output))

    def as_dicts(self) -> list[dict[str, Any]]:
        """Say how each class is told as it is, for JSON."""
        return [
            {"class": self.names[output], "images_held_out": count, "accuracy": accuracy}
            for output, count, accuracy in zip(
                self.outputs.tolist(), self._counts.tolist(), self.before.tolist(), strict=True
            )
        ]

    def effects(self, number: int, unit: int | None, concept: str = "") -> list[Effect]:
        """Give the effect of a change on every class, in the order of outputs."""
        change, said = self._answers.change[number], self._answers.said[number]
        logits = np.array([change[own].mean() for own in self._own.T], np.float64)
        accuracy = self.accuracies[number] - self.before
        ends = self._logit_ends(change), self._accuracy_ends(said)  # (2, classes) each
        found = []
        for column, output in enumerate(self.outputs.tolist()):
            known = self._counts[column] > 1
            (a, b), (c, d) = (end[:, column].tolist() if known else (None, None) for end in ends)
            changes = float(logits[column]), float(accuracy[column])
            name = Name(self.names[output])
            found.append(Effect(unit, name, *changes, a, b, c, d, Name(concept)))
        return found

    def interval(self, number: int, output: int) -> tuple[float | None, float | None]:
        """The interval of a class's accuracy with a change, over images."""
        column = self.column(output)
        if self._counts[column] < 2:
            return None, None
        own, said = self._own[:, column], self._answers.said[number] == output
        share = np.where(own, said / own.sum(), ~said / (~own).sum()) / 2
        ends = np.quantile(self._drawn @ share.astype(np.float32), _TAILS)
        low, high = np.clip(self._widened(ends[:, None], share.sum(), column)[:, 0], 0, 1)
        return float(low), float(high)

    def _balanced(self, said: np.ndarray) -> np.ndarray:
        """Balanced one-class accuracy of every class, from what is said of every image (n,)."""
        hits = said[:, None] == self.outputs
        right = (hits & self._own).sum(axis=0) / self._counts
        wrong = (hits & ~self._own).sum(axis=0) / (len(said) - self._counts)
        balanced: np.ndarray = (right + 1 - wrong) / 2
        return balanced

    # ---- resampled images, each class's among themselves

    @cached_property
    def _drawn(self) -> np.ndarray:
        """(resamples, n) float32: how often each image is drawn."""
        rng = np.random.default_rng([self._seed, 4])
        drawn = np.zeros((RESAMPLES, len(self._own)), np.float32)
        for own, count in zip(self._own.T, self._counts, strict=True):
            drawn[:, own] = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        return drawn

    def _logit_ends(self, change: np.ndarray) -> np.ndarray:
        draws = [
            self._drawn[:, own] @ change[own] / count
            for own, count in zip(self._own.T, self._counts, strict=True)
        ]
        value = np.array([change[own].mean(dtype=np.float64) for own in self._own.T])
        return self._widened(np.quantile(np.array(draws), _TAILS, axis=1), value)

    def _widened(
        self, ends: np.ndarray, value: np.ndarray, classes: int | slice = slice(None)
    ) -> np.ndarray:
        """Widen the ends (2, classes) about the value, by how few images a class has."""
        factor: np.ndarray = np.atleast_1d(self._factor[classes])
        return np.asarray(value + factor * (ends - value))

    @cached_property
    def _factor(self) -> np.ndarray:
        """(classes,): Student's quantile over the normal one, and n / (n - 1) of the variance."""
        from scipy.special import stdtrit  # slow to import

        freedom = np.maximum(self._counts - 1, 1)
        student = stdtrit(freedom, _TAILS[1]) / NormalDist().inv_cdf(_TAILS[1])
        return np.asarray(student * np.sqrt(1 + 1 / freedom))

    def _accuracy_ends(self, said: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(said != self._answers.before)  # the others change nothing
        if not len(rows):
            return np.zeros((2, len(self.outputs)))
        hits, had = (of[rows, None] == self.outputs for of in (said, self._answers.before))
        change = hits.astype(np.float32) - had  # (rows, classes)
        own, others = 1 / self._counts, -1 / (len(said) - self._counts)
        weights = (np.where(self._own[rows], own, others) / 2).astype(np.float32)
        ends = np.quantile(self._drawn[:, rows] @ (change * weights), _TAILS, axis=0)
        return np.clip(self._widened(ends, (change * weights).sum(axis=0)), -1, 1)

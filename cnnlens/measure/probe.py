"""Concepts that are told of whole images: a logistic probe on the units' means, and the best unit.

Classes count alike, however rare; units are standardized over the images that are learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnlens.measure.iou import ratios

DECAY = 0.1  # weight of the squared norm: some hundred images, hundreds of units
_MOST, _NEAR = 2000, 1e-5  # passes, and the slope at which a concept is done
_BLOCK = 4096  # images at once


@dataclass(frozen=True)
class Probe:
    """Weights of standardized units, and how these are standardized.

    Attributes
    ----------
    weights, bias : numpy.ndarray
        (K, C) and (K,) float64.
    mean, deviation : numpy.ndarray
        (C,) float64; units of one value everywhere have a deviation of 0, and weigh nothing.
    """

    weights: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def direction(self) -> np.ndarray:
        """(K, C): weights of the means as they are."""
        return self.weights * inverse(self.deviation)

    def logits(self, means: np.ndarray) -> np.ndarray:
        """(N, K) of means (N, C): above 0 where the concept is more likely than not."""
        return _standard(means, self.mean, self.deviation) @ self.weights.T + self.bias


def fit_probe(means: np.ndarray, rows: np.ndarray, truth: np.ndarray, kept: np.ndarray) -> Probe:
    """Fit a logistic probe for each of K concepts, all at once, by accelerated gradient descent.

    Parameters
    ----------
    means : numpy.ndarray
        (N, C), maybe in a file.
    rows : numpy.ndarray
        (n,) which of them to learn from.
    truth : numpy.ndarray
        (n, K) bool: each concept is there on some, and not on others.
    kept : numpy.ndarray
        (K, C) bool: units that take part.
    """
    mean, deviation = _moments(means, rows)
    share = truth.mean(axis=0)
    weigh = np.where(truth, 0.5 / share, 0.5 / (1 - share))  # (n, K)

    def slope(at: np.ndarray) -> np.ndarray:
        found = np.zeros_like(at)  # (K, C + 1), the bias last
        for start in range(0, len(rows), _BLOCK):
            here = slice(start, start + _BLOCK)
            x = _with_one(_standard(means[rows[here]], mean, deviation))
            wrong = (_sigmoid(x @ at.T) - truth[here]) * weigh[here]
            found += wrong.T @ x
        found /= len(rows)
        found[:, :-1] += DECAY * at[:, :-1]
        return found * mask

    mask = np.concatenate([kept, np.ones((len(kept), 1), bool)], axis=1)
    steepest = 0.25 * weigh.max(axis=0) * _largest(means, rows, mean, deviation) + DECAY
    found = _descend(slope, np.zeros(mask.shape), 1 / steepest[:, None])
    return Probe(found[:, :-1], found[:, -1], mean, deviation)


def _descend(
    slope: Callable[[np.ndarray], np.ndarray], start: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """Nesterov's descent; a concept whose steps turn back begins to gather speed anew."""
    now = ahead = start
    age = np.ones((len(start), 1))
    for _ in range(_MOST):
        down = slope(ahead)
        if np.abs(down).max(initial=0) < _NEAR:
            break
        new = ahead - step * down
        turned = (down * (new - now)).sum(axis=1, keepdims=True) > 0
        older = np.where(turned, 1.0, (1 + np.sqrt(1 + 4 * age**2)) / 2)
        ahead = new + np.where(turned, 0.0, (age - 1) / older) * (new - now)
        now, age = new, older
    return now


def _moments(means: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.zeros((2, means.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        first += means[rows[start : start + _BLOCK]].sum(axis=0, dtype=np.float64)
    first /= len(rows)
    for start in range(0, len(rows), _BLOCK):
        second += np.square(means[rows[start : start + _BLOCK]] - first).sum(axis=0)
    return first, np.sqrt(second / len(rows))


def _largest(means: np.ndarray, rows: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> float:
    """Largest eigenvalue of the standardized units' covariance, with the constant among them."""
    table = np.zeros((means.shape[1] + 1, means.shape[1] + 1))
    for start in range(0, len(rows), _BLOCK):
        x = _with_one(_standard(means[rows[start : start + _BLOCK]], mean, deviation))
        table += x.T @ x
    return float(np.linalg.eigvalsh(table)[-1]) / len(rows)


def inverse(values: np.ndarray) -> np.ndarray:
    """1/v, and 0 where that is not defined."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _standard(means: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    return (means.astype(np.float64) - mean) * inverse(deviation)


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)


def image_iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of images, (K,) float64, of (N, K) bool each; 0 where none are."""
    union = (predicted | truth).sum(axis=0)
    shared = (predicted & truth).sum(axis=0)
    return ratios(shared, union)


def best_units(
    means: np.ndarray, rows: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the unit that alone tells each concept's images best, and from which mean on.

    Parameters
    ----------
    means, rows, truth
        As for `fit_probe`.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        (K,) int64 the unit of highest IoU, the first of equals; (K,) float64 the mean above which
        an image counts.
    """
    concepts, there = truth.shape[1], truth.sum(axis=0)
    best, unit, cut = np.zeros(concepts) - 1, np.zeros(concepts, np.int64), np.zeros(concepts)
    for number in range(means.shape[1]):
        values = means[rows, number].astype(np.float64)
        order = np.argsort(-values, kind="stable")
        ordered = np.append(values[order], -np.inf)
        ends = np.flatnonzero(ordered[1:] < ordered[:-1])  # equal values go together
        shared = truth[order].cumsum(axis=0)[ends]  # (ends, K)
        scores = shared / (ends[:, None] + 1 + there - shared)
        at = scores.argmax(axis=0)
        score = scores[at, np.arange(concepts)]
        better = score > best
        best[better], unit[better], cut[better] = (
            score[better],
            number,
            ordered[ends + 1][at][better],
        )
    return unit, cut

"""How well categories are separated among vectors, in numbers, beside what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.cluster.neighbours import Neighbours, nearest
from cnnlens.cluster.vectors import Groups

_SAMPLED = 5000  # images above which the silhouette is that of a sample
_SHUFFLES, _FEWEST_SHUFFLES = 20, 4
_SHUFFLED = 20_000  # images of all shuffles together after which more tell nothing of silhouettes
_BLOCK = 2**14  # images whose votes are counted at once


@dataclass(frozen=True)
class Separation:
    """How well categories are separated somewhere; None where that is not defined."""

    silhouette: float | None  #: mean silhouette (Euclidean), from −1 to 1
    #: share of images whose k nearest others are mostly of their own category
    neighbours: float | None
    chance: float | None  #: that share after the categories were shuffled among the images
    #: the mean silhouette after that: below 0 where categories differ in how far they spread
    silhouette_chance: float | None = None


def separate(
    vectors: np.ndarray,
    groups: Groups | None,
    k: int,
    seed: int = 0,
    near: Neighbours | None = None,
) -> Separation:
    """Measure how well categories are separated among vectors (N, D).

    Neighbours that are not given are found exactly: few dimensions, as a layout has, make that
    quick.
    """
    if groups is None or len(groups.names) < 2 or len(groups.names) >= len(vectors):
        return Separation(None, None, None)
    rows = (near or nearest(vectors, k, exact=len(vectors))).rows[:, 1:]
    rng = np.random.default_rng(seed)
    labels = groups.of_image
    shuffled = [rng.permutation(labels) for _ in range(_SHUFFLES)]
    silhouette, by_chance = _silhouettes(vectors, labels, shuffled, seed)
    accuracies = [neighbour_accuracy(rows, one) for one in shuffled]
    accuracy = neighbour_accuracy(rows, labels)
    return Separation(silhouette, accuracy, float(np.mean(accuracies)), by_chance)


def neighbour_accuracy(near: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose neighbours (N, k), the nearest first, mostly have their label.

    Of labels that are equally frequent, the one that is met first counts.
    """
    right = 0
    for start in range(0, len(near), _BLOCK):
        votes = labels[near[start : start + _BLOCK]]  # (B, k)
        agree = (votes[:, :, None] == votes[:, None, :]).sum(2)  # (B, k): votes for its label
        first = agree.argmax(1)  # the nearest of the most frequent
        winners = votes[np.arange(len(votes)), first]
        right += int((winners == labels[start : start + _BLOCK]).sum())
    return right / len(near)


def _silhouettes(
    vectors: np.ndarray, labels: np.ndarray, shuffled: Sequence[np.ndarray], seed: int
) -> tuple[float | None, float | None]:
    """Mean silhouette of a sample of the images, and its mean over shuffled labels (N,)."""
    from sklearn.metrics import pairwise_distances

    chosen = np.arange(len(vectors))
    if len(vectors) > _SAMPLED:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLED])
    distances = pairwise_distances(vectors[chosen])  # (n, n), once for all shuffles
    some = shuffled[: max(_FEWEST_SHUFFLES, _SHUFFLED // len(chosen))]
    drawn = [_silhouette(distances, one[chosen]) for one in some]
    known = [one for one in drawn if one is not None]
    return _silhouette(distances, labels[chosen]), float(np.mean(known)) if known else None


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float | None:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(distances, labels, metric="precomputed"))

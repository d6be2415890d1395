"""How well categories are separated among vectors, in numbers, beside what chance gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlens.cluster.neighbours import Neighbours, nearest
from cnnlens.cluster.vectors import Groups

_SAMPLED = 5000  # images above which the silhouette is that of a sample
_SHUFFLES = 20
_BLOCK = 2**14  # images whose votes are counted at once


@dataclass(frozen=True)
class Separation:
    """How well categories are separated somewhere; None where that is not defined."""

    silhouette: float | None  #: mean silhouette (Euclidean), from −1 to 1
    #: share of images whose k nearest others are mostly of their own category
    neighbours: float | None
    chance: float | None  #: that share after the categories were shuffled among the images


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
    shuffled = [neighbour_accuracy(rows, rng.permutation(labels)) for _ in range(_SHUFFLES)]
    return Separation(
        _silhouette(vectors, labels, seed),
        neighbour_accuracy(rows, labels),
        float(np.mean(shuffled)),
    )


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


def _silhouette(vectors: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    from sklearn.metrics import silhouette_score

    if len(vectors) > _SAMPLED:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLED])
        vectors, labels = vectors[chosen], labels[chosen]
    present = len(np.unique(labels))
    if not 2 <= present < len(vectors):
        return None
    return float(silhouette_score(vectors, labels))

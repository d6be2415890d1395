"""Nearest neighbours among vectors: by comparing all with all, or, among many, all with those near.

All with all takes images² times length. Among many, vectors are sorted into cells around k means,
and each is compared with those of its own cell and of the nearest others: nearly all neighbours lie
there (an inverted file, as in Jégou, Douze and Schmid, "Product quantization for nearest neighbor
search", TPAMI 2011). How many do is measured on some rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FEW = 20_000  # rows up to which all are compared with all
_CELL = 512  # rows of a cell, on average
_AMONG = 8192  # rows that each is compared with, at least
_LEARNT = 20  # rows per cell from which means are learnt
_SAMPLED = 200  # rows whose true neighbours are looked up, to see how many were found
_EQUAL = 1e-5  # relative difference of distances that rounding may make


@dataclass(frozen=True)
class Neighbours:
    """Each row's k nearest others, the nearest first.

    Attributes
    ----------
    rows : numpy.ndarray
        (N, k + 1) int32, the row itself first.
    distances : numpy.ndarray
        (N, k + 1) float32, Euclidean.
    recall : float or None
        Share of the true neighbours that were found, on 200 rows; None where all were compared
        with all.
    """

    rows: np.ndarray
    distances: np.ndarray
    recall: float | None = None


def nearest(vectors: np.ndarray, k: int, exact: int = FEW, seed: int = 0) -> Neighbours:
    """Find each row's k nearest others among vectors (N, D).

    Parameters
    ----------
    vectors : numpy.ndarray
        (N, D) float32.
    k : int
        Below N.
    exact : int
        Rows up to which all are compared with all; beyond, all with those near.
    seed : int
        Of the cells: equal seeds, equal neighbours.
    """
    if len(vectors) <= exact:
        return Neighbours(*_itself_first(*_compared(vectors, vectors, k)))
    rows = np.empty((len(vectors), k + 1), np.int32)
    distances = np.empty((len(vectors), k + 1), np.float32)
    for cell, near in _cells(vectors, k, seed):
        found, distances[cell] = _compared(vectors[cell], vectors[near], k)
        rows[cell] = near[found]
    recall = _recall(vectors, distances, k, seed)
    return Neighbours(*_itself_first(rows, distances), recall)


def _compared(vectors: np.ndarray, others: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare vectors (B, D) with all others: the k + 1 nearest and distances, (B, k + 1) each."""
    from sklearn.neighbors import NearestNeighbors

    distances, rows = NearestNeighbors(n_neighbors=k + 1).fit(others).kneighbors(vectors)
    return rows.astype(np.int32), distances.astype(np.float32)


def _cells(vectors: np.ndarray, k: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sort rows into cells: give each one's rows, and those that they are compared with."""
    from sklearn.cluster import KMeans
    from sklearn.neighbors import NearestNeighbors

    count = max(1, len(vectors) // _CELL)
    some = np.random.default_rng(seed).permutation(len(vectors))[: _LEARNT * count]
    means = KMeans(count, init="random", n_init=1, max_iter=10, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer different vectors than cells
        means.fit(vectors[np.sort(some)])
    of_row = means.predict(vectors)  # (N,)
    sizes = np.bincount(of_row, minlength=count)
    by_cell = np.split(np.argsort(of_row, kind="stable"), np.cumsum(sizes)[:-1])
    centres = means.cluster_centers_
    search = NearestNeighbors(n_neighbors=count).fit(centres)
    for cell in np.flatnonzero(sizes).tolist():
        order = search.kneighbors(centres[cell : cell + 1], return_distance=False)[0]
        enough = np.searchsorted(sizes[order].cumsum(), max(_AMONG, k + 1)) + 1
        near = np.sort(np.concatenate([by_cell[one] for one in {cell, *order[:enough].tolist()}]))
        yield by_cell[cell], near


def _recall(vectors: np.ndarray, distances: np.ndarray, k: int, seed: int) -> float:
    """Share of neighbours found that are as near as the true k-th, on some rows."""
    count = min(_SAMPLED, len(vectors))
    some = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:count])
    _, true = _compared(vectors[some], vectors, k)
    return float((distances[some, 1:] <= true[:, -1:] * (1 + _EQUAL)).mean())


def _itself_first(rows: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put each row first among its own neighbours: among equal ones another may stand there."""
    for place in np.flatnonzero(rows[:, 0] != np.arange(len(rows))).tolist():
        row = rows[place]
        others = row[row != place][: len(row) - 1]
        rows[place] = np.concatenate([[place], others])
    return rows, distances

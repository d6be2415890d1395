"""Linear explanations once more, slowly: every sum of concepts is tried."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import nnls


def best_sum(
    concepts: np.ndarray, unit: np.ndarray, fit: np.ndarray, choose: np.ndarray, terms: int
) -> tuple[float, tuple[int, ...], np.ndarray]:
    """Try all sums of exactly so many concepts, each with the weights that fit best (scipy's NNLS).

    Returns
    -------
    float, tuple of int, numpy.ndarray
        The highest correlation on the images that choose, whose sum that is, and its weights.
    """
    y = (unit[fit] - unit[fit].mean()) / unit[fit].std()
    best = (-np.inf, (), np.zeros(0))
    for one in combinations(range(concepts.shape[1]), terms):
        columns = concepts[:, one]
        weights, _ = nnls(columns[fit] - columns[fit].mean(axis=0), y)
        said = columns[choose] @ weights
        if (weights <= 0).any() or said.std() == 0:
            continue
        agrees = np.corrcoef(said, unit[choose])[0, 1]
        if agrees > best[0]:
            best = (float(agrees), one, weights)
    return best

"""How well a unit tells its category from others, and what that comes to for units that know none.

A unit's category is chosen on the images that its selectivity is measured on, and one image may
excite all units more than another does: so shuffled categories give more than one half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SHUFFLES = 20


def shuffled_selectivity(
    peaks: np.ndarray,
    sums: np.ndarray | None,
    labels: np.ndarray,
    known: Sequence[int],
    chosen: np.ndarray,
    shuffles: int = _SHUFFLES,
    seed: int = 0,
) -> float:
    """Mean selectivity over units where categories are shuffled among the images.

    Parameters
    ----------
    peaks : numpy.ndarray
        (N, C) how high each unit peaks, on the negatives, too.
    sums : numpy.ndarray or None
        (N, C) its sum over the map, by which its category is chosen again on every shuffle; None
        where it was chosen by other things than how much the unit answers: it is left then.
    labels : numpy.ndarray
        (N,) int, categories from 0 on; -1 for negatives.
    known : sequence of int
        The categories to choose from.
    chosen : numpy.ndarray
        (C,) each unit's category.
    shuffles : int
        At most 20 are made.
    seed : int
        Of the shuffles.

    Returns
    -------
    float
        NaN without units or shuffles, and where there is nothing to tell categories from.
    """
    from scipy.stats import rankdata  # slow to import

    rng, bins, count = np.random.default_rng(seed), labels.max() + 2, min(shuffles, _SHUFFLES)
    sizes = np.bincount(labels + 1, minlength=bins)[1:]  # (K,)
    orders = [rng.permutation(labels) + 1 + bins * number for number in range(count)]
    if not orders or not peaks.shape[1]:
        return float("nan")
    place = np.concatenate(orders)  # (R·N,) where an image counts: shuffle and category

    def per_category(values: np.ndarray) -> np.ndarray:
        """Sum values (N,) over every category of every shuffle, (R, K)."""
        found = np.bincount(place, np.tile(values, count), minlength=bins * count)
        return found.reshape(count, bins)[:, 1:]

    found = []
    for unit in range(peaks.shape[1]):
        own = np.full(count, chosen[unit])
        if sums is not None:
            means = per_category(sums[:, unit])[:, known] / sizes[known]
            own = np.asarray(known)[means.argmax(axis=1)]
        ranks = per_category(rankdata(peaks[:, unit]))[np.arange(count), own]
        found.append(area_of_ranks(ranks, sizes[own], len(labels) - sizes[own]))
    return float(np.mean(found))


def area_under_curve(own: np.ndarray, others: np.ndarray) -> float:
    """Area under the ROC curve: the chance that one of `own` (n,) lies above one of `others`."""
    from scipy.stats import rankdata  # slow to import

    ranks = rankdata(np.concatenate([own, others]))[: len(own)]
    return float(area_of_ranks(ranks.sum(), len(own), len(others)))


def area_of_ranks(ranks: np.ndarray, own: np.ndarray | int, others: np.ndarray | int) -> np.ndarray:
    """Area under the ROC curve from the sum of the ranks of `own` values; NaN without others."""
    with np.errstate(invalid="ignore"):
        return (ranks - own * (own + 1) / 2) / np.multiply(own, others)

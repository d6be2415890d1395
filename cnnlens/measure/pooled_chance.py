"""P-values of units from what all units of their kind reach with shuffled labels.

What chance gives a unit depends on where its mask is: on few images or on many, in the middle of
them, where things are photographed, or at their rim. So a unit is held against its own shuffles
first: how far it lies above their mean, in their standard deviations; each shuffle likewise against
the others. That is what few shuffles tell of a unit; how rare it is, all units say together. How
much a unit varies is too little known from few shuffles: where concepts are rare, nearly all share
nothing with it, and any one that does would lie infinitely far above the others. So what the other
units vary by counts as one shuffle more.

It also depends on how much the mask covers. Where the threshold cuts through a
unit's values, that is the same share of all: these are one kind. The mask of a unit that gives its
lowest value on nearly all positions begins at that value: it covers less of the images or, where
maps are interpolated, many times more, so such units are compared among those whose masks are
within the same power of two. A mask that can hold nothing, a dead unit's above all, says nothing
about the others, and nothing is found in it.
"""

from __future__ import annotations

import numpy as np

NOTHING, CUT = -2, -1  # kinds of units: of no mask, of a threshold that cuts through its values
_FEWEST = 3  # shuffles: of two, each has one other, which has no deviation
_ROUNDING = 1e-9  # of what it is a share of: the same numbers, summed in another order


def kinds_of(
    thresholds: np.ndarray, lowest: np.ndarray, highest: np.ndarray, pixels: np.ndarray
) -> np.ndarray:
    """Sort units by what their masks cover.

    Parameters
    ----------
    thresholds, lowest, highest : numpy.ndarray
        (C,): what activations must exceed, and their range.
    pixels : numpy.ndarray
        (C,) int64: of the mask, over all images.

    Returns
    -------
    numpy.ndarray
        (C,) int64: `NOTHING`, `CUT`, or how many binary digits the pixels of a mask from the
        lowest value on have.
    """
    sizes = np.frexp(pixels)[1]
    kinds = np.where(thresholds <= lowest, sizes, CUT)
    return np.where(highest <= thresholds, NOTHING, kinds).astype(np.int64)


def p_values(observed: np.ndarray, null: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return (1 + #{null ≥ observed}) / (1 + #null), the null pooled over a unit's kind.

    Compared is how far they lie above the other shuffles of the same unit, in standard deviations;
    of fewer than three shuffles, or of a unit alone, how high they are.

    Parameters
    ----------
    observed : numpy.ndarray
        (C,).
    null : numpy.ndarray
        (shuffles, C): the same with shuffled labels.
    kinds : numpy.ndarray
        (C,) int64, from `kinds_of`.

    Returns
    -------
    numpy.ndarray
        (C,) float64; 1 of units that have no mask, and of those that share nothing with labels.
    """
    found = np.ones(len(observed))
    for kind in set(kinds.tolist()) - {NOTHING}:
        mine = kinds == kind
        found[mine] = _of_a_kind(observed[mine], null[:, mine])
    return found


def _of_a_kind(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    if len(null) >= _FEWEST and len(observed) > 1:
        observed, null = _apart(observed, null)
    pooled = np.sort(null, axis=None)
    reached = len(pooled) - np.searchsorted(pooled, observed, side="left")
    return np.asarray((1 + reached) / (1 + len(pooled)))


def _apart(observed: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far units (C,) lie above their shuffles (S, C), and each of these above the others."""
    count, mean = len(null), null.mean(axis=0)
    squares = ((null - mean) ** 2).sum(axis=0)
    others = squares - (null - mean) ** 2 * (count / (count - 1))  # each time without one
    others = np.where(others > _ROUNDING * squares, others, 0)
    rest = (count * mean - null) / (count - 1)
    usual = squares / (count - 1)
    usual = (usual.sum() - usual) / (len(usual) - 1)  # of the other units
    return (
        _deviations(observed, mean, np.sqrt((squares + usual) / count)),
        _deviations(null, rest, np.sqrt((others + usual) / (count - 1))),
    )


def _deviations(values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """How many deviations values lie above a mean; -inf of 0, infinitely far where none is."""
    least, gap = _ROUNDING * np.abs(mean), values - mean
    flat = spread <= least
    found = np.round(gap / np.where(flat, 1, spread), 9)
    found = np.where(flat, np.where(gap > least, np.inf, -np.inf), found)
    return np.where(values > 0, found, -np.inf)

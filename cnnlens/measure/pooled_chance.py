"""P-values of units from what all units of their kind reach with shuffled labels.

What chance gives a unit depends on how much its mask covers. Where the threshold cuts through a
unit's values, that is the same share of all: these are one kind. The mask of a unit that gives its
lowest value on nearly all positions begins at that value: it covers less of the images or, where
maps are interpolated, many times more, so such units are compared among those whose masks are
within the same power of two. A mask that can hold nothing, a dead unit's above all, says nothing
about the others, and nothing is found in it.
"""

from __future__ import annotations

import numpy as np

NOTHING, CUT = -2, -1  # kinds of units: of no mask, of a threshold that cuts through its values


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
        (C,) float64; 1 of units that have no mask.
    """
    found = np.ones(len(observed))
    for kind in set(kinds.tolist()) - {NOTHING}:
        mine = kinds == kind
        pooled = np.sort(null[:, mine], axis=None)
        reached = len(pooled) - np.searchsorted(pooled, observed[mine], side="left")
        found[mine] = (1 + reached) / (1 + len(pooled))
    return found

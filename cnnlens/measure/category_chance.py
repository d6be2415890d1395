"""Whether a category among a unit's highest peaks is more than drawing images gives."""

from __future__ import annotations

_SURE = 0.05


def stands_out(count: int, drawn: int, of_category: int, images: int, categories: int) -> bool:
    """Whether a unit's most frequent category is more frequent than by chance.

    Of images drawn without looking, as many as a unit's highest peaks, the number that are of one
    category is hypergeometric; Bonferroni's correction for the categories that might have been the
    most frequent one.

    Parameters
    ----------
    count, drawn : int
        Images of the category among those of the highest peaks, and how many these are.
    of_category, images : int
        The same among all images: where all are drawn, nothing stands out.
    categories : int
        How many there are.
    """
    from scipy.stats import hypergeom

    above = float(hypergeom.sf(count - 1, images, min(of_category, images), min(drawn, images)))
    return above * categories < _SURE

"""Do two networks hold the same classes close? Two trees of classes, held against each other.

Three figures, each with what chance gives: classes of one tree change their places at random. The
cophenetic correlation asks whether what joins low in one tree joins low in the other; groups in
common are counted as they stand; the rank correlation of the distances leaves the trees aside.

Sokal and Rohlf, "The comparison of dendrograms by objective methods", Taxon 1962. Mantel, "The
detection of disease clustering and a generalized regression approach", Cancer Research 1967.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlens.settings import CompareSettings

FEWEST = 4  # classes: three distances of a tree of three say nothing
_AT_MOST = 2 * 10**8  # distances looked at in all permutations together

AGREEMENTS = {  # what `agreement` finds, for people
    "trees": "Agreement of the trees (cophenetic r)",
    "groups": "Groups in both trees",
    "distances": "Agreement of the distances (Spearman)",
}

Clades = set[frozenset[str]]
Distances = tuple[Sequence[str], np.ndarray]  # names, and (K, K)


def leaves_and_nodes(
    tree: Mapping[str, Any],
) -> tuple[list[str], list[tuple[float, list[list[int]]]]]:
    """Take a nested tree apart, without recursion.

    Returns
    -------
    list of str, list of (float, list of list of int)
        The leaves' names; of every node its distance and, child by child, the leaves below.
    """
    order: list[Mapping[str, Any]] = []
    waiting = [tree]
    while waiting:
        order.append(node := waiting.pop())
        waiting += node.get("children", ())
    names = [str(node["name"]) for node in order if "children" not in node]
    numbers = iter(range(len(names) - 1, -1, -1))
    below: dict[int, list[int]] = {}
    nodes = []
    for node in reversed(order):  # children before their parents
        if "children" in node:
            sides = [below[id(child)] for child in node["children"]]
            nodes.append((float(node["distance"]), sides))
            below[id(node)] = [leaf for side in sides for leaf in side]
        else:
            below[id(node)] = [next(numbers)]
    return names, nodes


def cophenetic_distances(tree: Mapping[str, Any]) -> Distances:
    """Give the distance at which any two leaves of a nested tree join: names, and (K, K)."""
    names, nodes = leaves_and_nodes(tree)
    found = np.zeros((len(names), len(names)))
    for distance, sides in nodes:
        for place, one in enumerate(sides):
            for other in sides[place + 1 :]:
                found[np.ix_(one, other)] = found[np.ix_(other, one)] = distance
    return names, found


def groups_of(tree: Mapping[str, Any], among: Sequence[str]) -> Clades:
    """List the sets of leaves below its nodes, of some leaves alone: two at least, and not all."""
    names, nodes = leaves_and_nodes(tree)
    known = set(among)
    sets = (frozenset(names[leaf] for side in sides for leaf in side) & known for _, sides in nodes)
    return {one for one in sets if 1 < len(one) < len(known)}


def mean_support(tree: Mapping[str, Any]) -> float | None:
    """Mean support of a tree's merges but the last, which every tree has; None without any."""
    found, waiting = [], list(tree.get("children", ()))
    while waiting:
        node = waiting.pop()
        waiting += node.get("children", ())
        if node.get("support") is not None:
            found.append(float(node["support"]))
    return float(np.mean(found)) if found else None


def agreement(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    distances: tuple[Distances, Distances],
    settings: CompareSettings,
) -> dict[str, Any] | None:
    """Hold two nested trees of classes against each other, on the classes that both have.

    Parameters
    ----------
    one, other : mapping
        As in ``categories.json``.
    distances : pair of (names, (K, K))
        The distances that each was built from.
    settings : CompareSettings
        How many permutations, and their seed.

    Returns
    -------
    dict or None
        ``categories``: how many. ``trees``: cophenetic correlation of the two (Pearson),
        ``distances``: Spearman's of their distances, each as ``value, chance, p_value``; None
        where all distances of one are equal. ``groups``: those in common as ``value, chance,
        p_value``, of how many. None of fewer than four classes.
    """
    trees = cophenetic_distances(one), cophenetic_distances(other)
    common = sorted(set(trees[0][0]) & set(trees[1][0]))
    if (count := len(common)) < FEWEST:
        return None
    many = max(99, min(settings.resamples, _AT_MOST // count**2))
    rng = np.random.default_rng([settings.seed, count])
    orders = np.stack([rng.permutation(count) for _ in range(many)])
    clades = groups_of(one, common), groups_of(other, common)
    return {
        "categories": count,
        "trees": _mantel(_both(trees, common), orders),
        "distances": _mantel(_both(distances, common), orders, ranks=True),
        "groups": _shared(*clades, common, orders),
    }


def _both(found: tuple[Distances, Distances], common: Sequence[str]) -> list[np.ndarray]:
    """Give both matrices (K, K) of the classes that both have, in one order."""
    rows = [[list(names).index(name) for name in common] for names, _ in found]
    return [matrix[np.ix_(at, at)] for at, (_, matrix) in zip(rows, found, strict=True)]


def _mantel(
    both: Sequence[np.ndarray], orders: np.ndarray, ranks: bool = False
) -> dict[str, float] | None:
    """Correlate the upper halves of two matrices (K, K), and permuted classes for chance."""
    from scipy.stats import rankdata

    rows, columns = np.triu_indices(len(both[0]), 1)
    flat = [rankdata(m[rows, columns]) if ranks else m[rows, columns] for m in both]
    if any(np.ptp(values) == 0 for values in flat):
        return None
    first, second = ((values - values.mean()) / values.std() for values in flat)
    square = np.zeros_like(both[0])
    square[rows, columns] = square[columns, rows] = second
    drawn = np.array([(first * square[order[rows], order[columns]]).mean() for order in orders])
    return _against(float((first * second).mean()), drawn)


def _shared(one: Clades, other: Clades, common: Sequence[str], orders: np.ndarray) -> Any:
    def renamed(order: np.ndarray) -> Clades:
        names = dict(zip(common, (common[at] for at in order), strict=True))
        return {frozenset(names[name] for name in group) for group in other}

    drawn = np.array([len(one & renamed(order)) for order in orders])
    return {**_against(len(one & other), drawn), "of": max(len(one), len(other))}


def _against(value: float, drawn: np.ndarray) -> dict[str, float]:
    above = int((drawn >= value - 1e-12).sum())
    p_value = (1 + above) / (1 + len(drawn))
    return {"value": value, "chance": float(drawn.mean()), "p_value": p_value}

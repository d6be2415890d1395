from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage, to_tree
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, spearmanr

from cnnlens.measure.tree_agreement import (
    agreement,
    cophenetic_distances,
    groups_of,
    mean_support,
)
from cnnlens.settings import CompareSettings

S = CompareSettings(resamples=400)
NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]


def distances(seed: int, count: int = 7) -> np.ndarray:
    found = np.random.default_rng(seed).random((count, count))
    found = (found + found.T) / 2
    np.fill_diagonal(found, 0)
    return found


def nested(merges: np.ndarray, names: list[str]) -> Any:
    def spell(node: Any) -> Any:
        if node.is_leaf():
            return {"name": names[node.id]}
        return {"distance": node.dist, "children": [spell(node.left), spell(node.right)]}

    return spell(to_tree(merges))


def tree(matrix: np.ndarray, names: list[str]) -> tuple[Any, np.ndarray]:
    merges = linkage(squareform(matrix), "weighted")
    return nested(merges, names), cophenet(merges)


def compared(one: np.ndarray, other: np.ndarray, names: list[str] = NAMES) -> Any:
    trees = tree(one, names)[0], tree(other, names)[0]
    return agreement(*trees, ((names, one), (names, other)), S)


def test_cophenetic_distances_are_scipys():
    nest, truth = tree(distances(0), NAMES)
    names, found = cophenetic_distances(nest)
    order = [names.index(name) for name in NAMES]
    assert squareform(found[np.ix_(order, order)]) == pytest.approx(truth)


def test_the_agreement_of_trees_and_of_distances_is_scipys():
    one, other = distances(1), distances(1) + 0.4 * distances(2)
    found = compared(one, other)
    truth = pearsonr(tree(one, NAMES)[1], tree(other, NAMES)[1]).statistic
    assert found["trees"]["value"] == pytest.approx(truth)
    truth = spearmanr(squareform(one), squareform(other)).statistic
    assert found["distances"]["value"] == pytest.approx(truth)


def test_chance_and_p_are_those_of_all_permutations():
    names = NAMES[:5]
    one, other = distances(3, 5), distances(4, 5)
    flat, square = tree(one, names)[1], squareform(tree(other, names)[1])
    drawn = []
    for order in permutations(range(5)):
        drawn.append(pearsonr(flat, squareform(square[np.ix_(order, order)])).statistic)
    found = compared(one, other, names)["trees"]
    assert found["chance"] == pytest.approx(np.mean(drawn), abs=0.06)
    truth = np.mean(np.array(drawn) >= found["value"] - 1e-12)
    assert found["p_value"] == pytest.approx(truth, abs=0.08)


def test_a_tree_agrees_with_itself_and_shares_all_groups():
    found = compared(distances(5), distances(5))
    assert found["trees"]["value"] == pytest.approx(1)
    assert found["groups"]["value"] == found["groups"]["of"] == 5
    assert found["trees"]["p_value"] < 0.02
    assert found["groups"]["chance"] < 2


def test_groups_are_counted_one_by_one():
    one = {"distance": 3, "children": [
        {"distance": 1, "children": [{"name": "a"}, {"name": "b"}]},
        {"distance": 2, "children": [{"name": "c"}, {"name": "d"}]},
    ]}  # fmt: skip
    assert groups_of(one, "abcd") == {frozenset("ab"), frozenset("cd")}
    assert groups_of(one, "abc") == {frozenset("ab")}


def test_only_classes_that_both_have_count_and_few_are_none():
    one, other = distances(6), distances(7)
    names = ["yak", *NAMES[1:]]
    found = agreement(tree(one, NAMES)[0], tree(other, names)[0], ((NAMES, one), (names, other)), S)
    kept = np.ix_(range(1, 7), range(1, 7))
    truth = spearmanr(squareform(one[kept]), squareform(other[kept])).statistic
    assert (found["categories"], found["distances"]["value"]) == (6, pytest.approx(truth))
    assert compared(distances(0, 3), distances(1, 3), NAMES[:3]) is None


def test_equal_distances_have_no_correlation():
    flat = 1 - np.eye(5)
    assert compared(flat, distances(0, 5), NAMES[:5])["distances"] is None


def test_support_is_the_mean_over_merges_below_the_root():
    leaf = {"name": "a"}
    inner = {"distance": 1, "support": 0.5, "children": [leaf, leaf]}
    other = {"distance": 1, "support": 1.0, "children": [inner, leaf]}
    assert mean_support({"distance": 2, "support": 1.0, "children": [other, leaf]}) == 0.75
    assert mean_support({"distance": 2, "support": None, "children": [leaf, leaf]}) is None

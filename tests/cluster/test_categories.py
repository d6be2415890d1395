from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cnnlens.cluster.categories import (
    LAYER_COLUMNS,
    bootstrap_weights,
    category_tree,
    layer_row,
    spanning_tree,
)
from cnnlens.cluster.products import gram
from cnnlens.cluster.tree import clades
from cnnlens.cluster.vectors import Groups, Joined, Maps, group
from cnnlens.errors import CnnlensError
from cnnlens.report.figures.categories import dendrogram
from tests.reference.cluster import category_merges


def world(seed: int, categories: int = 9, each: int = 5) -> tuple[Maps, Groups]:
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((categories, 6, 2, 3))
    maps = means[:, None] + rng.standard_normal((categories, each, 6, 2, 3))
    names = [f"c{i}" for i in range(categories) for _ in range(each)]
    return Maps(maps.reshape(-1, 6, 2, 3).astype(np.float32)), group(names)


def sets(merges: np.ndarray, names: tuple[str, ...]) -> list[frozenset[str]]:
    return [
        frozenset(name for bit, name in enumerate(names) if clade >> bit & 1)
        for clade in clades(merges[:, :2], len(names))
    ]


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_pseudocode_taken_literally(seed: int) -> None:
    source, groups = world(seed, categories=3 + seed * 2)
    tree = category_tree(source, groups, resamples=0)
    means = {
        name: source.values[groups.rows(name)].astype(np.float64).mean(0).ravel()
        for name in groups.names
    }
    wanted = category_merges(means)
    assert sets(tree.merges, tree.names) == [u | v for u, v, _ in wanted]
    np.testing.assert_allclose(tree.merges[:, 2], [d for *_, d in wanted], atol=1e-12)


def test_distances_are_half_of_one_minus_the_cosine() -> None:
    source, groups = world(1)
    tree = category_tree(source, groups, resamples=0)
    means = [source.values[groups.rows(n)].astype(np.float64).mean(0).ravel() for n in groups.names]
    np.testing.assert_allclose(tree.distances, cdist(means, means, "cosine") / 2, atol=1e-12)


def test_the_products_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    source, groups = world(2)
    weights = np.random.default_rng(0).random((4, source.shape[0]))
    whole = gram(source, groups, weights)
    monkeypatch.setattr("cnnlens.cluster.products._HELD", 1)
    np.testing.assert_allclose(gram(source, groups, weights), whole, rtol=1e-12)
    halves = Joined((Maps(source.values[:20]), Maps(source.values[20:])))
    np.testing.assert_allclose(gram(halves, groups, weights), whole, rtol=1e-12)


def test_a_spanning_tree_keeps_identical_categories_and_is_the_shortest() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((7, 3))
    points[4] = points[1]
    distances = cdist(points, points)
    edges = spanning_tree(distances)
    assert len(edges) == 6
    assert (1, 4, 0.0) in edges
    shortest = _kruskal(distances)
    assert sum(edge[2] for edge in edges) == pytest.approx(shortest)


def _kruskal(distances: np.ndarray) -> float:
    part = list(range(len(distances)))
    total = 0.0
    for i, j in sorted(np.ndindex(distances.shape), key=lambda at: distances[at]):
        if part[i] != part[j]:
            total += distances[i, j]
            part = [part[i] if p == part[j] else p for p in part]
    return total


def test_support_is_high_for_planted_groups_and_low_for_chance() -> None:
    rng = np.random.default_rng(0)
    families = rng.standard_normal((2, 1, 8, 1, 1)) * 3
    members = families[[0, 0, 0, 1, 1, 1]] + 0.0 * rng.random((6, 1, 8, 1, 1))
    maps = members + rng.standard_normal((6, 12, 8, 1, 1))
    names = [f"{i // 3}-{i % 3}" for i in range(6) for _ in range(12)]
    source = Maps(maps.reshape(-1, 8, 1, 1).astype(np.float32))
    tree = category_tree(source, group(names), resamples=200)
    found = dict(zip(sets(tree.merges, tree.names), tree.support, strict=True))
    assert found[frozenset({"0-0", "0-1", "0-2"})] > 0.95
    within = [value for members, value in found.items() if len(members) == 2]
    assert within
    assert max(within) < 0.9  # which two of a family merge first is chance


def test_support_is_the_share_of_trees_from_images_drawn_anew() -> None:
    source, groups = world(4, categories=6, each=4)
    tree = category_tree(source, groups, resamples=40, seed=7)
    weights = bootstrap_weights(groups, 40, np.random.default_rng(7))
    assert (weights.sum(1) == 24).all()
    wanted = np.zeros(len(tree.merges))
    for row in weights:
        drawn = np.repeat(np.arange(24), row.astype(int))
        again = category_tree(
            Maps(source.values[drawn]), Groups(groups.names, groups.of_image[drawn]), resamples=0
        )
        found = set(sets(again.merges, again.names))
        wanted += [members in found for members in sets(tree.merges, tree.names)]
    assert tree.support is not None
    assert wanted[-1] == 40  # every tree has the root: that says nothing
    np.testing.assert_allclose(tree.support, [*wanted[:-1] / 40, np.nan])


def test_one_image_per_category_has_no_support() -> None:
    source, groups = world(0, categories=5, each=1)
    assert category_tree(source, groups).support is None


def test_merges_of_categories_of_one_image_have_no_support() -> None:
    rng = np.random.default_rng(0)
    pair = np.float32([[9, 0, 0, 1], [9, 0, 1, 0]])  # near each other, one image each
    rest = np.abs(rng.standard_normal((18, 4))).astype(np.float32)
    groups = group(["a", "b", *(name for name in "cde" for _ in range(6))])
    maps = Maps(np.concatenate([pair, rest])[:, :, None, None])
    tree = category_tree(maps, groups, resamples=20)
    assert tree.support is not None
    unknown = {
        members
        for members, share in zip(sets(tree.merges, tree.names), tree.support, strict=True)
        if np.isnan(share)
    }
    assert unknown == {frozenset("ab"), frozenset("abcde")}
    assert [one["support"] is None for one in tree.node_entries()].count(True) == 2
    assert tree.as_dict()["supported"] == 2 and "nan" not in tree.newick()
    dendrogram(tree)


def test_two_categories_have_no_support_to_show() -> None:
    source, groups = world(4, categories=2, each=4)
    tree = category_tree(source, groups, resamples=5)
    assert tree.as_dict()["first_support"] is None
    assert tree.newick().endswith(");\n")


def test_categories_without_a_direction_are_left_out_and_named() -> None:
    source, groups = world(0, categories=5)
    source.values[groups.rows("c2")] = 0
    tree = category_tree(source, groups, resamples=10)
    assert tree.excluded == ("c2",)
    assert len(tree.names) == 4
    source.values[:20] = 0
    with pytest.raises(CnnlensError, match="answers nothing"):
        category_tree(source, groups)


def test_one_category_is_no_tree() -> None:
    source, groups = world(0, categories=1)
    with pytest.raises(CnnlensError, match="two categories"):
        category_tree(source, groups)


def test_identical_categories_merge_at_no_distance() -> None:
    values = np.random.default_rng(0).random((4, 3, 2, 2)).astype(np.float32)
    tree = category_tree(Maps(np.concatenate([values, values])), group(list("aaaabbbb")))
    assert tree.merges[0, 2] == 0
    assert tree.cophenetic is None


def test_the_centre_has_the_shortest_ways_to_all() -> None:
    angles = np.deg2rad([0, 20, 40, 60, 80])
    maps = np.stack([np.cos(angles), np.sin(angles)], 1)[:, :, None, None].astype(np.float32)
    tree = category_tree(Maps(maps), group(list("abcde")))
    assert tree.names[tree.centre] == "c"
    assert {(a, b) for a, b, _ in tree.edges} == {(0, 1), (1, 2), (2, 3), (3, 4)}


def test_a_row_beside_others_says_what_merges_first():
    tree = {"categories": 3, "images": 9, "first_merge": ["a", "b"], "first_support": 0.5,
            "centre": "a", "cophenetic": None}  # fmt: skip
    row = layer_row("conv1", tree)
    assert row == ["conv1", 3, 9, "a + b", 0.5, "a", None]
    assert len(row) == len(LAYER_COLUMNS)

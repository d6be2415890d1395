from __future__ import annotations

import numpy as np
import pytest

from cnnlens.cluster.filters import (
    NONE,
    critical_filter,
    filter_tree,
    filter_trees,
    node_vectors,
)
from cnnlens.cluster.vectors import Groups, group, read_categories
from cnnlens.errors import CnnlensError
from tests.cluster.counting import Counting
from tests.reference.cluster import filter_merges


def random_maps(seed: int, images: int, units: int, signed: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((images, units, 2, 3))
    return maps if signed else np.maximum(maps, 0)


def check(maps: np.ndarray, rule: str) -> None:
    tree = filter_tree(maps, rule)
    wanted = filter_merges(maps[tree.leaves], rule)
    assert tree.pairs.tolist() == [[a, b] for a, b, *_ in wanted]
    np.testing.assert_allclose(tree.distances, [d for _, _, d, _, _ in wanted], atol=1e-12)
    assert tree.critical.tolist() == [NONE if f is None else f for *_, f, _ in wanted]
    assert tree.reachable.tolist() == [len(reach) for *_, reach in wanted]


@pytest.mark.parametrize("rule", ["argmin", "largest-change"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_pseudocode_taken_literally(seed: int, signed: bool, rule: str) -> None:
    check(random_maps(seed, images=5 + 6 * seed, units=3 + 2 * seed, signed=signed), rule)


@pytest.mark.parametrize("seed", range(4))
def test_equal_distances_and_zeros_go_to_the_lowest_index(seed: int) -> None:
    # small whole numbers on one position: dot products are exact, and many are equal
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 2, (14, 5, 1, 1)).astype(np.float64)
    maps[:, 0] = 1
    check(maps, "argmin")


def test_the_two_rules_differ_where_a_cosine_rises_more_than_another_falls() -> None:
    u, v = np.array([[3.0], [1.0], [4.0]]), np.array([[0.1], [1.0], [4.0]])
    every = np.ones(3, bool)
    assert critical_filter(u, v, every, every, "argmin") == 2
    w = np.array([[9.0], [1.0], [1.0]])
    assert critical_filter(w, v, every, every, "largest-change") == 0


def test_each_side_is_masked_by_its_own_reachable_filters() -> None:
    rng = np.random.default_rng(3)
    differing = 0
    for _ in range(200):
        u, v = rng.random((2, 6, 1)) ** 3
        reach_u, reach_v = rng.random((2, 6)) < 0.7
        if not (reach_u & reach_v).any():
            continue
        own = critical_filter(u, v, reach_u, reach_v)
        both = critical_filter(u, v, reach_u & reach_v, reach_u & reach_v)
        differing += own != both
    assert differing > 0


def test_filters_that_none_can_reach_leave_a_merge_without_critical_filter() -> None:
    u = np.ones((2, 1))
    assert critical_filter(u, u, np.array([True, False]), np.array([False, True])) == NONE


def test_several_subtrees_remain_when_no_filters_are_left() -> None:
    maps = random_maps(0, images=12, units=2)
    tree = filter_tree(maps)
    assert len(tree.pairs) < len(tree.leaves) - 1
    check(maps, "argmin")


def test_identical_images_merge_first_at_no_distance() -> None:
    maps = random_maps(1, images=6, units=5)
    maps[4] = maps[2]
    tree = filter_tree(maps)
    assert tree.pairs[0].tolist() == [2, 4]
    assert tree.distances[0] == pytest.approx(0, abs=1e-15)


def test_images_without_a_direction_are_left_out_and_named() -> None:
    maps = random_maps(2, images=5, units=4)
    maps[3] = 0
    tree = filter_tree(maps)
    assert tree.excluded.tolist() == [3]
    assert tree.leaves.tolist() == [0, 1, 2, 4]
    with pytest.raises(CnnlensError, match="nothing"):
        filter_tree(np.zeros((3, 4, 1, 1)))


def test_one_image_is_a_tree_of_one_leaf() -> None:
    tree = filter_tree(random_maps(5, images=1, units=3))
    assert tree.leaves.tolist() == [0]
    assert tree.pairs.shape == (0, 2)


def test_a_node_is_the_mean_of_its_two_children() -> None:
    maps = random_maps(6, images=9, units=20)
    tree = filter_tree(maps)
    vectors = node_vectors(maps, tree)
    for merge, (a, b) in enumerate(tree.pairs):
        np.testing.assert_allclose(vectors[9 + merge], (vectors[a] + vectors[b]) / 2, rtol=1e-6)
    assert tree.sizes[-1] == 9


# ---- all categories


def mixed(seed: int = 0) -> tuple[Counting, Groups]:
    """Five categories in turn, over several batches of the source."""
    maps = random_maps(seed, images=100, units=6).astype(np.float32)
    return Counting(maps), group([f"c{i * i % 5}" for i in range(100)])


def test_trees_of_all_categories_read_the_source_once() -> None:
    source, groups = mixed()
    trees = {given.name: tree for given, tree in filter_trees(source, groups)}
    assert source.passes == 1
    assert tuple(trees) == groups.names
    for name, tree in trees.items():
        wanted = filter_tree(source.values[groups.rows(name)])
        np.testing.assert_array_equal(tree.pairs, wanted.pairs)
        np.testing.assert_array_equal(tree.critical, wanted.critical)


def test_as_many_categories_are_read_together_as_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, groups = mixed()
    names = ["c4", "c0", "c1"]
    each = 4 * 6 * 2 * 3
    most = each * (len(groups.rows("c4")) + len(groups.rows("c0")))
    monkeypatch.setattr("cnnlens.cluster.vectors._HELD", most)
    found = list(read_categories(source, groups, names))
    assert source.passes == 2
    assert [one.name for one in found] == names
    for one in found:
        np.testing.assert_array_equal(one.rows, groups.rows(one.name))
        np.testing.assert_array_equal(one.maps, source.values[one.rows])


def test_a_category_without_answers_has_a_tree_without_leaves() -> None:
    source, groups = mixed()
    source.values[groups.rows("c1")] = 0
    trees = {given.name: tree for given, tree in filter_trees(source, groups, ["c0", "c1"])}
    images = [str(i) for i in groups.rows("c1")]
    assert trees["c1"].as_dict(images) == {"leaves": 0, "merges": 0, "excluded": images}
    assert len(trees["c0"].leaves) > 0

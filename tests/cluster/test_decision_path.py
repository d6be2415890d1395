from __future__ import annotations

import numpy as np
import pytest

from cnnlens.cluster.decision_path import DecisionPath, Split, decision_path
from cnnlens.cluster.filters import FilterTree, filter_tree
from tests.reference import cluster as reference


def random_maps(seed: int, images: int, units: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((images, units, 2, 3)), 0).astype(np.float32)


@pytest.mark.parametrize(("seed", "units"), [(0, 12), (1, 20), (2, 4), (3, 2)])
def test_goes_down_as_the_literal_version_does(seed: int, units: int) -> None:
    maps = random_maps(seed, 15, units)
    tree = filter_tree(maps)
    for image in random_maps(100 + seed, 8, units):
        found = decision_path(maps, tree, image)
        splits, leaf, distance = reference.decision_path(maps, image)
        assert [(s.merge, s.filter) for s in found.splits] == [s[:2] for s in splits]
        distances = [(s.to_chosen, s.to_other) for s in found.splits]
        np.testing.assert_allclose(distances, [s[2:] for s in splits], atol=1e-6)
        assert found.leaf == leaf
        assert found.distance == pytest.approx(distance, abs=1e-6)


def test_every_image_of_clear_kinds_ends_among_its_own() -> None:
    kinds = np.eye(4, 8)[:, :, None, None]  # four directions at right angles
    rng = np.random.default_rng(0)
    maps = np.repeat(kinds, 5, axis=0) + 0.01 * rng.random((20, 8, 1, 1))
    tree = filter_tree(maps)
    for kind in range(4):
        found = decision_path(maps, tree, kinds[kind] + 0.01 * rng.random((8, 1, 1)))
        assert tree.leaves[found.leaf] // 5 == kind


def test_an_image_of_another_size_is_the_callers_mistake() -> None:
    maps = random_maps(0, 5, 4)
    with pytest.raises(ValueError, match=r"\(3, 2, 3\)"):
        decision_path(maps, filter_tree(maps), maps[0, :3])


def test_main_splits_pass_over_those_that_only_set_a_few_images_apart() -> None:
    # merge 5 sets image 6 apart, merge 6 image 7; merge 4 joins four and two images
    pairs = np.array([[0, 1], [2, 3], [8, 9], [4, 5], [10, 11], [12, 6], [13, 7]])
    none = np.zeros(7, np.int64)
    tree = FilterTree(np.arange(8), pairs, np.zeros(7), none, none, np.empty(0, np.int64))
    path = DecisionPath(tuple(Split(m, 0, 0.0, 0.0) for m in (6, 5, 4, 2, 0)), 0, 0.0)
    assert path.main_splits(tree, most=2) == [2, 3]
    assert path.main_splits(tree, most=4) == [0, 1, 2, 3]
    assert path.main_splits(tree, most=9) == [0, 1, 2, 3, 4]

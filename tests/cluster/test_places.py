"""Where nodes of trees stand in pictures."""

from __future__ import annotations

import numpy as np

from cnnlens.cluster.categories import CategoryTree, category_tree
from cnnlens.cluster.filters import NONE, FilterTree
from cnnlens.cluster.places import below, branches, dendrogram_places, radial, top_levels
from cnnlens.cluster.vectors import Maps, group


def tree_of_categories(count: int = 9) -> CategoryTree:
    rng = np.random.default_rng(0)
    maps = rng.random((2 * count, 6, 2, 2)).astype(np.float32)
    names = [f"c{number % count}" for number in range(2 * count)]
    return category_tree(Maps(maps), group(names), resamples=0)


def tree_of_filters(leaves: int, pairs: list[tuple[int, int]]) -> FilterTree:
    many = np.full(len(pairs), NONE)
    return FilterTree(
        np.arange(leaves), np.array(pairs), np.zeros(len(pairs)), many, many, np.empty(0)
    )


def test_a_merge_stands_between_its_children_at_its_distance() -> None:
    tree = tree_of_categories()
    xs, ys = dendrogram_places(tree)
    count = len(tree.names)
    assert [ys[leaf] for leaf in tree.order] == list(range(count))
    for merge, (a, b, distance, _) in enumerate(tree.merges):
        assert xs[count + merge] == distance
        assert ys[count + merge] == (ys[int(a)] + ys[int(b)]) / 2


def test_branches_are_whole_and_begin_with_the_smaller() -> None:
    tree = tree_of_categories()
    order, parent, depth = branches(tree)
    assert order[0] == tree.centre and sorted(order) == list(range(len(tree.names)))
    edges = {frozenset(edge[:2]) for edge in tree.edges}
    assert {frozenset((node, parent[node])) for node in order[1:]} == edges

    def size(node: int) -> int:
        return 1 + sum(size(other) for other in order if parent[other] == node)

    for node in order:
        at = order.index(node)
        assert all(_is_under(other, node, parent) for other in order[at : at + size(node)])
        children = [other for other in order if parent[other] == node]
        assert [size(child) for child in children] == sorted(map(size, children))
        assert all(depth[child] == depth[node] + 1 for child in children)


def _is_under(node: int, top: int, parent: dict[int, int]) -> bool:
    while node not in (top, -1):
        node = parent[node]
    return node == top


def test_rings_are_as_far_from_the_centre_as_their_nodes() -> None:
    tree = tree_of_categories()
    _, _, depth = branches(tree)
    places = radial(tree)
    far = np.hypot(*(places - places[tree.centre]).T)
    np.testing.assert_allclose(far, [depth[node] for node in range(len(far))], atol=1e-12)
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert apart[~np.eye(len(far), dtype=bool)].min() > 0.1


def test_merges_that_set_a_few_images_apart_are_passed_over_and_counted() -> None:
    # two halves of 60; of the first, one image after the other was set apart at the top
    half = 60
    pairs, nodes = [], []
    for start in (0, half):
        node = start
        for leaf in range(start + 1, start + half):
            pairs.append((node, leaf))
            node = 2 * half + len(pairs) - 1
        nodes.append(node)
    pairs.append((nodes[0], nodes[1]))
    tree = tree_of_filters(2 * half, pairs)
    boxes = top_levels(tree)
    root = next(box for box in boxes if box.level == 0)
    assert (root.node, root.apart) == (2 * half + len(pairs) - 1, 0)
    first, second = root.below
    assert first.apart == second.apart == half - 2  # down to a pair, of which neither is large
    assert first.row < root.row < second.row
    assert below(tree, first.node).tolist() == [0, 1]
    assert below(tree, nodes[1]).tolist() == list(range(half, 2 * half))


def test_of_several_subtrees_the_largest_are_shown() -> None:
    tree = tree_of_filters(5, [(0, 1), (2, 5)])  # of three images; two leaves beside it
    tops = [box for box in top_levels(tree) if box.level == 0]
    assert [box.node for box in tops] == [6, 3, 4]
    assert len({box.row for box in tops}) == 3

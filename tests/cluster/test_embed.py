from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from cnnlens.cluster.embed import flat_vectors, lay_out, nearest, neighbour_accuracy, separate
from cnnlens.cluster.vectors import Maps, group
from cnnlens.errors import CnnlensError


def blobs(apart: float, each: int = 15, count: int = 3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((count, 8)) * apart
    vectors = np.repeat(centres, each, axis=0) + rng.standard_normal((count * each, 8))
    return vectors.astype(np.float32), [str(i) for i in range(count) for _ in range(each)]


def test_neighbour_accuracy_equals_leaving_one_out() -> None:
    vectors, names = blobs(0.7)
    groups = group(names)
    rows, _ = nearest(vectors, 4)
    right = 0
    for left in range(len(vectors)):
        rest = np.delete(np.arange(len(vectors)), left)
        distances = np.linalg.norm(vectors[rest] - vectors[left], axis=1)
        near = groups.of_image[rest[np.argsort(distances)[:4]]].tolist()
        most = max(near.count(label) for label in near)
        winner = next(label for label in near if near.count(label) == most)
        right += winner == groups.of_image[left]
    assert neighbour_accuracy(rows[:, 1:], groups.of_image) == pytest.approx(right / len(vectors))
    one = [
        KNeighborsClassifier(1)
        .fit(np.delete(vectors, i, 0), np.delete(groups.of_image, i))
        .predict(vectors[i : i + 1])[0]
        for i in range(len(vectors))
    ]
    single = neighbour_accuracy(rows[:, 1:2], groups.of_image)
    assert single == pytest.approx(np.mean(np.array(one) == groups.of_image))


def test_separated_categories_score_high_and_mixed_ones_at_chance() -> None:
    vectors, names = blobs(8)
    found = separate(vectors, group(names), 5)
    assert found.neighbours == 1
    assert found.silhouette == pytest.approx(silhouette_score(vectors, names), abs=1e-6)
    mixed = np.random.default_rng(1).permutation(names).tolist()
    found = separate(vectors, group(mixed), 5)
    assert found.neighbours is not None
    assert found.chance is not None
    assert abs(found.neighbours - found.chance) < 0.2
    assert found.chance < 0.5


def test_each_row_is_first_among_its_own_neighbours_even_among_equals() -> None:
    vectors = np.zeros((6, 2), np.float32)
    vectors[3:] = 1
    rows, _ = nearest(vectors, 2)
    assert rows[:, 0].tolist() == list(range(6))
    assert all(len(set(row)) == 3 for row in rows.tolist())


@pytest.mark.filterwarnings("ignore")
def test_one_seed_gives_one_layout_which_keeps_the_groups_apart() -> None:
    vectors, names = blobs(8)
    first, again = (lay_out(vectors, group(names), 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.flat, again.flat)
    assert first.flat.shape == (45, 2)
    assert first.deep.shape == (45, 3)
    assert first.separation["2d"].neighbours == 1
    assert lay_out(vectors[:5], None, 15).separation["2d"].silhouette is None


def test_too_few_images_are_no_layout() -> None:
    with pytest.raises(CnnlensError, match="too few"):
        lay_out(np.ones((4, 3), np.float32), None)


def test_long_vectors_are_projected_and_keep_their_distances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = np.random.default_rng(0).random((30, 64, 8, 8)).astype(np.float32)
    whole, projected = flat_vectors(Maps(maps))
    assert projected is None
    np.testing.assert_array_equal(whole, maps.reshape(30, -1))
    monkeypatch.setattr("cnnlens.cluster.embed._LARGE", 1)
    short, projected = flat_vectors(Maps(maps))
    assert short.shape == (30, projected)
    before = np.linalg.norm(whole[:, None] - whole[None], axis=2)
    after = np.linalg.norm(short[:, None] - short[None], axis=2)
    ratio = after[before > 0] / before[before > 0]
    assert 0.85 < ratio.min() < ratio.max() < 1.15

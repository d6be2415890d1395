from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from cnnlens.cluster.neighbours import nearest
from cnnlens.cluster.separation import neighbour_accuracy, separate
from cnnlens.cluster.vectors import Groups, group


def blobs(apart: float, each: int = 15, count: int = 3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((count, 8)) * apart
    vectors = np.repeat(centres, each, axis=0) + rng.standard_normal((count * each, 8))
    return vectors.astype(np.float32), [str(i) for i in range(count) for _ in range(each)]


def test_neighbour_accuracy_equals_leaving_one_out() -> None:
    vectors, names = blobs(0.7)
    groups = group(names)
    rows = nearest(vectors, 4).rows
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


def test_of_equal_images_the_first_of_each_category_counts() -> None:
    groups = Groups(("a", "b"), np.array([0, 1, 0, 0, 1, 1]))
    rows = groups.once(np.array([0, 1, 0, 0, 1, 0]))  # the last is a copy of one in a
    assert rows.tolist() == [0, 1, 5]
    assert groups.among(rows).of_image.tolist() == [0, 1, 1]
    assert groups.once(np.arange(6)).tolist() == [*range(6)]


def test_shuffled_silhouettes_are_those_of_shuffled_names() -> None:
    vectors, names = blobs(2, count=6)
    vectors *= np.exp(np.random.default_rng(3).standard_normal((len(vectors), 1)))
    random, found = np.random.default_rng(5), separate(vectors, group(names), 5)
    drawn = [silhouette_score(vectors, random.permutation(names)) for _ in range(60)]
    assert found.silhouette_chance == pytest.approx(np.mean(drawn), abs=0.01)
    assert found.silhouette_chance is not None and found.silhouette_chance < -0.05
    assert separate(vectors, None, 5).silhouette_chance is None


def test_silhouettes_of_many_images_are_a_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, names = blobs(0.7, each=40)
    whole = separate(vectors, group(names), 5)
    monkeypatch.setattr("cnnlens.cluster.separation._SAMPLED", 90)
    found = separate(vectors, group(names), 5)
    assert found.silhouette != whole.silhouette
    assert found.silhouette == pytest.approx(whole.silhouette, abs=0.03)
    assert found.silhouette_chance == pytest.approx(whole.silhouette_chance, abs=0.03)


def test_votes_are_counted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, names = blobs(0.7)
    near, labels = nearest(vectors, 4).rows[:, 1:], group(names).of_image
    whole = neighbour_accuracy(near, labels)
    monkeypatch.setattr("cnnlens.cluster.separation._BLOCK", 7)
    assert neighbour_accuracy(near, labels) == whole
    assert 0 < whole < 1

from __future__ import annotations

import numpy as np
import pytest

from cnnlens.cluster import neighbours
from cnnlens.cluster.neighbours import nearest


def planted(rows: int = 1500, length: int = 60) -> np.ndarray:
    """Vectors on a bent surface of six dimensions, as those of a layer are: (N, D) float32."""
    rng = np.random.default_rng(0)
    inside = rng.standard_normal((rows, 6))
    bent = np.tanh(inside @ rng.standard_normal((6, length)))
    return (bent + 0.01 * rng.standard_normal((rows, length))).astype(np.float32)


def by_hand(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare every pair in double precision: rows (N, k) of the nearest others, and distances."""
    wide = vectors.astype(np.float64)
    distances = np.stack([np.sqrt(((wide - one) ** 2).sum(1)) for one in wide])
    np.fill_diagonal(distances, np.inf)
    rows = distances.argsort(1)[:, :k]
    return rows, np.take_along_axis(distances, rows, 1)


def found_of(rows: np.ndarray, true: np.ndarray) -> float:
    """Share of true neighbours (N, k) among those of `nearest` (N, k + 1)."""
    pairs = zip(rows[:, 1:].tolist(), true.tolist(), strict=True)
    return float(np.mean([len({*ours} & {*theirs}) / len(theirs) for ours, theirs in pairs]))


def test_among_few_all_neighbours_are_found() -> None:
    vectors = planted(400)
    true, away = by_hand(vectors, 10)
    found = nearest(vectors, 10)
    assert found.recall is None
    np.testing.assert_array_equal(found.rows[:, 1:], true)
    np.testing.assert_allclose(found.distances[:, 1:], away, rtol=1e-5)


def small(monkeypatch: pytest.MonkeyPatch, cell: int, among: int) -> None:
    """Make cells, and what each row is compared with, as small as the data here."""
    monkeypatch.setattr("cnnlens.cluster.neighbours._CELL", cell)
    monkeypatch.setattr("cnnlens.cluster.neighbours._AMONG", among)


def test_among_many_nearly_all_are_found_by_one_seed_the_same_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch, 40, 500)
    vectors = planted()
    true, _ = by_hand(vectors, 10)
    found, again = (nearest(vectors, 10, exact=1499) for _ in range(2))
    share = found_of(found.rows, true)
    assert 0.9 < share < 1  # else all were compared with all
    assert found.recall == pytest.approx(share, abs=0.015)
    assert found.rows[:, 0].tolist() == list(range(1500))
    assert (np.diff(found.distances, axis=1) >= 0).all()
    own = np.linalg.norm(vectors[:, None] - vectors[found.rows], axis=2)
    np.testing.assert_allclose(found.distances, own, atol=1e-4)
    np.testing.assert_array_equal(found.rows, again.rows)
    np.testing.assert_array_equal(found.distances, again.distances)


def test_each_is_compared_with_a_bounded_number_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch, 40, 300)
    pairs = []

    def counted(vectors: np.ndarray, others: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        pairs.append(len(vectors) * len(others))
        return compared(vectors, others, k)

    compared = neighbours._compared
    monkeypatch.setattr(neighbours, "_compared", counted)
    monkeypatch.setattr(neighbours, "_SAMPLED", 1)
    of = {}
    for rows in (1000, 2000):
        pairs.clear()
        nearest(planted(rows, 10), 5, exact=0)
        of[rows] = sum(pairs)
    assert of[2000] < 2.6 * of[1000]  # all with all: four times as many


def test_a_poor_search_says_that_it_is_poor(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 20, 100)
    noise = np.random.default_rng(0).random((1000, 50)).astype(np.float32)  # all equally far
    found = nearest(noise, 10, exact=0)
    share = found_of(found.rows, by_hand(noise, 10)[0])
    assert share < 0.6
    assert found.recall == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("exact", [0, 10_000])
def test_each_row_is_first_among_its_own_neighbours_even_among_equals(
    exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 2, 3)
    vectors = np.zeros((6, 2), np.float32)
    vectors[3:] = 1
    found = nearest(vectors, 2, exact)
    assert found.rows[:, 0].tolist() == list(range(6))
    assert all(len(set(row)) == 3 for row in found.rows.tolist())
    assert (found.distances == 0).all()


def test_there_are_always_as_many_neighbours_as_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small(monkeypatch, 2, 1)
    vectors = planted(40)
    found = nearest(vectors, 39, exact=0)
    np.testing.assert_array_equal(found.rows[:, 1:], by_hand(vectors, 39)[0])

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from cnnlens.cluster.taken_for import predicted_as
from cnnlens.measure.confusion import OTHER, confuse, probabilities, summary
from cnnlens.model.classes import before_softmax


def made(seed: int = 0, outputs: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores, outputs wanted, and categories; the outputs are in another order than the names."""
    rng = np.random.default_rng(seed)
    names, stands = ["ant", "bee", "cat"], {"ant": 2, "bee": 0, "cat": 1}
    categories = [names[i] for i in rng.integers(0, 3, 60)]
    return rng.normal(size=(60, outputs)), np.array([stands[c] for c in categories]), categories


def test_counts_are_those_of_loops() -> None:
    scores, wanted, categories = made()
    found = confuse(scores, wanted, categories, range(60))
    literal = {}
    for row in range(60):
        said = {2: "ant", 0: "bee", 1: "cat"}.get(int(np.argmax(scores[row])), OTHER)
        literal[categories[row], said] = literal.get((categories[row], said), 0) + 1
    for i, true in enumerate(found.categories):
        for j, said in enumerate([*found.categories, OTHER]):
            assert found.counts[i, j] == literal.get((true, said), 0)
    assert found.counts[:, 3].sum() > 0


def test_counts_are_sklearns() -> None:
    scores, wanted, categories = made(1, outputs=3)
    said = [{2: "ant", 0: "bee", 1: "cat"}[int(n)] for n in scores.argmax(1)]
    found = confuse(scores, wanted, categories, range(60))
    np.testing.assert_array_equal(found.counts[:, :3], confusion_matrix(categories, said))
    assert found.right == sum(a == b for a, b in zip(categories, said, strict=True))


def test_the_surest_mistakes_come_first_with_both_probabilities() -> None:
    scores, wanted, categories = made(2)
    rows = list(range(100, 160))
    found = confuse(scores, wanted, categories, rows, ["bee", "cat", "ant", "dog"])
    assert len(found.mistakes) == 60 - found.right
    sure = [one.probability for one in found.mistakes]
    assert sure == sorted(sure, reverse=True)
    for one in found.mistakes:
        place = rows.index(one.row)
        shares = np.exp(scores[place]) / np.exp(scores[place]).sum()
        assert one.probability == pytest.approx(shares.max())
        assert one.own == pytest.approx(shares[wanted[place]])
        assert one.true == categories[place]
        assert one.said == ["bee", "cat", "ant", "dog"][int(shares.argmax())] != one.true


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_the_probabilities_of_a_network_that_ends_in_a_softmax_are_its_own(kind: type) -> None:
    scores, wanted, categories = made()
    own = softmax(5 * scores, axis=1).astype(kind)
    own[0] = [0, 1, 0, 0]
    found = confuse(own, wanted, categories, range(60))
    for one in found.mistakes:
        assert one.probability == pytest.approx(float(own[one.row].max()), rel=5e-3)
    assert predicted_as("noise", own).confidence == pytest.approx(own.max(1).mean(), rel=5e-3)
    plain = np.abs(scores)  # none are negative, and they are no probabilities
    np.testing.assert_array_equal(before_softmax(plain), plain)


def test_pairs_are_ordered_by_how_often() -> None:
    found = confuse(*made(3), range(60)).as_dict()
    counts = [pair["images"] for pair in found["pairs"]]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == found["images"] - found["right"]
    assert found["chance"] == max(map(made(3)[2].count, ["ant", "bee", "cat"])) / 60
    assert found["interval"][0] < found["accuracy"] < found["interval"][1]
    assert "most frequent class would be right on" in summary(found)


def test_a_single_output_stands_for_two_classes() -> None:
    scores = np.array([[2.0], [-1.0], [3.0]])
    found = confuse(scores, np.array([1, 1, 0]), ["b", "b", "a"], range(3))
    assert found.counts.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert found.mistakes[0].probability == pytest.approx(1 / (1 + np.exp(-3)))


def test_probabilities_are_those_of_the_softmax_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    scores = (50 * rng.standard_normal((23, 6))).astype(np.float32)
    chosen = rng.integers(0, 6, (23, 2))
    whole = probabilities(scores, chosen)
    true = softmax(scores.astype(np.float64), axis=1)
    np.testing.assert_allclose(whole, np.take_along_axis(true, chosen, 1), rtol=1e-12)
    monkeypatch.setattr("cnnlens.measure.confusion._BLOCK", 5)
    np.testing.assert_array_equal(probabilities(scores, chosen), whole)


def test_of_a_sigmoid_every_class_has_a_probability_of_its_own() -> None:
    scores = np.array([[3.0, 2.0, -1.0], [0.5, 2.5, 0.0]])
    found = confuse(scores, np.array([1, 0]), ["b", "a"], range(2), link="sigmoid")
    shares = 1 / (1 + np.exp(-scores))
    got = {one.row: (one.probability, one.own) for one in found.mistakes}
    assert got[0] == pytest.approx((shares[0, 0], shares[0, 1]))
    assert got[1] == pytest.approx((shares[1, 1], shares[1, 0]))
    lone = confuse(np.array([[2.0], [-3.0]]), np.array([0, 1]), "ba", range(2), link="sigmoid")
    want = 1 / (1 + np.exp([-2.0, -3.0]))
    in_order = sorted(lone.mistakes, key=lambda one: one.row)
    assert [one.probability for one in in_order] == pytest.approx(want)
    alike = confuse(np.array([[1.0], [1.001]]), np.array([0, 0]), "bb", range(2))
    assert [one.own for one in alike.mistakes] == pytest.approx([0.269, 0.269], abs=1e-3)

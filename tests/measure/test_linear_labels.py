from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet

from cnnlens.errors import CnnlensError
from cnnlens.measure.linear_labels import (
    Search,
    class_concepts,
    correlation,
    elastic_net,
    split,
    standard,
)
from tests.reference.labels import best_sum

CLASSES = [name for name in "abcdefg" for _ in range(40)]
PARTS = split(len(CLASSES), 0)
NAMES, CONCEPTS = class_concepts(CLASSES, {"vowel": ["a", "e"], "late": ["e", "f", "g"]})


def follows(seed: int, noise: float = 0.5, **weights: float) -> np.ndarray:
    """A unit that is a sum of concepts, and noise."""
    drawn = np.random.default_rng(seed).normal(0, noise, len(CLASSES))
    return sum(w * CONCEPTS[:, NAMES.index(name)] for name, w in weights.items()) + drawn


def test_every_image_does_one_thing():
    together = np.concatenate([PARTS.fit, PARTS.choose, PARTS.held])
    assert sorted(together) == list(range(280))
    assert [len(PARTS.fit), len(PARTS.choose), len(PARTS.held)] == [112, 84, 84]
    assert (split(280, 0).fit == PARTS.fit).all() and (split(280, 1).fit != PARTS.fit).any()
    with pytest.raises(CnnlensError, match="20 images: too few"):
        split(20, 0)


def test_concepts_are_classes_and_groups_that_tell_something_new():
    groups = {"vowel": ["a", "e"], "again": ["e", "a"], "all": list("abcdefg"), "one": ["b"],
              "strange": ["x"]}  # fmt: skip
    names, columns = class_concepts(CLASSES, groups)
    assert names == [*"abcdefg", "vowel"]
    assert columns[:, 7].sum() == 80 and columns[0, 7] == columns[0, 0] == 1
    assert columns[:, 1].tolist() == [float(one == "b") for one in CLASSES]


def test_the_elastic_net_draws_nothing_of_its_caller_s() -> None:
    np.random.seed(3)
    expected = np.random.random(2)
    np.random.seed(3)
    elastic_net(np.eye(2), np.array([0.5, 0.1]))
    assert np.array_equal(np.random.random(2), expected)


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_the_elastic_net_s(seed):
    fit = standard(CONCEPTS[PARTS.fit].astype(float))
    unit = standard(follows(seed, b=2, late=1)[PARTS.fit])
    net = ElasticNet(alpha=0.05, l1_ratio=0.99, positive=True, fit_intercept=False, tol=1e-10,
                     max_iter=100000).fit(fit, unit)  # fmt: skip
    mine = elastic_net(fit.T @ fit / len(fit), fit.T @ unit / len(fit))
    said, theirs = fit @ mine, fit @ net.coef_  # weights of concepts that overlap may differ
    np.testing.assert_allclose(said, theirs, atol=1e-3)
    assert net.coef_.any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("terms", [1, 2])
def test_a_name_is_the_best_of_all_sums(seed, terms):
    unit = follows(seed, noise=0.3, b=1, d=0.8)
    found = Search(CONCEPTS, PARTS, terms, beam=100, gain=0.0).label(unit)
    agrees, one, weights = best_sum(CONCEPTS, unit, PARTS.fit, PARTS.choose, terms)
    assert {at for at, _ in found.terms} == set(one)
    mine = dict(found.terms)
    np.testing.assert_allclose([mine[at] for at in one], weights, rtol=1e-3)
    said = sum(w * CONCEPTS[PARTS.held, at] for at, w in zip(one, weights, strict=True))
    assert found.score == pytest.approx(np.corrcoef(said, unit[PARTS.held])[0, 1], rel=1e-4)
    assert agrees > 0.3


def test_planted_names_come_back():
    search = Search(CONCEPTS, PARTS)
    for weights in ({"c": 1.0}, {"vowel": 1.0}, {"b": 1.0, "f": 2.0}, {"late": 1.0, "b": 1.0}):
        found = search.label(follows(5, noise=0.1, **weights))
        assert {NAMES[at] for at, _ in found.terms} == set(weights)
        assert found.score > 0.95
    heavier = search.label(follows(5, noise=0.1, b=1.0, f=2.0))
    assert [NAMES[at] for at, _ in heavier.terms] == ["f", "b"] and NAMES[heavier.single] == "f"


def test_one_more_term_must_pay():
    unit = follows(1, noise=0.3, b=2.0, d=0.5)
    assert len(Search(CONCEPTS, PARTS, gain=0.0).label(unit).terms) > 1
    assert len(Search(CONCEPTS, PARTS, gain=0.1).label(unit).terms) == 1
    wide = follows(1, noise=0.1, a=1.0, b=1.0, c=1.0)
    assert len(Search(CONCEPTS, PARTS, terms=2).label(wide).terms) == 2


def test_images_held_out_choose_nothing_and_decide_the_score():
    unit = follows(2, b=2.0)
    search = Search(CONCEPTS, PARTS)
    before = search.label(unit)
    unit[PARTS.held] = np.random.default_rng(0).permutation(unit[PARTS.held])
    after = search.label(unit)
    assert after.terms == before.terms and after.single == before.single
    assert abs(after.score) < 0.3 < before.score


def test_units_without_a_name():
    search = Search(CONCEPTS, PARTS)
    dead = search.label(np.zeros(len(CLASSES)))
    assert dead.terms == () and dead.score is None and dead.single == -1
    only_held = np.zeros(len(CLASSES))
    only_held[PARTS.held] = 1 + np.arange(len(PARTS.held))
    assert search.label(only_held).terms == ()
    assert correlation(np.ones(3), np.arange(3.0)) is None

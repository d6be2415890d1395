"""Scores of labels, held against scikit-learn, scipy and literal counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, pearsonr
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from cnnlens.measure.exam import adjusted
from cnnlens.measure.exam_scores import (
    SCORES,
    Answers,
    best_cut,
    p_value,
    resampled,
    scores,
)

RNG = np.random.default_rng(0)
TRUTH = np.where(RNG.random(60) < 0.3, RNG.random(60), 0.0)
VALUES = np.maximum(RNG.normal(0, 0.5, 60) + TRUTH, 0.0)  # with ties at 0
ANSWERS = Answers(VALUES, TRUTH, TRUTH > 0, VALUES > 0.4)


def literal(of: Answers) -> list[float]:
    cosine = of.values @ of.truth / np.linalg.norm(of.values) / np.linalg.norm(of.truth)
    return [
        pearsonr(of.values, of.truth).statistic, average_precision_score(of.shows, of.values),
        jaccard_score(of.shows, of.fires), f1_score(of.shows, of.fires), cosine,
    ]  # fmt: skip


def test_scores_are_those_of_the_libraries():
    assert scores(ANSWERS)[0] == pytest.approx(literal(ANSWERS))


def test_a_weight_counts_an_image_so_often():
    weights = resampled(60, 3, np.random.default_rng(1))
    assert (weights.sum(axis=1) == 60).all()
    for found, often in zip(scores(ANSWERS, weights), weights, strict=True):
        rows = np.repeat(np.arange(60), often)
        again = Answers(VALUES[rows], TRUTH[rows], ANSWERS.shows[rows], ANSWERS.fires[rows])
        assert found == pytest.approx(literal(again))


def test_iou_is_of_pixels_where_there_are_masks():
    shared, either = np.arange(60), np.arange(60) + 5
    of = Answers(VALUES, TRUTH, ANSWERS.shows, ANSWERS.fires, shared, either)
    assert scores(of)[0, SCORES.index("iou")] == pytest.approx(shared.sum() / either.sum())


def test_the_cut_is_the_best_of_all():
    tried = [f1_score(ANSWERS.shows, cut <= VALUES) for cut in VALUES]
    cut = best_cut(VALUES, ANSWERS.shows)
    assert f1_score(ANSWERS.shows, cut <= VALUES) == pytest.approx(max(tried))
    assert best_cut(VALUES, np.zeros(60, bool)) == np.inf


def test_a_p_value_counts_shuffles_and_says_the_same_again():
    few, many = VALUES[:12], TRUTH[:12] + RNG.random(12)
    reached = pearsonr(few, many).statistic
    draws = [pearsonr(RNG.permutation(few), many).statistic >= reached for _ in range(1000)]
    found = p_value(few, many, np.random.default_rng(0))
    assert found == pytest.approx(np.mean(draws), abs=0.06)
    assert found == p_value(few, many, np.random.default_rng(0))
    assert p_value(TRUTH, TRUTH, np.random.default_rng(0)) == 1e-4  # the least there is
    assert p_value(-TRUTH, TRUTH, np.random.default_rng(0)) > 0.99


def test_p_values_are_adjusted_as_scipy_does_and_none_stays():
    some = [0.001, None, 0.04, 0.002]
    assert adjusted(some)[1] is None
    known = [q for q in adjusted(some) if q is not None]
    assert known == pytest.approx(false_discovery_control([0.001, 0.04, 0.002]))
    assert adjusted([None]) == [None]


def test_what_never_varies_says_nothing():
    assert Answers(np.zeros(60), TRUTH, TRUTH > 0, TRUTH > 1).is_constant
    assert Answers(VALUES, np.zeros(60), TRUTH > 1, VALUES > 1).is_constant
    assert not ANSWERS.is_constant


def test_resamples_of_equal_values_have_no_correlation_whatever_the_value() -> None:
    """Rounding leaves them a variance, by which they had one of 0: intervals reached down to it."""
    random = np.random.default_rng(0)
    for value in random.uniform(0, 5, 20):
        values, truth = np.full(40, value), (random.random(40) < 0.4).astype(float)
        values[3] = 9.0
        weights = random.integers(0, 3, (30, 40))
        weights[::2, 3], weights[1::2, 3] = 0, 1
        found = scores(Answers(values, truth, truth > 0, values > 5), weights)[:, 0]
        assert np.isnan(found[::2]).all()
        drawn = [np.repeat(np.stack([values, truth]), w, axis=1) for w in weights[1::2]]
        assert found[1::2] == pytest.approx([np.corrcoef(one)[0, 1] for one in drawn], abs=1e-9)

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp
from scipy.stats import bootstrap as scipys

from cnnlens.measure import comparison
from cnnlens.settings import CompareSettings

S = CompareSettings()


def test_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).gamma(2, 0.1, 60)
    found = comparison.mean(values, S)
    truth = scipys(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high), abs=0.006)


def test_few_units_have_students_interval():
    values = np.random.default_rng(0).normal(size=6)
    found = comparison.mean(values, CompareSettings(resamples=20_000))
    truth = ttest_1samp(values, 0).confidence_interval()
    assert found.high - found.low == pytest.approx(truth.high - truth.low, rel=0.08)


@pytest.mark.parametrize(("one", "other"), [(2, 2), (3, 3), (8, 8), (2, 64), (3, 64), (8, 32)])
def test_means_of_few_units_of_one_law_seldom_differ(one, other):
    random, claims = np.random.default_rng(0), []
    for _ in range(300):
        sides = [comparison.mean(random.normal(size=size), FEW) for size in (one, other)]
        claims.append(claimed(comparison.difference(*sides, FEW)))
    assert np.mean(claims) <= 0.1


def test_means_of_few_units_that_differ_do():
    values = np.random.default_rng(0).normal(size=8)
    one = comparison.mean(values, S)
    assert comparison.difference(one, comparison.mean(values[::-1] + 4, S), S).low > 0
    assert comparison.difference(one, comparison.mean(values[:6] + 4, S), S).low > 0


def test_one_unit_alone_has_no_interval_and_decides_nothing():
    one, many = (comparison.mean(values, S) for values in (np.array([3.0]), np.arange(3.0)))
    assert (one.value, one.units) == (3, 1)
    for found in (one, comparison.difference(one, one, S), comparison.difference(many, one, S)):
        assert np.isnan([found.low, found.high]).all()


def test_units_without_a_value_do_not_count():
    found = comparison.mean(np.array([1.0, np.nan, 3.0]), S)
    assert (found.value, found.units) == (2, 2)
    assert comparison.mean(np.array([np.nan]), S) is None


def test_interval_of_a_count_is_wilsons():
    for marked, units in ((100, 400), (0, 8), (1, 64), (8, 8)):
        found = comparison.count(np.arange(units) < marked, S)
        truth = binomtest(marked, units).proportion_ci(method="wilson")
        assert (found.value, found.units) == (marked, units)
        assert (found.low, found.high) == pytest.approx((units * truth.low, units * truth.high))


@pytest.mark.parametrize("units", [8, 64, 512])
def test_a_marked_unit_against_none_is_no_difference_and_seven_are(units):
    sides = [comparison.count(np.arange(units) < n, S) for n in (0, 1, 7)]
    assert not claimed(comparison.difference(*sides[:2], S))
    assert comparison.difference(sides[0], sides[2], S).low > 0
    shares = [comparison.proportion(right, units, S) for right in (0, 1)]
    assert not claimed(comparison.difference(*shares, S))


def test_a_count_stays_within_the_units():
    assert comparison.distinct(np.arange(10), S).high == 10
    assert comparison.count(np.zeros(10, bool), S).low == 0


def test_distinct_labels_are_counted_without_those_that_have_none():
    found = comparison.distinct(np.array([3, 3, -1, 5, -1, 3]), S)
    assert found.value == 2


def test_interval_of_distinct_labels_holds_their_number():
    labels = np.random.default_rng(0).integers(0, 60, 100)  # resamples lose a third of the labels
    found = comparison.distinct(labels, S)
    assert found.low < found.value == len(np.unique(labels)) < found.high
    one = comparison.distinct(np.zeros(50, int), S)
    assert one.low == one.value == 1  # a label on 3 of 50 units is missed by one in twenty samples
    assert one.high == pytest.approx(1 + 50 * binomtest(0, 50).proportion_ci(method="wilson").high)


LAWS = {
    "few are frequent": 1 / np.arange(1, 201),
    "all are alike": np.ones(60),
    "nearly all are seen": np.ones(10),
    "nearly none twice": np.ones(5000),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("units", "labelled"), [(16, 0.5), (64, 0.1), (256, 0.5)])
def test_networks_of_one_law_seldom_differ_in_their_labels(law, units, labelled):
    found = drawn_labels(LAWS[law], units, labelled, 400)
    pairs = zip(found[::2], found[1::2], strict=True)
    claims = [claimed(comparison.difference(one, other, FEW)) for one, other in pairs]
    assert np.mean(claims) <= 0.1


def test_networks_that_differ_in_their_labels_do():
    few, many = (drawn_labels(np.ones(kinds), 256, 0.5, 20) for kinds in (15, 40))
    pairs = zip(few, many, strict=True)
    assert all(comparison.difference(one, other, FEW).low > 0 for one, other in pairs)


FEW = CompareSettings(resamples=100)


def drawn_labels(law, units: int, labelled: float, networks: int) -> list[comparison.Estimate]:
    random = np.random.default_rng(0)
    labels = random.choice(len(law), (networks, units), p=law / law.sum())
    labels[random.random(labels.shape) > labelled] = -1
    return [comparison.distinct(row, FEW) for row in labels]


def claimed(found: comparison.Estimate) -> bool:
    return not found.low <= 0 <= found.high


@pytest.mark.parametrize("units", [8, 64, 512])
def test_one_label_against_none_is_no_difference(units):
    none, one = np.full(units, -1), np.where(np.arange(units) < 1, 0, -1)
    for seed in range(4):
        settings = CompareSettings(seed=seed, resamples=100)
        sides = (comparison.distinct(labels, settings) for labels in (none, one))
        assert not claimed(comparison.difference(*sides, settings))


def test_differences_are_paired_where_units_are():
    values = np.random.default_rng(0).normal(size=80)
    one, other = comparison.mean(values, S), comparison.mean(values + 0.1, S)
    found = comparison.difference(one, other, S)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    fewer = comparison.difference(one, comparison.mean(values[:70] + 0.1, S), S)
    assert fewer.low < 0 < fewer.high


def test_same_seed_same_interval_and_another_another():
    values = np.random.default_rng(0).normal(size=40)
    one, same, other = (comparison.mean(values, CompareSettings(seed=s)) for s in (1, 1, 2))
    assert (one.low, one.high) == (same.low, same.high) != (other.low, other.high)


def test_resamples_in_parts_are_as_many(monkeypatch):
    monkeypatch.setattr(comparison, "_AT_ONCE", 700)
    found = comparison.mean(np.arange(7.0), S)
    assert len(found.draws) == S.resamples


def test_wilson_interval_of_a_share():
    assert comparison.share(8, 10, 0.95) == pytest.approx((0.4901625, 0.9433178))  # from tables
    for right, total, level in ((0, 7, 0.9), (7, 7, 0.95), (3, 400, 0.99)):
        truth = binomtest(right, total).proportion_ci(level, method="wilson")
        assert comparison.share(right, total, level) == pytest.approx((truth.low, truth.high))

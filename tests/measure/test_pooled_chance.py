"""P-values of units against what all of their kind reach by chance."""

from __future__ import annotations

import numpy as np
import pytest

from cnnlens.measure.pooled_chance import CUT, p_values


def of_rare_concept(shuffles: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Best IoUs of 64 units with a concept that few images show: by chance mostly 0, of the first
    four, which detect it, about 0.6.
    """
    null = np.where(
        rng.random((shuffles + 1, 64)) < 0.2, rng.uniform(0, 0.15, (shuffles + 1, 64)), 0
    )
    observed, null = null[0], null[1:]
    observed[:4] = rng.uniform(0.5, 0.7, 4)
    return observed, null


@pytest.mark.parametrize("shuffles", [3, 5, 10])
def test_detectors_of_a_rare_concept_are_rarer_than_any_shuffle(shuffles):
    """Shuffles of which one alone meets the concept had been infinitely far above the others."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        found = p_values(*of_rare_concept(shuffles, rng), np.full(64, CUT))
        assert found[:4].max() < 0.02  # had been 0.04 to 0.13
        assert (found[4:] < 0.05).mean() <= 7 / 60  # binomial, 97.5 %


@pytest.mark.parametrize("shuffles", [3, 5, 10])
def test_few_shuffles_are_enough_where_units_have_chances_of_their_own(shuffles):
    """With shuffled labels 1 in 20, few more of the units that chance gives most; and where units
    lie four of their deviations above chance, most are found.
    """
    rng = np.random.default_rng(1)
    by_chance, luckiest, above = [], [], []
    for _ in range(20):
        mean = np.exp(rng.normal(0, 0.7, 200))
        spread = mean * 0.25 * np.exp(rng.normal(0, 0.3, 200))
        values = np.maximum(mean + spread * rng.normal(0, 1, (shuffles + 1, 200)), 1e-6)
        noise = p_values(values[0], values[1:], np.full(200, CUT)) < 0.05
        by_chance.append(noise.mean())
        luckiest.append(noise[mean >= np.quantile(mean, 0.9)].mean())
        real = p_values(values[0] + 4 * spread, values[1:], np.full(200, CUT))
        above.append((real < 0.05).mean())
    assert 0.03 < np.mean(by_chance) < 0.06 and np.mean(luckiest) < 0.15
    assert np.mean(above) > 0.6


def test_a_unit_alone_of_its_kind_is_ranked_among_its_shuffles():
    """The highest of four is so once in four, however close to each other two of them are."""
    rng = np.random.default_rng(2)
    found = [
        p_values(values[:1, 0], values[1:, :1], np.array([CUT]))[0]
        for values in rng.uniform(0.01, 1, (4000, 4, 1))
    ]
    shares = [np.mean([p == k / 4 for p in found]) for k in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)

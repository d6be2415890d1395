from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cnnlens.synthesize.perturb import binarize, drop_least, dropout, effects


def answer(shape: tuple[int, ...] = (6, 4, 5), rectified: bool = True) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return values.clamp_min(0) if rectified else values


@pytest.mark.parametrize("rectified", [True, False])
def test_binarize_keeps_signs_and_norm_and_leaves_one_magnitude(rectified: bool) -> None:
    values = answer(rectified=rectified)
    v = values.double().numpy()
    magnitude = math.sqrt((v**2).sum() / np.count_nonzero(v))
    expected = np.where(v > 0, magnitude, np.where(v < 0, -magnitude, 0))
    found = binarize(values).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert math.isclose(np.linalg.norm(found), np.linalg.norm(v), rel_tol=1e-5)


def test_binarizing_nothing_gives_nothing() -> None:
    assert not binarize(torch.zeros(2, 3, 3)).any()


def test_dropout_sets_half_to_zero_and_keeps_the_norm_and_the_proportions() -> None:
    values = answer(rectified=False)
    found = dropout(values, torch.Generator().manual_seed(1))
    dropped = found == 0
    assert int(dropped.sum()) == values.numel() // 2
    ratio = (found / values)[~dropped]
    kept = values[~dropped].double()
    expected = float(values.double().norm() / kept.norm())
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected))
    assert math.isclose(float(found.norm()), float(values.norm()), rel_tol=1e-5)


def test_dropout_follows_its_seed_alone() -> None:
    first, again, other = (
        dropout(answer(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dropout_that_leaves_nothing_says_so() -> None:
    lone = torch.zeros(2)
    lone[int(torch.randperm(2, generator=torch.Generator().manual_seed(0))[0])] = 1.0
    with pytest.raises(ValueError, match="nothing is left of 1"):
        dropout(lone, torch.Generator().manual_seed(0))


def test_an_effect_is_what_the_error_grows_by_when_the_target_loses_a_map() -> None:
    target, reached = answer().double(), answer((6, 4, 5)).roll(1, 0).double()
    found = effects(target, reached)
    whole = ((reached - target) ** 2).sum()
    for k in range(6):
        without = target.clone()
        without[k] = 0
        grown = ((reached - without) ** 2).sum() - whole
        assert math.isclose(float(found[k]), float(grown), rel_tol=1e-9)


def test_the_half_of_smallest_effect_is_dropped_and_the_rest_kept_as_it_is() -> None:
    values = answer((5, 2, 2), rectified=False)
    found = drop_least(values, torch.tensor([3.0, -5.0, 2.0, 2.0, 9.0]))
    kept = [bool(torch.equal(f, v)) for f, v in zip(found, values, strict=True)]
    assert kept == [True, False, False, True, True]
    assert not found[1].any() and not found[2].any()


def test_effects_of_another_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="4 effects for 6 maps"):
        drop_least(answer(), torch.zeros(4))

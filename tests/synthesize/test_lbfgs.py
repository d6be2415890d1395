from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.synthesize.lbfgs import LBFGS

Hill = Callable[[np.ndarray], tuple[float, np.ndarray]]


def climb(
    hills: list[Hill], start: Tensor, steps: int, lr: float = 0.1
) -> tuple[LBFGS, np.ndarray]:
    """Run the rule; return it and the values of the accepted codes after every step."""
    rule, code, best = LBFGS(lr), start.double(), []
    for _ in range(steps):
        found = [hill(row.numpy()) for hill, row in zip(hills, code, strict=True)]
        gradient = torch.tensor(np.stack([g for _, g in found]))
        code = rule(code, gradient, torch.tensor([v for v, _ in found], dtype=torch.float64))
        best.append(rule.values)
    return rule, np.array(best)


def test_a_search_from_what_is_not_finite_does_not_begin():
    gradient, values = torch.zeros(2, 3), torch.tensor([0.0, math.nan])
    with pytest.raises(CnnlensError, match="cannot begin"):
        LBFGS()(torch.zeros(2, 3), gradient, values)


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    return -float(rosen(x)), -rosen_der(x)


def bowl(x: np.ndarray) -> tuple[float, np.ndarray]:
    weights = np.arange(1, len(x) + 1) ** 2
    return -float((weights * (x - 0.3) ** 2).sum()), -2 * weights * (x - 0.3)


def log_barrier(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Not finite at or below 0; highest at 1."""
    if (x <= 0).any():
        return math.nan, np.full_like(x, np.nan)
    return float((np.log(x) - x).sum()), 1 / x - 1


def test_it_finds_the_top_of_a_curved_ridge() -> None:
    rule, _ = climb([rosenbrock], torch.tensor([[-1.2, 1.0, 0.5]]), 100)
    np.testing.assert_allclose(rule.accepted[0].numpy(), 1.0, atol=1e-5)


def test_what_is_accepted_never_falls() -> None:
    _, best = climb([rosenbrock], torch.tensor([[-1.2, 1.0, 0.5]]), 60, lr=5.0)
    assert (np.diff(best[:, 0]) >= 0).all()
    assert (np.diff(best[:, 0]) > 0).sum() > 20


def test_trials_that_are_not_finite_are_drawn_back() -> None:
    rule, best = climb([log_barrier], torch.tensor([[0.2, 3.0]]), 60, lr=50.0)
    assert np.isfinite(best).all()
    np.testing.assert_allclose(rule.accepted[0].numpy(), 1.0, atol=1e-4)


def test_a_row_does_not_feel_the_others() -> None:
    start = torch.tensor([[-1.2, 1.0, 0.5], [4.0, -3.0, 2.0]])
    both, best = climb([rosenbrock, bowl], start, 25)
    for row, hill in enumerate((rosenbrock, bowl)):
        alone, values = climb([hill], start[row : row + 1], 25)
        assert torch.equal(alone.accepted[0], both.accepted[row])
        assert np.array_equal(values[:, 0], best[:, row])


def test_the_first_step_has_the_length_that_was_asked_for() -> None:
    rule, start = LBFGS(0.25), torch.zeros(1, 4, dtype=torch.float64)
    after = rule(start, torch.tensor([[3.0, 0, -4.0, 0]]).double(), torch.tensor([1.0]))
    assert math.isclose(float((after - start).square().mean().sqrt()), 0.25, rel_tol=1e-6)
    assert after[0, 0] > 0 > after[0, 2]


def test_it_is_done_at_the_top_and_stays_there() -> None:
    top = torch.full((1, 3), 0.3)
    rule, best = climb([lambda x: (0.0, np.zeros_like(x))], top, 3)
    assert rule.is_done
    assert torch.equal(rule.accepted, top.double())
    assert (best == 0).all()


def test_a_slope_that_lies_ends_the_search_where_it_stands() -> None:
    rule, best = climb([lambda x: (-float((x**2).sum()), np.ones_like(x))], torch.ones(1, 2), 200)
    assert rule.is_done
    assert (np.diff(best[:, 0]) >= 0).all()

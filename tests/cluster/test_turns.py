from __future__ import annotations

import numpy as np
import pytest

from cnnlens.cluster.turns import turning_scales, turns


def sides(seed: int, units: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two vectors and an image that is nearer to the first, (C·6,), (C·6,), (C, 2, 3)."""
    rng = np.random.default_rng(seed)
    near, far = rng.random((2, units * 6))
    image = (0.6 * near + 0.4 * far).reshape(units, 2, 3)
    return near, far, image


def distance(vector: np.ndarray, image: np.ndarray) -> float:
    flat = image.ravel()
    return float((1 - vector @ flat / np.linalg.norm(vector) / np.linalg.norm(flat)) / 2)


@pytest.mark.parametrize("seed", range(6))
def test_beyond_the_scale_the_image_goes_to_the_other_side(seed: int) -> None:
    near, far, image = sides(seed)
    scales = turning_scales(near, far, image)
    assert np.isfinite(scales).any()
    for unit in np.flatnonzero(np.isfinite(scales)):
        for more, nearer in ((0.99, True), (1.01, False)):
            changed = image.copy()
            changed[unit] *= 1 + (scales[unit] - 1) * more
            assert (distance(near, changed) < distance(far, changed)) == nearer


@pytest.mark.parametrize("seed", range(6))
def test_units_without_a_scale_never_turn_it(seed: int) -> None:
    near, far, image = sides(seed)
    for unit in np.flatnonzero(np.isnan(turning_scales(near, far, image))):
        for scale in (0, 0.5, 2, 10, 1e4):
            changed = image.copy()
            changed[unit] *= scale
            assert distance(near, changed) < distance(far, changed)


def test_the_easiest_unit_changes_least() -> None:
    near, far, image = sides(1)
    scales = turning_scales(near, far, image)
    critical = int(np.flatnonzero(np.isfinite(scales))[-1])
    turn, easiest = turns(near, far, image, critical)
    assert turn is not None and (turn.unit, turn.scale) == (critical, scales[critical])
    assert easiest is not None
    assert abs(easiest.scale - 1) == np.nanmin(np.abs(scales - 1))
    assert turns(near, far, image, None)[0] is None


def test_a_side_that_answers_nothing_turns_nothing() -> None:
    near, _, image = sides(0)
    assert turns(near, np.zeros_like(near), image, 0) == (None, None)

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlens.measure import probe as module
from cnnlens.measure.probe import DECAY, best_units, fit_probe, image_iou

from ..reference import net2vec as reference


def world(seed: int, images: int = 60, units: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(images, units)).astype(np.float32) * np.arange(1, units + 1)
    means[:, 4] = 7  # the same everywhere
    scores = means[:, :3] / np.arange(1, 4) + rng.normal(size=(images, 3))
    return means, scores > np.array([0, 0.8, -0.5])


def test_all_concepts_at_once_come_out_as_newton_finds_each(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    means, truth = world(0)
    rows = np.arange(5, 55)
    found = fit_probe(means, rows, truth[rows], np.ones((3, 9), bool))
    x = torch.from_numpy(means[rows].astype(np.float64))
    for k in range(3):
        y = torch.from_numpy(truth[rows, k].astype(np.float64))
        weights, bias = reference.probe(x, y, DECAY)
        assert found.weights[k].tolist() == pytest.approx(weights.tolist(), abs=2e-4)
        assert found.bias[k] == pytest.approx(float(bias), abs=2e-4)
    assert found.weights[:, 4].tolist() == [0, 0, 0]
    logits = means @ found.direction.T + found.bias - found.direction @ found.mean
    assert np.allclose(found.logits(means), logits)


def test_units_that_take_no_part_weigh_nothing():
    means, truth = world(1)
    kept = np.zeros((3, 9), bool)
    kept[:, [0, 2]] = True
    found = fit_probe(means, np.arange(60), truth, kept)
    assert (found.weights[:, 1] == 0).all()
    x, y = (
        torch.from_numpy(means[:, [0, 2]].astype(np.float64)),
        torch.from_numpy(truth[:, 1] * 1.0),
    )
    weights, _ = reference.probe(x, y, DECAY)
    assert found.weights[1, [0, 2]].tolist() == pytest.approx(weights.tolist(), abs=2e-4)


def test_the_best_unit_and_its_cut_are_brute_force_s():
    means, truth = world(2)
    means = np.round(means)  # equal values, which must go together
    rows = np.arange(10, 60)
    unit, cut = best_units(means, rows, truth[rows])
    for k in range(3):
        best = max(
            (image_iou((means[rows, u] > c)[:, None], truth[rows, k : k + 1])[0], -u)
            for u in range(9)
            for c in [*means[rows, u], -np.inf]
        )
        mine = image_iou((means[rows, unit[k]] > cut[k])[:, None], truth[rows, k : k + 1])[0]
        assert (mine, -unit[k]) == best


def test_iou_of_images():
    predicted = np.array([[1, 0], [1, 0], [0, 0]], bool)
    truth = np.array([[1, 0], [0, 0], [1, 0]], bool)
    assert image_iou(predicted, truth).tolist() == [1 / 3, 0]
